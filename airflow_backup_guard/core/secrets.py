"""The care that nothing that is shown or logged has a password in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_SECRETS = re.compile(
    r"""(?P<keyword>\b\w*password\s*=\s*)(?:'(?:[^'\\]|\\.)*'?|[^\s&]+) | (?P<uri>://[^\s:/@]*:)\S+(?=@)""",
    re.VERBOSE | re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"pass(wd|word|phrase)?$|_pass|passw|secret|token|api_?key|access_?key|cipher", re.IGNORECASE)
_SECRET_OPTION = re.compile(r"--?[\w.-]*(?:passw|passphrase|secret|token|key|cipher)[\w.-]*", re.IGNORECASE)
_NO_SECRET_NAME = re.compile(r"(file|path|dir|command|_id)$", re.IGNORECASE)
# Shorter ones are words that any line may have.
_SHORTEST = 5


def without_secrets(text: str) -> str:
    """``text`` with whatever looks like the password of a connection string replaced by ``***``."""
    return _SECRETS.sub(lambda match: f"{match['keyword'] or match['uri']}***", text)


class Mask:
    """Replaces secrets that are known, and whatever looks like one, by ``***``; for one line at a time."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one may be the beginning of another.
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """The text as it may be shown."""
        return without_secrets(text if self._known is None else self._known.sub("***", text))


def secrets_in(command: Sequence[str], environment: Mapping[str, str]) -> set[str]:
    """What is secret in a command's arguments and environment, as far as names tell: ``--password=…``, ``PGPASSWORD``,
    ``RESTIC_PASSWORD``, ``AWS_SECRET_ACCESS_KEY``, mysqldump's ``-p…``; not the names of files that hold a secret."""
    found = {value for name, value in environment.items() if _is_secret(name, _SECRET_NAME)}
    if command and command[0].rpartition("/")[2].startswith(("mysql", "mariadb")):
        found |= {word[2:] for word in command if word.startswith("-p")}
    for index, word in enumerate(command):
        name, equals, value = word.partition("=")
        if _is_secret(name, _SECRET_OPTION if name.startswith("-") else _SECRET_NAME):
            following = command[index + 1] if index + 1 < len(command) else ""
            found.add(value if equals else "" if following.startswith("-") else following)
    return found - {""}


def _is_secret(name: str, pattern: re.Pattern[str]) -> bool:
    return pattern.search(name) is not None and _NO_SECRET_NAME.search(name) is None
