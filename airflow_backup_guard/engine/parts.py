"""Writes the parts of one backup, or of one guarded command: names, encodes them, and remembers what was stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from types import TracebackType

from airflow_backup_guard.core.backup import StoredPart, parts_prefix
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.repository.base import ObjectWriter, Repository
from airflow_backup_guard.repository.codec import EncodingWriter, suffix

_WAL_LEVEL = 1


class PartWriter(AbstractContextManager["PartWriter"]):
    """One part being written; leaving the context without ``commit`` leaves nothing."""

    def __init__(self, kind: str, name: str, writer: EncodingWriter, on_end: Callable[[bool], None]) -> None:
        self._kind = kind
        self._name = name
        self._writer = writer
        self._on_end = on_end

    def write(self, data: bytes | memoryview) -> None:
        """Append raw bytes."""
        self._writer.write(data)

    def commit(self) -> StoredPart:
        """Make the part durable."""
        stored, content_size = self._writer.commit()
        self._on_end(True)
        return StoredPart(self._kind, self._name, stored.key, stored.size, stored.sha256, content_size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)
        self._on_end(False)


class PartStore:
    """Where the parts of one backup go; with a ``prefix``, those of something else."""

    def __init__(self, repository: Repository, plan: BackupPlan, backup_id: str, prefix: str | None = None) -> None:
        self.repository = repository
        self.prefix = prefix or parts_prefix(plan.name, backup_id)
        self._plan = plan
        self._targets: list[ObjectWriter] = []
        self._begun: dict[str, bool] = {}  # and whether it was committed
        self._lock = threading.Lock()

    def writer(self, kind: str, name: str, path: str, *, threads: int = 0) -> PartWriter:
        """Start a part at ``path`` below the backup's prefix, compressed and, if the plan says so, encrypted."""
        recipients = self._plan.recipients
        key = f"{self.prefix}{path}{suffix(recipients)}"
        target = self.repository.writer(key)
        with self._lock:
            self._targets.append(target)
            self._begun[key] = False
        # WAL must keep up with the server whatever level the plan chose for the archives.
        level = min(self._plan.compression_level, _WAL_LEVEL) if kind == "wal" else self._plan.compression_level
        writer = EncodingWriter(target, level=level, threads=threads, recipients=recipients)
        return PartWriter(kind, name, writer, lambda committed: self._forget(target, key, committed))

    def _forget(self, target: ObjectWriter, key: str, committed: bool) -> None:
        with self._lock, suppress(ValueError):
            self._targets.remove(target)
            self._begun[key] = committed

    def abort_writers(self) -> None:
        """From another thread: make whoever is writing here fail at once, however long the repository would take."""
        with self._lock:
            targets, self._targets = self._targets, []
        for target in targets:
            target.abort()

    def clear(self) -> None:
        """Delete everything that was stored, by anybody, and what writers that died left open."""
        clear_parts(self.repository, self.prefix)

    def has_begun(self, keys: Iterable[str]) -> bool:
        """Whether any of these is stored through this."""
        with self._lock:
            return not self._begun.keys().isdisjoint(keys)

    def clear_own(self) -> None:
        """Delete what was stored through this, and nothing that anybody else has stored beside it."""
        self.abort_writers()
        with self._lock:
            begun, self._begun = self._begun, {}
        for key, committed in begun.items():
            if not committed:
                self.repository.abort_writes(key)
        self.repository.delete_all(begun)


def clear_parts(repository: Repository, prefix: str) -> None:
    """Delete what is stored under the prefix of one backup's parts, and what writers that died left open there."""
    repository.abort_writes(prefix)
    repository.delete_all([stored.key for stored in repository.list(prefix)])
