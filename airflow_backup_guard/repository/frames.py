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
_LARGEST_WINDOW = 8 << 20
"""Memory that a frame may ask for: what zstd's levels up to 19, the highest of ours, take at most."""


def decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of one or more frames, at most a block (128 KiB) at a time, checksums checked.

    Raises :class:`ValueError` or :class:`zstandard.ZstdError` where the frames are damaged, end early or are
    followed by anything else; every chunk has been taken when it ends well.
    """
    source = _Source(chunks)
    context = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    source.expect_more()
    while not source.at_end():
        decoder = context.decompressobj()
        for piece in _frame(source):
            if content := decoder.decompress(piece):
                yield content
        if not decoder.eof:
            raise ValueError("a zstd frame does not end where its blocks end")


def _frame(source: _Source) -> Iterator[bytes]:
    """Split one frame into its header, its blocks and its checksum."""
    if source.take(4) != _MAGIC:
        raise ValueError("bytes that are no zstd frame")
    descriptor = source.take(1)
    flags = descriptor[0]
    single_segment = flags >> 5 & 1
    window_size = 1 - single_segment
    content_size = _CONTENT_SIZE_SIZE[flags >> 6] or single_segment
    yield _MAGIC + descriptor + source.take(window_size + _DICTIONARY_ID_SIZE[flags & 3] + content_size)
    last = False
    while not last:
        header = source.take(3)
        value = int.from_bytes(header, "little")
        last, kind, length = bool(value & 1), value >> 1 & 3, value >> 3
        if kind > _COMPRESSED:
            raise ValueError("a zstd block of a reserved kind")
        if length > zstandard.BLOCKSIZE_MAX:
            raise ValueError("a zstd block longer than any may be")
        yield header + source.take(1 if kind == _RUN else length)
    if flags >> 2 & 1:
        yield source.take(4)


class _Source:
    """Exact reads over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._position = 0

    def at_end(self) -> bool:
        while self._position == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._chunk, self._position = chunk, 0
        return False

    def expect_more(self) -> None:
        if self.at_end():
            raise ValueError("a zstd frame is cut short")

    def take(self, size: int) -> bytes:
        pieces = []
        while size:
            self.expect_more()
            piece = self._chunk[self._position : self._position + size]
            self._position += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)
