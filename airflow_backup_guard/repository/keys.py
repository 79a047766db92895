"""Which keys a repository takes: the same rule for every kind, so that a backup can move between them."""

from __future__ import annotations

from airflow_backup_guard.errors import InvalidPlan

_ALLOWED = (
    "parts separated by '/', each of 1 to 200 bytes, printable, without '\\' and not starting with '.'; "
    "700 bytes in all"
)


def check_key(key: str) -> str:
    """Return ``key`` if it names an object; raises :class:`InvalidPlan` otherwise."""
    if not all(_is_part(part) for part in key.split("/")) or len(key.encode()) > 700:
        raise InvalidPlan("key", key, _ALLOWED)
    return key


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if keys can start with it, as with ``""``; raises :class:`InvalidPlan`."""
    *folders, last = prefix.split("/")
    if not all(_is_part(part) for part in folders) or not (last == "" or _is_part(last)):
        raise InvalidPlan("prefix", prefix, f"empty, or the start of a key: {_ALLOWED}")
    return prefix


def _is_part(part: str) -> bool:
    printable = part.isprintable() and "\\" not in part
    return printable and not part.startswith(".") and 0 < len(part.encode()) <= 200
