"""A repository in memory: the third reading of the contract, and what users' own tests run on."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import BinaryIO

from airflow_backup_guard.errors import ObjectExists, ObjectMissing
from airflow_backup_guard.repository.base import ObjectInfo, ObjectWriter, StoredObject, UnfinishedWrite
from airflow_backup_guard.repository.keys import check_key, check_prefix


class MemoryRepository:
    """Objects in a dict; gone with the process."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._writers: set[_MemoryWriter] = set()
        self._lock = threading.RLock()

    def writer(self, key: str) -> ObjectWriter:
        """See :class:`~airflow_backup_guard.repository.base.Repository`."""
        with self._lock:
            writer = _MemoryWriter(self, check_key(key))
            self._writers.add(writer)
            return writer

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """See :class:`~airflow_backup_guard.repository.base.Repository`."""
        with self._lock:
            if check_key(key) in self._objects and if_absent:
                raise ObjectExists(f"{key} is already in {self.url}.")
            self._objects[key] = (bytes(data), datetime.now(timezone.utc))
        return StoredObject(key, len(data), hashlib.sha256(data).hexdigest())

    def reader(self, key: str) -> BinaryIO:
        """See :class:`~airflow_backup_guard.repository.base.Repository`."""
        try:
            return io.BytesIO(self._objects[check_key(key)][0])
        except KeyError:
            raise ObjectMissing(f"{key} is not in {self.url}.") from None

    def digest(self, key: str) -> None:
        """None: memory keeps no checksums."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See :class:`~airflow_backup_guard.repository.base.Repository`."""
        check_prefix(prefix)
        with self._lock:
            found = sorted(item for item in self._objects.items() if item[0].startswith(prefix))
        return iter([ObjectInfo(key, len(data), when, hashlib.sha256(data).hexdigest()) for key, (data, when) in found])

    def delete(self, key: str) -> None:
        """See :class:`~airflow_backup_guard.repository.base.Repository`."""
        self.delete_all([key])

    def delete_all(self, keys: Iterable[str]) -> None:
        """See :class:`~airflow_backup_guard.repository.base.Repository`."""
        for key in [check_key(key) for key in keys]:
            self._objects.pop(key, None)

    def unfinished_writes(self, prefix: str) -> Iterator[UnfinishedWrite]:
        """See :class:`~airflow_backup_guard.repository.base.Repository`."""
        check_prefix(prefix)
        with self._lock:
            writers = sorted(self._writers, key=lambda writer: writer.key)
            return iter([UnfinishedWrite(one.key, one.since) for one in writers if one.key.startswith(prefix)])

    def abort_writes(self, prefix: str) -> int:
        """See :class:`~airflow_backup_guard.repository.base.Repository`."""
        check_prefix(prefix)
        with self._lock:
            left = [writer for writer in self._writers if writer.key.startswith(prefix)]
        for writer in left:
            writer.abort()
        return len(left)

    def lock_of(self, key: str) -> None:
        """None: nothing in memory is locked."""
        check_key(key)

    def free_bytes(self) -> None:
        """None: memory is not a place whose end can be planned for."""

    def _forget(self, writer: _MemoryWriter) -> None:
        with self._lock:
            self._writers.discard(writer)


class _MemoryWriter(ObjectWriter):
    def __init__(self, repository: MemoryRepository, key: str) -> None:
        self.key = key
        self.since = datetime.now(timezone.utc)
        self._repository = repository
        self._data: io.BytesIO | None = io.BytesIO()

    def write(self, data: bytes | memoryview) -> None:
        self._open().write(data)

    def commit(self) -> StoredObject:
        stored = self._repository.put(self.key, self._open().getvalue())
        self.abort()
        return stored

    def abort(self) -> None:
        self._data = None
        self._repository._forget(self)

    def _open(self) -> io.BytesIO:
        if self._data is None:
            raise ValueError(f"the writer of {self.key} is closed")
        return self._data
