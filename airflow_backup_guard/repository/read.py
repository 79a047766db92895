"""Reading small objects whole."""

from __future__ import annotations

from airflow_backup_guard.repository.base import Repository


def read_whole(repository: Repository, key: str) -> bytes:
    """The bytes of a small object; raises ``ObjectMissing``."""
    with repository.reader(key) as stream:
        return stream.read()
