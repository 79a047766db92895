"""One object of S3 being read: a cut connection is not the end of a restore that takes hours, nor one its measure."""

from __future__ import annotations

import contextlib
import io
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.errors import ObjectExists, ObjectMissing, RepositoryUnavailable
from airflow_backup_guard.repository.s3_errors import s3_errors_explained

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

RANGE = 8 << 20
"""Bytes in one of several requests."""
FAST_ENOUGH = 100e6
"""Bytes a second; S3 sends about as much, and no more, over one connection."""
_MOST_AHEAD = 4
_TRIES = 5
_STEP = 1 << 18


class S3Reader(io.RawIOBase):
    """Read once, from start to end; after a cut, ask for the rest, up to 5 times without a byte.

    An object comes in one request as long as the reader does not wait for it: where what came of a :data:`RANGE` came
    slower than :data:`FAST_ENOUGH`, the rest comes in ranges, up to four of them side by side, each in memory.
    """

    def __init__(self, client: Any, at: dict[str, str], what: str) -> None:
        super().__init__()
        self._client, self._at, self._what = client, at, what
        with s3_errors_explained(what):
            answer = client.get_object(**at)
        self._size, self._etag = answer["ContentLength"], answer["ETag"]
        self._stream = _Span(self, 0, self._size, answer["Body"])
        self._seen_bytes, self._seen_seconds = 0, 0.0
        self._asked = self._size
        self._ahead: deque[Future[bytearray]] = deque()
        self._most = 1
        self._rest = memoryview(b"")
        self._pool: ThreadPoolExecutor | None = None
        self._ended = False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to ``len(buffer)`` bytes; 0 only at the end of the whole object."""
        view = memoryview(buffer).cast("B")
        began = time.monotonic()
        if count := self._stream.readinto(view):
            self._divide_if_slow(count, time.monotonic() - began)
            return count
        if not self._rest and self._ahead and view:
            if not self._ahead[0].done():
                self._most = min(self._most + 1, _MOST_AHEAD)
            self._rest = memoryview(self._ahead[0].result())
            self._ahead.popleft()
            self._fetch_ahead()
        piece = self._rest[: len(view)]
        view[: len(piece)] = piece
        self._rest = self._rest[len(piece) :]
        return len(piece)

    def close(self) -> None:
        """Drop the connections; no thread is left. Idempotent."""
        self._ended = True
        self._stream.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._ahead.clear()
        super().close()

    def request(self, start: int, end: int) -> Any:
        """The body with the bytes from ``start`` up to ``end``, of the same object as before."""
        try:
            with s3_errors_explained(self._what):
                wanted = f"bytes={start}-{end - 1}"
                return self._client.get_object(**self._at, Range=wanted, IfMatch=self._etag)["Body"]
        except ObjectExists as error:
            raise ObjectMissing(f"{self._what} was replaced while it was being read.") from error

    def broke_off(self, position: int, cause: BaseException | None) -> RepositoryUnavailable:
        """What to raise where no byte came any more."""
        return RepositoryUnavailable(
            f"{self._what} broke off {_TRIES} times after {position} of {self._size} bytes ({cause}).",
            remedy="Check the network and the service's health, then try again.",
        )

    def _divide_if_slow(self, count: int, seconds: float) -> None:
        """Whoever reads slowly by intent finds the bytes waiting, so that this time is short."""
        self._seen_bytes += count
        self._seen_seconds += seconds
        if self._seen_bytes < RANGE:
            return
        if self._seen_bytes < FAST_ENOUGH * self._seen_seconds:
            self._asked = self._stream.cut()
            self._fetch_ahead()
        self._seen_bytes, self._seen_seconds = 0, 0.0

    def _fetch_ahead(self) -> None:
        while self._asked < self._size and len(self._ahead) < self._most:
            self._pool = self._pool or ThreadPoolExecutor(_MOST_AHEAD, thread_name_prefix="s3-read")
            end = min(self._asked + RANGE, self._size)
            self._ahead.append(self._pool.submit(self._fetch, self._asked, end))
            self._asked = end

    def _fetch(self, start: int, end: int) -> bytearray:
        content = bytearray(end - start)
        left = memoryview(content)
        with contextlib.closing(_Span(self, start, end)) as span:
            while left:
                if self._ended:
                    raise ValueError("the reader is closed")
                left = left[span.readinto(left[:_STEP]) :]
        return content


class _Span:
    """The bytes of an object from ``position`` up to ``end``, however often the connection is cut."""

    def __init__(self, reader: S3Reader, position: int, end: int, body: Any = None) -> None:
        self._reader, self._position, self._end, self._body = reader, position, end, body

    def readinto(self, view: memoryview) -> int:
        """0 only at the end, and of nothing."""
        wanted = min(len(view), self._end - self._position)
        cause: BaseException | None = None
        for _ in range(_TRIES if wanted else 0):
            try:
                if self._body is None:
                    self._body = self._reader.request(self._position, self._end)
                count: int = self._body.readinto(view[:wanted])
            except _cuts() as error:
                cause, count = error, 0
            if count:
                self._position += count
                return count
            self.close()
        if wanted:
            raise self._reader.broke_off(self._position, cause) from cause
        return 0

    def cut(self) -> int:
        """End it here; returns where that is."""
        self.close()
        self._end = self._position
        return self._end

    def close(self) -> None:
        """Drop the connection. Idempotent."""
        body, self._body = self._body, None
        if body is not None:
            with contextlib.suppress(Exception):
                body.close()


def _cuts() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    return BotoCoreError, HTTPError, OSError
