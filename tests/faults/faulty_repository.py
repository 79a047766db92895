"""A repository that fails at one call, or from one call on, in every way that the protocol allows and some it does not.

Calls are counted by what they do and to what kind of key, as threads take turns differently in each run.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from airflow_backup_guard.errors import (
    ObjectExists,
    ObjectMissing,
    RepositoryDenied,
    RepositoryFull,
    RepositoryUnavailable,
)
from airflow_backup_guard.repository.base import (
    ObjectInfo,
    ObjectLock,
    ObjectWriter,
    Repository,
    StoredObject,
    UnfinishedWrite,
)

T = TypeVar("T")

ACTIONS = ("fail", "outage", "lost answer", "hang", "denied", "full", "lie", "lost write", "stale")
"""A call fails; it and all that follow fail; it is done and fails nevertheless; it fails after a long while; it and all
that follow are refused; there is no room from it on; it is done and says that the key was taken; it is not done and
says that it was; it does not see what was written since the beginning."""

_CHANGES = ("put", "put if absent", "commit", "delete", "delete_all", "abort_writes")
_READS = ("reader", "list", "unfinished_writes")


@dataclass(frozen=True, order=True)
class Call:
    """The ``number``-th call of a method for a kind of key: ``put records #1``."""

    method: str
    kind: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.method} {self.kind} #{self.number}"

    def allows(self, action: str) -> bool:
        """Whether that can happen to it."""
        if action == "lie":
            return self.method == "put if absent"
        if action == "lost write":
            return self.method in ("put", "put if absent", "commit", "delete", "delete_all")
        if action == "stale":
            return self.method in _READS
        if action == "full":
            return self.method in ("put", "put if absent", "writer", "write", "commit")
        return action != "lost answer" or self.method in _CHANGES


class FaultyRepository:
    """What ``inner`` is, but for ``action`` at ``call``; see :data:`ACTIONS`. ``reached`` says whether it came to that.

    A call that hangs ends after ``patience`` seconds, as the time limits of a client would have it.
    """

    def __init__(self, inner: Repository, call: Call | None = None, action: str = "", patience: float = 1.0) -> None:
        self.inner = inner
        self.url = inner.url
        self.seen: Counter[tuple[str, str]] = Counter()
        self.reached = False
        self._call, self._action, self._patience = call, action, patience
        self._lock = threading.Lock()
        self._before = {info.key: _content(inner, info.key) for info in inner.list("")} if action == "stale" else {}

    def writer(self, key: str) -> ObjectWriter:
        """See the protocol."""
        inner = self.at("writer", key, lambda: self.inner.writer(key))
        return _Writer(self, inner, key)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """See the protocol."""
        method = "put if absent" if if_absent else "put"
        said = StoredObject(key, len(data), hashlib.sha256(data).hexdigest())
        return self.at(method, key, lambda: self.inner.put(key, data, if_absent=if_absent), lambda: said)

    def reader(self, key: str) -> BinaryIO:
        """See the protocol."""

        def stale() -> BinaryIO:
            if key not in self._before:
                raise ObjectMissing(f"{key} is not in {self.url}.")
            return io.BytesIO(self._before[key])

        inner = self.at("reader", key, lambda: self.inner.reader(key), stale=stale)
        return io.BufferedReader(_Reader(self, inner, key), 1 << 18)

    def digest(self, key: str) -> str | None:
        """See the protocol."""
        return self.at("digest", key, lambda: self.inner.digest(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See the protocol."""

        def stale() -> Iterator[ObjectInfo]:
            return iter([info for info in self.inner.list(prefix) if info.key in self._before])

        return self.at("list", prefix, lambda: self.inner.list(prefix), stale=stale)

    def delete(self, key: str) -> None:
        """See the protocol."""
        self.at("delete", key, lambda: self.inner.delete(key), lambda: None)

    def delete_all(self, keys: Iterable[str]) -> None:
        """See the protocol."""
        known = list(keys)
        if known:
            self.at("delete_all", known[0], lambda: self.inner.delete_all(known), lambda: None)

    def unfinished_writes(self, prefix: str) -> Iterator[UnfinishedWrite]:
        """See the protocol."""
        return self.at(
            "unfinished_writes", prefix, lambda: self.inner.unfinished_writes(prefix), stale=lambda: iter(())
        )

    def abort_writes(self, prefix: str) -> int:
        """See the protocol."""
        return self.at("abort_writes", prefix, lambda: self.inner.abort_writes(prefix))

    def lock_of(self, key: str) -> ObjectLock | None:
        """See the protocol."""
        return self.at("lock_of", key, lambda: self.inner.lock_of(key))

    def free_bytes(self) -> int | None:
        """See the protocol."""
        return self.at("free_bytes", "", lambda: self.inner.free_bytes())

    def at(
        self,
        method: str,
        key: str,
        act: Callable[[], T],
        lost: Callable[[], T] | None = None,
        *,
        stale: Callable[[], T] | None = None,
        waiting: threading.Event | None = None,
    ) -> T:
        """Do one call, disturbed if it is the one; ``waiting`` ends a hang."""
        with self._lock:
            here = (method, kind_of(key))
            self.seen[here] += 1
            hit = not self.reached and self._call == Call(*here, self.seen[here])
            self.reached = self.reached or hit
            from_here = self.reached and (hit or self._lasts(method))
        if not from_here:
            return act()
        what = f"{self.url}/{key}"
        if self._action in ("lost answer", "lie"):
            act()
        if self._action == "hang":
            (waiting or threading.Event()).wait(self._patience)
        if self._action == "lie":
            raise ObjectExists(f"{key} is already in {self.url}.")
        if self._action == "lost write" and lost is not None:
            return lost()
        if self._action == "stale" and stale is not None:
            return stale()
        if self._action == "denied":
            raise RepositoryDenied(f"{what} is not allowed to us.", remedy="Check the key and its policy.")
        if self._action == "full":
            raise RepositoryFull(f"{what} does not fit.", remedy="Free space.")
        raise RepositoryUnavailable(f"{what} cannot be reached.", remedy="Check the service's health, then try again.")

    def _lasts(self, method: str) -> bool:
        if self._action == "full":
            return Call(method, "").allows("full")
        return self._action in ("outage", "denied")


def kind_of(key: str) -> str:
    """``backups wal`` for ``backups/shop/…/wal/00…``: what a key or prefix is for, without names and numbers."""
    parts = key.split("/")
    path = [part for part in parts[3:] if part and not re.fullmatch(r"(try-)?\d+", part)]
    return f"{parts[0]} {path[0].split('.')[0]}" if parts[0] == "backups" and path else parts[0]


def _content(repository: Repository, key: str) -> bytes:
    with repository.reader(key) as stream:
        return stream.read()


class _Writer(ObjectWriter):
    def __init__(self, repository: FaultyRepository, inner: ObjectWriter, key: str) -> None:
        self._repository, self._inner, self._key = repository, inner, key
        self._aborted = threading.Event()

    def write(self, data: bytes | memoryview) -> None:
        self._repository.at("write", self._key, lambda: self._inner.write(data), waiting=self._aborted)

    def commit(self) -> StoredObject:
        def lost() -> StoredObject:
            stored = self._inner.commit()
            self._repository.inner.delete(self._key)
            return stored

        return self._repository.at("commit", self._key, self._inner.commit, lost, waiting=self._aborted)

    def abort(self) -> None:
        self._aborted.set()
        self._inner.abort()


class _Reader(io.RawIOBase):
    def __init__(self, repository: FaultyRepository, inner: BinaryIO, key: str) -> None:
        super().__init__()
        self._repository, self._inner, self._key = repository, inner, key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._repository.at("read", self._key, lambda: self._inner.read(len(view)))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()
