"""The one error that only a command line can have, and the care that no message shows a password."""

from __future__ import annotations

import re

from airflow_backup_guard.errors import BackupGuardError


class WrongUse(BackupGuardError):
    """The command was given something that it does not take, or not given what it needs."""


_SECRETS = re.compile(
    r"""(?P<keyword>\b\w*password\s*=\s*)(?:'(?:[^'\\]|\\.)*'?|[^\s&]+) | (?P<uri>://[^\s:/@]*:)\S+(?=@)""",
    re.VERBOSE | re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """``text`` with whatever looks like the password of a connection string replaced by ``***``."""
    return _SECRETS.sub(lambda match: f"{match['keyword'] or match['uri']}***", text)
