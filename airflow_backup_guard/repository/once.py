"""Storing small objects that nobody else stores."""

from __future__ import annotations

from airflow_backup_guard.errors import ObjectExists
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole


def put_once(repository: Repository, key: str, data: bytes) -> None:
    """Store an object if the key is free; that this very content is there already is no error, as it may be our own,
    whose answer was lost. Raises ``ObjectExists`` for any other content."""
    try:
        repository.put(key, data, if_absent=True)
    except ObjectExists:
        if read_whole(repository, key) != data:
            raise
