"""A repository that stands still at a chosen object, as a worker or a disk may."""

from __future__ import annotations

import threading
from pathlib import Path

from airflow_backup_guard.repository.base import StoredObject
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.local_writer import LocalWriter


class HaltingRepository(LocalRepository):
    """One that stands still before the first object whose key holds ``at`` becomes visible, as a worker may."""

    def __init__(self, root: Path, at: str) -> None:
        super().__init__(root)
        self._at = at
        self.halted, self.go_on = threading.Event(), threading.Event()

    def _halt(self, key: str) -> None:
        if self._at in key and not self.halted.is_set():
            self.halted.set()
            assert self.go_on.wait(120)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """Stand still, and then as always."""
        self._halt(key)
        return super().put(key, data, if_absent=if_absent)

    def writer(self, key: str) -> LocalWriter:
        """Its commit stands still."""
        repository = self

        class Writer(LocalWriter):
            def commit(self, *, if_absent: bool = False) -> StoredObject:
                repository._halt(key)
                return super().commit(if_absent=if_absent)

        return Writer(self.root, key)
