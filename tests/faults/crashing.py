"""A repository whose process dies at a chosen call: before it, after it, or, where it does much, in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from airflow_backup_guard.repository.base import ObjectInfo, ObjectWriter, Repository, StoredObject, UnfinishedWrite


class Died(BaseException):
    """The process is gone: nothing of ours catches it, and no call comes after it."""


class CrashingRepository:
    """Hands on to another repository, and counts the calls that change it; the one with number ``dies_at`` is the last.

    ``half`` of a deletion is done then; another change is done or not. ``meanwhile`` is called before the change with
    number ``meets_at``, as if by somebody else.
    """

    def __init__(
        self,
        inner: Repository,
        dies_at: int | None = None,
        half: bool = False,
        meets_at: int | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.inner = inner
        self.url = inner.url
        self.changes = 0
        self.dead = False
        self._dies_at, self._half = dies_at, half
        self._meets_at, self._meanwhile = meets_at, meanwhile

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """A change."""
        return self._change(lambda: self.inner.put(key, data, if_absent=if_absent))

    def writer(self, key: str) -> ObjectWriter:
        """A change once it is committed."""
        self._alive()
        return _Writer(self.inner.writer(key), self._change)

    def reader(self, key: str) -> BinaryIO:
        """No change."""
        self._alive()
        return self.inner.reader(key)

    def digest(self, key: str) -> str | None:
        """No change."""
        self._alive()
        return self.inner.digest(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """No change."""
        self._alive()
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        """A change."""
        self.delete_all([key])

    def delete_all(self, keys: Iterable[str]) -> None:
        """A change, of which the first half may be done."""
        given = list(keys)
        self._change(lambda: self.inner.delete_all(given), lambda: self.inner.delete_all(given[: len(given) // 2]))

    def unfinished_writes(self, prefix: str) -> Iterator[UnfinishedWrite]:
        """No change."""
        self._alive()
        return self.inner.unfinished_writes(prefix)

    def abort_writes(self, prefix: str) -> int:
        """A change."""
        return int(self._change(lambda: self.inner.abort_writes(prefix)))

    def lock_of(self, key: str) -> Any:
        """No change."""
        self._alive()
        return self.inner.lock_of(key)

    def free_bytes(self) -> int | None:
        """No change."""
        self._alive()
        return self.inner.free_bytes()

    def _alive(self) -> None:
        if self.dead:
            raise Died

    def _change(self, change: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        self._alive()
        self.changes += 1
        if self.changes == self._meets_at:
            self._meanwhile()
        if self.changes != self._dies_at:
            return change()
        if self._half:
            (half or change)()
        self.dead = True
        raise Died


class _Writer(ObjectWriter):
    def __init__(self, inner: ObjectWriter, change: Callable[[Callable[[], Any]], Any]) -> None:
        self._inner, self._change = inner, change

    def write(self, data: bytes | memoryview) -> None:
        self._inner.write(data)

    def commit(self) -> StoredObject:
        stored: StoredObject = self._change(self._inner.commit)
        return stored

    def abort(self) -> None:
        self._inner.abort()
