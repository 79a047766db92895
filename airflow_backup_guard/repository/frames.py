"""Reading zstd frames to the last byte: what is cut short or followed by anything else is refused.

Their blocks are walked over meanwhile (RFC 8878, section 3.1.1), because zstandard's own readers either end silently
where a frame is cut short, or give all that a few bytes expand to at once: 4 bytes can stand for 128 KiB of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, cast

import zstandard

FRAME_SIZE = 1 << 20
"""Raw bytes in each frame that we write but the last, which has fewer, maybe none."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_DICTIONARY_ID_SIZE = (0, 1, 2, 4)
_CONTENT_SIZE_SIZE = (0, 2, 4, 8)
_RUN = 1
_PIECE = zstandard.BLOCKSIZE_MAX  # more at once would leave the cache of a processor
_LARGEST_WINDOW = 8 << 20
"""Memory that a frame may ask for: what zstd's levels up to 19, the highest of ours, take at most."""


def decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of one or more frames, at most 128 KiB at a time, checksums checked.

    Raises :class:`ValueError` or :class:`zstandard.ZstdError` where the frames are damaged, end early or are
    followed by anything else; every chunk has been taken when it ends well.
    """
    source = _Source(chunks)
    context = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    while True:
        frame = _Frame(source)
        reader = context.stream_reader(cast("IO[bytes]", frame))
        while content := reader.read(_PIECE):
            yield content
        if not frame.whole:
            raise ValueError("a zstd frame is cut short")
        if not source.has(1):
            if frame.content_size == FRAME_SIZE:
                raise ValueError("the frames are cut short: none ends them")
            return


class _Source:
    """The bytes of some chunks, of which ``rest`` has the next ones."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.rest = memoryview(b"")

    def has(self, size: int) -> bool:
        """Whether there are so many more, which are in ``rest`` then. To be asked for a few."""
        while len(self.rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self.rest = memoryview(b"".join([self.rest, chunk]) if self.rest else chunk)
        return True

    def take(self, size: int) -> memoryview:
        """The first bytes of ``rest``, as many as it has."""
        piece = self.rest[:size]
        self.rest = self.rest[size:]
        return piece


class _Frame:
    """One frame, to be read as it lies in its chunks; ``whole`` once it was read to its end, and not only to theirs.

    ``content_size`` is what it says of itself, once it was read; None if it does not.
    """

    def __init__(self, source: _Source) -> None:
        self.whole = False
        self.content_size: int | None = None
        self._pieces = self._walk(source)

    def read(self, size: int) -> bytes | memoryview:
        """The next bytes, whatever ``size`` is; none at the end."""
        return next(self._pieces, b"")

    def _walk(self, source: _Source) -> Iterator[memoryview]:
        if not source.has(5):
            return
        if source.rest[:4] != _MAGIC:
            raise ValueError("bytes that are no zstd frame")
        flags = source.rest[4]
        single_segment = flags >> 5 & 1
        size_at = 5 + (1 - single_segment) + _DICTIONARY_ID_SIZE[flags & 3]
        end = size_at + (_CONTENT_SIZE_SIZE[flags >> 6] or single_segment)  # of what was walked over
        if not source.has(end):
            return
        if end > size_at:
            size = int.from_bytes(source.rest[size_at:end], "little")
            self.content_size = size + 256 if end - size_at == 2 else size
        last = 0
        while not last:
            while len(source.rest) < end + 3:
                if piece := source.take(end):
                    end -= len(piece)
                    yield piece
                if not source.has(1 if end else 3):
                    return
            header = int.from_bytes(source.rest[end : end + 3], "little")
            last, kind, length = header & 1, header >> 1 & 3, header >> 3
            end += 3 + (1 if kind == _RUN else length)
        end += 4 * (flags >> 2 & 1)  # its checksum
        while end:
            if not source.has(1):
                return
            piece = source.take(end)
            end -= len(piece)
            yield piece
        self.whole = True
