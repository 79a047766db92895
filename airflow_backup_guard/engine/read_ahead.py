"""Work on a stream in two threads: one makes its chunks, the other takes them, and neither gets far ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from types import TracebackType

_CHUNKS = 4
_WAIT_SECONDS = 0.1


class ReadAhead(AbstractContextManager["ReadAhead"]):
    """The bytes of ``chunks``, which a thread of its own makes from entry to exit, up to four of them ahead.

    To be read, or iterated over. What ``chunks`` raises is raised here, in its place. At exit ``chunks`` is closed, and
    its thread has ended.
    """

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_CHUNKS)
        self._ended = threading.Event()
        self._rest = memoryview(b"")
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    def _next(self) -> bytes:
        """The next chunk, or nothing at the end, however often it is asked for."""
        item = self._queue.get()
        if item and not isinstance(item, BaseException):
            return item
        self._queue.put(item)
        if isinstance(item, BaseException):
            raise item
        return b""

    def _run(self) -> None:
        try:
            with closing(self._chunks):
                for chunk in self._chunks:
                    if not self._put(chunk):
                        return
            self._put(b"")
        except BaseException as error:  # raised in the thread that reads
            self._put(error)

    def _put(self, item: bytes | BaseException) -> bool:
        """Whether it was taken over, before the reader had enough."""
        while not self._ended.is_set():
            try:
                self._queue.put(item, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return True
        return False
