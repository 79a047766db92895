"""Commands for people to copy or type: whatever their words hold, a shell takes each as one word."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from airflow_backup_guard.core.secrets import without_secrets

_LONGEST_LINE = 100
_OPTION = re.compile(r"--[a-z-]+=")  # reads better with its quotes after it


def quoted(word: str) -> str:
    """One word for bash, without passwords, in one line of printable letters."""
    word = without_secrets(word)
    if (option := _OPTION.match(word)) is not None:
        return option[0] + quoted(word[option.end() :])
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def command(*words: str | Sequence[str]) -> str:
    """Words as bash takes them; those that are given together stay in one line where a long command is broken."""
    groups = [" ".join(map(quoted, [group] if isinstance(group, str) else group)) for group in words]
    lines = [groups[0]]
    for group in groups[1:]:
        if len(lines[-1]) + 1 + len(group) <= _LONGEST_LINE:
            lines[-1] += f" {group}"
        else:
            lines.append(f"    {group}")
    return " \\\n".join(lines)


def database_option(name: str) -> str:
    """``--dbname=`` for PostgreSQL's programs, which would take some names for whole connection strings."""
    name = without_secrets(name)  # before they could be escaped
    if "=" in name or "://" in name:
        escaped = name.replace("\\", "\\\\").replace("'", "\\'")
        name = f"dbname='{escaped}'"
    return f"--dbname={name}"


def _escaped(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))
