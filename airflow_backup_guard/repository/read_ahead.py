"""Work on a stream in two threads: one makes its chunks, the other takes them, and neither gets far ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from types import TracebackType

_BATCH_BYTES = 1 << 20  # handed over at once, as each time costs both threads some 50 microseconds
_BATCHES = 3
_WAIT_SECONDS = 0.1


class ReadAhead(AbstractContextManager["ReadAhead"]):
    """The bytes of ``chunks``, which a thread of its own makes until this is closed, some 4 MB of them ahead.

    To be read, or iterated over, and gone on with. What ``chunks`` raises is raised here, in its place. Once this is
    closed ``chunks`` is, too, and its thread has ended.
    """

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._queue: queue.Queue[list[bytes] | BaseException] = queue.Queue(_BATCHES)
        self._ended = threading.Event()
        self._batch: list[bytes] = []  # the next one last
        self._rest = memoryview(b"")
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; nothing is to be read any more. Idempotent."""
        self._ended.set()
        self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._next():
            yield chunk

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end."""
        pieces = []
        while size:
            if not self._rest:
                self._rest = memoryview(self._next())
                if not self._rest:
                    break
            piece = self._rest[:size]
            pieces.append(piece)
            self._rest = self._rest[len(piece) :]
            size -= len(piece)
        return b"".join(pieces)

    def read1(self, size: int) -> bytes:
        """At most ``size`` bytes, none only at the end: a chunk as it was made, if it is no longer than that."""
        if not self._rest:
            chunk = self._next()
            if len(chunk) <= size:
                return chunk
            self._rest = memoryview(chunk)
        piece = self._rest[:size]
        self._rest = self._rest[len(piece) :]
        return bytes(piece)

    def _next(self) -> bytes:
        """The next chunk, or nothing at the end, however often it is asked for."""
        if not self._batch:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._queue.put(item)
                raise item
            if not item:
                self._queue.put(item)
                return b""
            self._batch = item[::-1]
        return self._batch.pop()

    def _run(self) -> None:
        batch: list[bytes] = []
        size = 0
        try:
            with closing(self._chunks):
                for chunk in self._chunks:
                    batch.append(chunk)
                    size += len(chunk)
                    if size >= _BATCH_BYTES:
                        if not self._put(batch):
                            return
                        batch, size = [], 0
        except BaseException as error:  # raised in the thread that reads
            end: list[bytes] | BaseException = error
        else:
            end = []
        if not batch or self._put(batch):
            self._put(end)

    def _put(self, item: list[bytes] | BaseException) -> bool:
        """Whether it was taken over, before the reader had enough."""
        while not self._ended.is_set():
            try:
                self._queue.put(item, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return True
        return False
