"""Compression into zstd frames of 1 MiB, several at a time, each whole by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import zstandard

from airflow_backup_guard.repository.frames import FRAME_SIZE

_QUICK = 1
_HARDLY = 0.9


class Compression:
    """Frames of what it is fed, in its order; the last one is shorter, so that none can be missing at the end.

    Not for several threads at once, but for ``close``.

    Frames of that size take less processor time than one long frame does with zstd's own threads, as what a level looks
    back into stays in a processor's cache: 1.5 to 1.9 s a GB at level 3 against 2.4, for 0 to 2.5 % more to store. And
    what hardly compresses is not worth a level: after a frame of such the next is compressed at level 1, which takes a
    third of the time. A faster one would find nothing in text without repetitions, and so never leave.
    """

    def __init__(self, take: Callable[[bytes], None], level: int, threads: int) -> None:
        """``level`` is zstd's; ``threads`` compress beside the caller, and one more gives the frames to ``take``, one
        by one; with none of them, the caller does both. What ``take`` raises is raised in the caller, if maybe later,
        and no frame is given to it after that."""
        self._take = take
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="zstd") if threads else None
        self._giver = ThreadPoolExecutor(1, thread_name_prefix="zstd-frames") if threads else None
        self._free = [(_compressor(level), _compressor(_QUICK)) for _ in range(threads or 1)]
        self._pending: deque[Future[None]] = deque()
        self._content = memoryview(bytearray(FRAME_SIZE))
        self._size = 0
        self._spare: list[memoryview] = []  # used again, as new memory costs the kernel as much as a copy does
        self._is_dense = False
        self._has_failed = self._is_closed = False

    def feed(self, data: memoryview) -> None:
        """Take in some bytes; may wait for ``take``."""
        while len(data) >= (room := FRAME_SIZE - self._size):
            self._content[self._size :] = data[:room]
            self._size, data = FRAME_SIZE, data[room:]
            self._end_frame(most_pending=2 * self._threads)
        self._content[self._size : self._size + len(data)] = data
        self._size += len(data)

    def finish(self) -> None:
        """End the last frame; ``take`` has taken all on return."""
        self._end_frame(most_pending=0)

    def close(self, *, wait: bool) -> None:
        """End the threads after the frames that they are at; with ``wait``, they have ended on return. Idempotent.

        Whoever feeds or waits for frames then gets :class:`ValueError`.
        """
        self._is_closed = True
        for pool in (self._pool, self._giver):
            if pool is not None:
                pool.shutdown(wait=wait, cancel_futures=True)

    def _end_frame(self, most_pending: int) -> None:
        content, size, self._size = self._content, self._size, 0
        if self._pool is None or self._giver is None:
            self._take(self._compress(content, size))
            return
        try:
            compressing = self._pool.submit(self._compress, content, size)
            self._pending.append(self._giver.submit(self._give, compressing))
            while len(self._pending) > most_pending:
                self._pending.popleft().result()
            self._content = self._spare.pop() if self._spare else memoryview(bytearray(FRAME_SIZE))
        except (CancelledError, RuntimeError):
            if not self._is_closed:
                raise
            raise ValueError("the writer is closed") from None

    def _give(self, compressing: Future[bytes]) -> None:
        if self._has_failed:  # or there would be a hole in what is taken
            return
        try:
            self._take(compressing.result())
        except BaseException:
            self._has_failed = True
            raise

    def _compress(self, content: memoryview, size: int) -> bytes:
        usual, quick = self._free.pop()  # there is a pair for each thread
        frame = (quick if self._is_dense else usual).compress(content[:size])
        self._is_dense = len(frame) > _HARDLY * size
        self._free.append((usual, quick))
        if self._pool is not None:
            self._spare.append(content)
        return frame


def _compressor(level: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            level, source_size=FRAME_SIZE, write_checksum=True
        )
    )
