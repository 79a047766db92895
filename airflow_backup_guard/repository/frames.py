"""Reading zstd frames to the last byte: what is cut short or followed by anything else is refused.

Their blocks are walked over (RFC 8878, section 3.1.1), to know where each frame ends before it is decoded, and because
zstandard's own readers either end silently where a frame is cut short, or give all that a few bytes expand to at once:
4 bytes can stand for 128 KiB of zeros.
"""

from __future__ import annotations

import threading
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
_LARGEST_FRAME = FRAME_SIZE + (64 << 10)
"""Stored bytes of a frame that says it holds little; zstd needs a few more than what it could not compress."""
_LARGEST_WINDOW = 8 << 20
"""Memory that a frame may ask for: what zstd's levels up to 19, the highest of ours, take at most."""


def frames(chunks: Iterator[bytes]) -> Iterator[Frame | bytes]:
    """Yield the content of one or more frames: of those that say that they hold little, as a :class:`Frame`, which any
    thread may decode; of any other decoded, at most 128 KiB at a time. None of it is empty.

    Raises :class:`ValueError` or :class:`zstandard.ZstdError` where the frames are damaged, end early or are
    followed by anything else; every chunk has been taken when it ends well.
    """
    source = _Source(chunks)
    while True:
        frame = _Walk(source)
        # zstandard believes one that says it holds nothing, where this may be what is damaged.
        if frame.content_size and frame.content_size <= FRAME_SIZE:
            yield Frame(frame.stored(_LARGEST_FRAME))
        else:
            yield from frame.decoded()
        if not source.has(1):
            if frame.content_size == FRAME_SIZE:
                raise ValueError("the frames are cut short: none ends them")
            return


class Frame:
    """A whole frame as it is stored, which holds 1 MiB at most."""

    def __init__(self, stored: bytes | memoryview) -> None:
        self._stored = stored

    def content(self) -> bytes:
        """Decode it, checksum checked; raises :class:`zstandard.ZstdError` where it is damaged."""
        context = getattr(_of_thread, "context", None)
        if context is None:
            context = _of_thread.context = zstandard.ZstdDecompressor()
        content: bytes = context.decompress(self._stored)
        return content


_of_thread = threading.local()  # a context is not for several threads at once, and costs more than a small frame


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


class _Walk:
    """One frame, as it lies in its chunks; ``content_size`` is what it says of itself, None if it does not."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        _need(source.has(5))
        if source.rest[:4] != _MAGIC:
            raise ValueError("bytes that are no zstd frame")
        flags = source.rest[4]
        single_segment = flags >> 5 & 1
        size_at = 5 + (1 - single_segment) + _DICTIONARY_ID_SIZE[flags & 3]
        self._header_end = size_at + (_CONTENT_SIZE_SIZE[flags >> 6] or single_segment)
        self._checksum_size = 4 * (flags >> 2 & 1)
        _need(source.has(self._header_end))
        self.content_size: int | None = None
        if self._header_end > size_at:
            size = int.from_bytes(source.rest[size_at : self._header_end], "little")
            self.content_size = size + 256 if self._header_end - size_at == 2 else size

    def stored(self, most: int) -> bytes | memoryview:
        """All of it; raises :class:`ValueError` once it takes more than ``most`` bytes."""
        pieces = []
        for piece in self._pieces():
            most -= len(piece)
            if most < 0:
                raise ValueError("a zstd frame takes more than it holds")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def decoded(self) -> Iterator[bytes]:
        """Its content, a little at a time."""
        pieces = self._pieces()
        context = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        reader = context.stream_reader(cast("IO[bytes]", _Readable(pieces)))
        while content := reader.read(_PIECE):
            yield content
        for _ in pieces:
            raise ValueError("a zstd frame goes on after its end")

    def _pieces(self) -> Iterator[memoryview]:
        source = self._source
        end = self._header_end  # of what was walked over
        last = 0
        while not last:
            while len(source.rest) < end + 3:
                if piece := source.take(end):
                    end -= len(piece)
                    yield piece
                _need(source.has(1 if end else 3))
            header = int.from_bytes(source.rest[end : end + 3], "little")
            last, kind, length = header & 1, header >> 1 & 3, header >> 3
            end += 3 + (1 if kind == _RUN else length)
        end += self._checksum_size
        while end:
            _need(source.has(1))
            piece = source.take(end)
            end -= len(piece)
            yield piece


class _Readable:
    """Pieces as a file whose reads return the next one, of whatever size."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces

    def read(self, size: int) -> bytes | memoryview:
        """The next bytes, whatever ``size`` is; none at the end."""
        return next(self._pieces, b"")


def _need(there: bool) -> None:
    if not there:
        raise ValueError("a zstd frame is cut short")
