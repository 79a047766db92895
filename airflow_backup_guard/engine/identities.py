"""The age secret keys in a file, for whoever may look into an encrypted backup."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.errors import RestoreRefused


def read_identities(path: Path) -> tuple[str, ...]:
    """The keys in a file as ``age-keygen`` writes it; raises :class:`RestoreRefused`, without showing what is in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RestoreRefused(f"{path} cannot be read: {error.strerror}.", remedy="Give another file of keys.") from None
    except UnicodeDecodeError:
        remedy = "Give another file of keys."
        raise RestoreRefused(f"{path} cannot be read: it is not text in UTF-8.", remedy=remedy) from None
    lines = [line.strip() for line in text.splitlines()]
    keys = {number: line for number, line in enumerate(lines, 1) if line and not line.startswith("#")}
    for number, key in keys.items():
        if not key.startswith("AGE-SECRET-KEY-1"):
            raise RestoreRefused(
                f"{path}, line {number} is no age secret key.",
                remedy="Each line is a key that starts with AGE-SECRET-KEY-1, a comment after #, or empty.",
            )
    if not keys:
        raise RestoreRefused(f"{path} has no age secret key in it.", remedy="Give a file as age-keygen writes it.")
    return tuple(keys.values())
