"""Writes the parts of one backup: names them, encodes them, and remembers what was stored."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from airflow_backup_guard.core.backup import StoredPart, parts_prefix
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import EncodingWriter, suffix


class PartWriter(AbstractContextManager["PartWriter"]):
    """One part being written; leaving the context without ``commit`` leaves nothing."""

    def __init__(self, kind: str, name: str, writer: EncodingWriter) -> None:
        self._kind = kind
        self._name = name
        self._writer = writer

    def write(self, data: bytes | memoryview) -> None:
        """Append raw bytes."""
        self._writer.write(data)

    def commit(self) -> StoredPart:
        """Make the part durable."""
        stored, content_size = self._writer.commit()
        return StoredPart(self._kind, self._name, stored.key, stored.size, stored.sha256, content_size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.abort()


class PartStore:
    """Where the parts of one backup go."""

    def __init__(self, repository: Repository, plan: BackupPlan, backup_id: str) -> None:
        self.repository = repository
        self.prefix = parts_prefix(plan.name, backup_id)
        self._plan = plan

    def writer(self, kind: str, name: str, path: str, *, threads: int = 0) -> PartWriter:
        """Start a part at ``path`` below the backup's prefix, compressed and, if the plan says so, encrypted."""
        recipients = self._plan.recipients
        target = self.repository.writer(f"{self.prefix}{path}{suffix(recipients)}")
        level = self._plan.compression_level
        return PartWriter(kind, name, EncodingWriter(target, level=level, threads=threads, recipients=recipients))

    def clear(self) -> None:
        """Delete everything that was stored, and what writers that died left open."""
        self.repository.abort_writes(self.prefix)
        for stored in list(self.repository.list(self.prefix)):
            self.repository.delete(stored.key)
