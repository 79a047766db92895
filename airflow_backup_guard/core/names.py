"""What the database calls what is ours: sessions by their application name, the copy's slot by its own."""

from __future__ import annotations

import re

APPLICATION_NAME = "backup_guard"
"""What ``pg_stat_activity`` shows for every session of ours, so that nobody has to guess whose load it is."""

SLOT_NAME = "backup_guard"
"""The one slot name of this package: whoever holds it is the one guarded backup of the cluster."""

_OF_A_BACKUP = re.compile(rf"{APPLICATION_NAME}/(\d{{8}}T\d{{6}}Z-[0-9a-f]{{4}})", re.ASCII)


def session_name(backup_id: str) -> str:
    """What ``pg_stat_activity`` calls the sessions of one backup."""
    return f"{APPLICATION_NAME}/{backup_id}"


def printable(text: str) -> str:
    """In one line that is safe to print, whoever chose the text: names and labels come from strangers."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def claimed_backup_id(application_name: str | None) -> str | None:
    """The backup that a session says it is of; None if it says no such thing. Anybody may say anything."""
    match = _OF_A_BACKUP.fullmatch(application_name or "")
    return match[1] if match else None
