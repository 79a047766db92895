"""Compression into zstd frames of 1 MiB, several at a time, each whole by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
        """``level`` is zstd's; ``threads`` compress beside the caller, and one of them at a time gives the frames to
        ``take``, one by one; with none of them, the caller does both. What ``take`` raises is raised in the caller, if
        maybe later, and no frame is given to it after that."""
        self._take = take
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="zstd") if threads else None
        self._free = [(_compressor(level), _compressor(_QUICK)) for _ in range(threads or 1)]
        self._content = memoryview(bytearray(FRAME_SIZE))
        self._size = 0
        self._spare: list[memoryview] = []  # used again, as new memory costs the kernel as much as a copy does
        self._is_dense = False
        self._changed = threading.Condition()  # guards what follows
        self._fed = self._taken = 0
        self._frames: dict[int, bytes] = {}  # that are compressed and not taken yet, by their number
        self._is_giving = self._is_closed = False
        self._failure: BaseException | None = None

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
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)

    def _end_frame(self, most_pending: int) -> None:
        content, size, self._size = self._content, self._size, 0
        if self._pool is None:
            self._take(self._compress(content, size))
            return
        with self._changed:
            if self._failure is None and not self._is_closed:
                self._pool.submit(self._work, self._fed, content, size)
                self._fed += 1
            self._changed.wait_for(
                lambda: self._fed - self._taken <= most_pending or self._is_closed or self._failure is not None
            )
            if self._failure is not None:
                raise self._failure
            if self._is_closed:
                raise ValueError("the writer is closed")
            self._content = self._spare.pop() if self._spare else memoryview(bytearray(FRAME_SIZE))

    def _work(self, number: int, content: memoryview, size: int) -> None:
        try:
            compressed = self._compress(content, size)
            with self._changed:
                self._frames[number] = compressed
            # Those of the other threads, too: a thread that did nothing else would cost each frame two more changes
            # of thread.
            while (frame := self._next()) is not None:
                self._take(frame)
                with self._changed:
                    self._is_giving = False
                    self._taken += 1
                    self._changed.notify_all()
        except BaseException as error:  # raised in the caller
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        """The frame to be taken now; None if it is not compressed yet, or another thread is giving one away."""
        with self._changed:
            if self._is_giving or self._is_closed:
                return None
            frame = self._frames.pop(self._taken, None)
            self._is_giving = frame is not None
            return frame

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
