"""Reading small objects whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from airflow_backup_guard.errors import BackupDamaged
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import open_decoded

LARGEST = 256 << 20
"""Bytes: far more than any record, or telemetry of an hour, has; what somebody else put there may be endless."""


def read_whole(repository: Repository, key: str) -> bytes:
    """The bytes of a small object; raises ``ObjectMissing``, and ``BackupDamaged`` for one that is not small."""
    with repository.reader(key) as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BackupDamaged(f"{key} is larger than {LARGEST >> 20} MiB.", remedy="Find out who can write there.")
    return data


def read_lines(repository: Repository, key: str, identities: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The documents of a small encoded object of JSON lines; raises ``ObjectMissing`` and ``BackupDamaged``."""
    with open_decoded(repository, key, identities, most=LARGEST) as content:
        lines = content.read().splitlines()
    try:
        found = [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise BackupDamaged(f"{key} cannot be read: {error}.") from error
    if not all(isinstance(line, dict) for line in found):
        raise BackupDamaged(f"{key} cannot be read: a line of it is no document.")
    return found
