"""Reading zstd frames to the last byte: what is cut short or followed by anything else is refused.

Block by block (RFC 8878, section 3.1.1), because zstandard's own readers either end silently where a frame is
cut short or give all that a few bytes expand to at once: 4 bytes of a frame can stand for 128 KiB of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator

import zstandard

_MAGIC = b"\x28\xb5\x2f\xfd"
_DICTIONARY_ID_SIZE = (0, 1, 2, 4)
_CONTENT_SIZE_SIZE = (0, 2, 4, 8)
_RAW, _RUN, _COMPRESSED = range(3)
_BLOCKS = 2  # decoded at once; with more, what they expand to leaves the cache of a processor
_LARGEST_WINDOW = 8 << 20
"""Memory that a frame may ask for: what zstd's levels up to 19, the highest of ours, take at most."""


def decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of one or more frames, at most some blocks (of 128 KiB) at a time, checksums checked.

    Raises :class:`ValueError` or :class:`zstandard.ZstdError` where the frames are damaged, end early or are
    followed by anything else; every chunk has been taken when it ends well.
    """
    source = _Source(chunks)
    context = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    source.expect(1)
    while not source.at_end():
        decoder = context.decompressobj(write_size=_BLOCKS * zstandard.BLOCKSIZE_MAX)
        for piece in _frame(source):
            if piece and (content := decoder.decompress(piece)):
                yield content
        if not decoder.eof:
            raise ValueError("a zstd frame does not end where its blocks end")


def _frame(source: _Source) -> Iterator[memoryview]:
    """Split one frame into pieces that have the ends of a few blocks at most, as they lie in their chunks."""
    if source.expect(5)[:4] != _MAGIC:
        raise ValueError("bytes that are no zstd frame")
    flags = source.expect(5)[4]
    single_segment = flags >> 5 & 1
    window_size = 1 - single_segment
    content_size = _CONTENT_SIZE_SIZE[flags >> 6] or single_segment
    yield from source.walk(5 + window_size + _DICTIONARY_ID_SIZE[flags & 3] + content_size)
    last, blocks = False, 0
    while not last:
        value = int.from_bytes(source.expect(3), "little")
        last, kind, length = bool(value & 1), value >> 1 & 3, value >> 3
        if kind > _COMPRESSED:
            raise ValueError("a zstd block of a reserved kind")
        if length > zstandard.BLOCKSIZE_MAX:
            raise ValueError("a zstd block longer than any may be")
        yield from source.walk(3 + (1 if kind == _RUN else length))
        blocks += 1
        if blocks % _BLOCKS == 0:
            yield source.walked()
    if flags >> 2 & 1:
        yield from source.walk(4)
    yield source.walked()


class _Source:
    """Walks over an iterator of chunks, and hands on what it has walked over without copying it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._view = memoryview(b"")
        self._start = self._position = 0

    def at_end(self) -> bool:
        """Call it where all that was walked over is handed on."""
        while self._position == len(self._view):
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._view, self._start, self._position = memoryview(chunk), 0, 0
        return False

    def expect(self, size: int) -> memoryview:
        """The next few bytes, which are not walked over yet."""
        while len(self._view) - self._position < size:
            chunk = self._next()
            self._view = memoryview(b"".join([self._view[self._start :], chunk]))
            self._position -= self._start
            self._start = 0
        return self._view[self._position : self._position + size]

    def walk(self, size: int) -> Iterator[memoryview]:
        """Go on by so many bytes; yields all that was walked over where that needs another chunk."""
        while size > len(self._view) - self._position:
            size -= len(self._view) - self._position
            self._position = len(self._view)
            yield self.walked()
            self._view, self._start, self._position = memoryview(self._next()), 0, 0
        self._position += size

    def walked(self) -> memoryview:
        """What was walked over since it was last handed on."""
        piece = self._view[self._start : self._position]
        self._start = self._position
        return piece

    def _next(self) -> bytes:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise ValueError("a zstd frame is cut short")
        return chunk
