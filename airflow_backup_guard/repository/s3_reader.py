"""One object of S3 being read; a cut connection is not the end of a restore that takes hours."""

from __future__ import annotations

import contextlib
import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.errors import ObjectExists, ObjectMissing, RepositoryUnavailable
from airflow_backup_guard.repository.s3_errors import s3_errors_explained

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_TRIES = 5
_RANGE = 4 << 20
_AHEAD = 3
_PIECE = 1 << 20  # between looks whether somebody still wants it
# Below that, more requests cost what they save. No WAL segment is longer.
_IN_ONE_RANGE = 16 << 20


class S3Reader(io.RawIOBase):
    """Read once, from start to end, and only of the object that was there at first.

    S3 gives one connection a fraction of what it gives to several: an object of more than 16 MiB is read in ranges of
    4 MiB, three of which are under way while one is read.
    """

    def __init__(self, source: _Object, body: Any) -> None:
        super().__init__()
        self._object = source
        end = source.size if source.size <= _IN_ONE_RANGE else _RANGE
        self._first = _Range(source, 0, end, self._check, body)
        self._starts = iter(range(end, source.size, _RANGE))
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="s3-read")
        self._ahead: deque[Future[memoryview]] = deque()
        self._content = memoryview(b"")
        self._failure: BaseException | None = None

    @classmethod
    def open(cls, client: Any, at: dict[str, str], what: str) -> S3Reader:
        """Ask for it; errors as in the protocol."""
        with s3_errors_explained(what):
            answer = client.get_object(**at)
        return cls(_Object(client, at, what, answer["ContentLength"], answer["ETag"]), answer["Body"])

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to ``len(buffer)`` bytes; 0 only at the end of the whole object."""
        if self._failure is not None:
            raise self._failure  # or what is read next would not be what comes next
        try:
            return self._read(memoryview(buffer).cast("B"))
        except BaseException as error:
            self._failure = error
            raise

    def close(self) -> None:
        """Drop the connections; no thread is left. Idempotent."""
        super().close()
        self._pool.shutdown(cancel_futures=True)
        self._first.drop()

    def _read(self, view: memoryview) -> int:
        while len(self._ahead) < _AHEAD and (start := next(self._starts, None)) is not None:
            self._ahead.append(self._submit(start))
        if count := self._first.readinto(view):
            return count
        if not self._content and self._ahead:
            self._content = self._ahead.popleft().result()
        count = min(len(view), len(self._content))
        view[:count] = self._content[:count]
        self._content = self._content[count:]
        return count

    def _submit(self, start: int) -> Future[memoryview]:
        try:
            return self._pool.submit(self._fetch, start)
        except RuntimeError as error:
            raise RepositoryUnavailable(
                f"{self._object.what} cannot be read: {error}.",
                remedy="Let this process have more threads: see ulimit -u, and the limit of its container.",
            ) from error

    def _fetch(self, start: int) -> memoryview:
        content = memoryview(bytearray(min(_RANGE, self._object.size - start)))
        left, source = content, _Range(self._object, start, start + len(content), self._check)
        while left:
            left = left[source.readinto(left[:_PIECE]) :]
        source.drop()
        return content

    def _check(self) -> None:
        if self.closed:
            raise ValueError(f"the reader of {self._object.what} is closed")


@dataclass(frozen=True)
class _Object:
    """What is read: ``size`` in bytes."""

    client: Any
    at: dict[str, str]
    what: str
    size: int
    etag: str

    def body(self, start: int, end: int) -> Any:
        """A stream of these bytes of it."""
        try:
            with s3_errors_explained(self.what):
                answer = self.client.get_object(**self.at, Range=f"bytes={start}-{end - 1}", IfMatch=self.etag)
        except ObjectExists as error:
            raise ObjectMissing(f"{self.what} was replaced while it was being read.") from error
        if not answer.get("ContentRange", "").startswith(f"bytes {start}-{end - 1}/"):
            answer["Body"].close()
            raise OSError("it did not give the range that was asked for")
        return answer["Body"]


class _Range:
    """Some bytes of an object; after a cut, the rest of them is asked for, up to 5 times without a byte."""

    def __init__(self, source: _Object, start: int, end: int, keep_going: Callable[[], None], body: Any = None) -> None:
        """``keep_going`` raises once nobody wants it any more; ``body`` is a stream that begins at ``start``, if there
        is one already, and may go on beyond ``end``."""
        self._source, self._position, self._end, self._body = source, start, end, body
        self._keep_going = keep_going

    def readinto(self, view: memoryview) -> int:
        """Read up to ``len(view)`` bytes; 0 only at the end."""
        wanted = min(len(view), self._end - self._position)
        cause: BaseException | None = None
        for _ in range(_TRIES if wanted else 0):
            self._keep_going()
            try:
                if self._body is None:
                    self._body = self._source.body(self._position, self._end)
                count: int = self._body.readinto(view[:wanted])
            except _cuts() as error:
                cause, count = error, 0
            if count:
                self._position += count
                return count
            self.drop()
        if wanted:
            raise RepositoryUnavailable(
                f"{self._source.what} broke off {_TRIES} times after {self._position} of {self._source.size} bytes "
                f"({cause}).",
                remedy="Check the network and the service's health, then try again.",
            ) from cause
        if self._position == self._end:
            self.drop()
        return 0

    def drop(self) -> None:
        """End the connection, unless all of it was read. Idempotent."""
        body, self._body = self._body, None
        if body is not None:
            with contextlib.suppress(Exception):
                body.close()


def _cuts() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    return BotoCoreError, HTTPError, OSError
