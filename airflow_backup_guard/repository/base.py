"""What a repository owes its callers: a small protocol that local disks, S3 and memory keep alike.

Keys are relative, their parts separated by ``/``; no part is empty or starts with ``.`` (:mod:`.keys`), and
no key is also the folder of another. All methods are safe to call from several threads at once. Errors:
``RepositoryUnavailable``, ``RepositoryDenied``, ``RepositoryFull``, ``ObjectMissing``, ``ObjectExists`` from
:mod:`airflow_backup_guard.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object as a listing shows it; ``size`` in bytes, ``modified`` in UTC.

    As long as an object has the same ``tag``, its content is the same; written anew with other content, it has another.
    """

    key: str
    size: int
    modified: datetime
    tag: str


@dataclass(frozen=True)
class UnfinishedWrite:
    """What a writer has open, or left when it died: the ``key`` it would have, and when it began or wrote last."""

    key: str
    since: datetime


@dataclass(frozen=True)
class ObjectLock:
    """The repository itself keeps an object: up to ``until``, or if that is None until somebody ends it."""

    until: datetime | None

    def __str__(self) -> str:
        if self.until is None:
            return "locked in the repository by a legal hold"
        return f"locked in the repository until {self.until:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class StoredObject:
    """One object as its writer knows it; ``size`` in bytes, ``sha256`` as lower-case hex."""

    key: str
    size: int
    sha256: str


class ObjectWriter(AbstractContextManager["ObjectWriter"], Protocol):
    """One object being written. Leaving the context without ``commit`` aborts, so that nothing is left."""

    def write(self, data: bytes | memoryview) -> None:
        """Append; may block while the repository is slower than the caller. Memory stays bounded."""

    def commit(self) -> StoredObject:
        """Make the object durable and visible, whole; on return it survives a crash of this machine."""

    def abort(self) -> None:
        """Drop what was written. Idempotent; does nothing after ``commit``.

        Any thread may call it, at any time, and gets back within about a second. A ``write`` or ``commit`` that waits
        for the repository then raises ``ValueError``; of such a ``commit``, the object may have become visible.
        """

    def __exit__(self, *exception: object) -> None:
        """Abort what was not committed."""
        self.abort()


class Repository(Protocol):
    """Where backups live."""

    url: str

    def writer(self, key: str) -> ObjectWriter:
        """Start an object of unknown size. It is invisible until committed and then replaces any other."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """Store a small object atomically; with ``if_absent``, ``ObjectExists`` if the key is taken."""

    def reader(self, key: str) -> BinaryIO:
        """Open an object for one sequential read; ``ObjectMissing`` if there is none. To be closed."""

    def digest(self, key: str) -> str | None:
        """SHA-256 that the repository itself keeps of an object, lower-case hex, without reading it.

        None where it keeps none, and of an object that is not there.
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Committed objects whose key starts with ``prefix``, sorted by key."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""

    def delete_all(self, keys: Iterable[str]) -> None:
        """Remove many objects, in few requests; those that are not there are no error.

        Where some cannot be removed, the others are all the same, and the error of the first is raised.
        """

    def unfinished_writes(self, prefix: str) -> Iterator[UnfinishedWrite]:
        """What writers have open under ``prefix``, also those that live, sorted by key."""

    def abort_writes(self, prefix: str) -> int:
        """Drop what dead writers left open under ``prefix``; returns how many. Call only when none lives."""

    def lock_of(self, key: str) -> ObjectLock | None:
        """What keeps an object from being removed for good, if anything that we may see does."""

    def free_bytes(self) -> int | None:
        """Space left in bytes, or None where the notion does not apply."""
