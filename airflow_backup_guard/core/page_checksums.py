"""The checksums that PostgreSQL's data pages should carry, for many pages at once.

As described in PostgreSQL's ``storage/checksum_impl.h``: FNV-1a in 32 lanes, each with a starting value of its own and
each step mixed with the lane's upper bits. numpy does 2 GB/s on one processor, and plain Python 200 MB/s.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

Pages = bytes | memoryview

PAGE_SIZE = 8192
"""Of every PostgreSQL that was not built for another one."""

_PRIME = 16777619
_STARTS = struct.pack(
    "<32I",
    *(0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C),
    *(0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB),
    *(0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4),
    *(0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756),
)
_ROW = 128  # bytes: one 32-bit word for each lane
_ROWS = PAGE_SIZE // _ROW
_ROUNDS_OF_ZEROS = 2  # mix what came last
_BATCH = 32  # pages; big integers of more do not stay in a processor's cache


def page_checksums(pages: Pages, block: int) -> list[int]:
    """The checksum that each of some whole pages should carry, the first being block number ``block``.

    By numpy where it is installed.
    """
    return by_numpy(pages, block) if has_numpy() else by_integers(pages, block)


@cache
def has_numpy() -> bool:
    """Whether numpy can be had; this loads it."""
    try:
        import numpy  # noqa: F401
    except ImportError:
        return False
    return True


def by_numpy(pages: Pages, block: int) -> list[int]:
    """The checksums, by numpy, row by row of all pages."""
    import numpy as np

    # Any, as the types of numpy's newest releases are not for the oldest Python that this runs on.
    words: Any = np.frombuffer(pages, "<u4").reshape(-1, _ROWS, _ROW // 4)
    count = len(words)
    lanes: Any = np.tile(np.frombuffer(_STARTS, "<u4"), (count, 1))
    upper: Any = np.empty_like(lanes)
    first = words[:, 0].copy()
    first[:, 2] &= 0xFFFF0000  # takes the checksums themselves for zero
    nothing = np.zeros_like(first)
    for row in (first, *words.transpose(1, 0, 2)[1:], *[nothing] * _ROUNDS_OF_ZEROS):
        np.bitwise_xor(lanes, row, out=lanes)
        np.right_shift(lanes, 17, out=upper)
        np.multiply(lanes, _PRIME, out=lanes)
        np.bitwise_xor(lanes, upper, out=lanes)
    folded: Any = np.bitwise_xor.reduce(lanes, axis=1) ^ np.arange(block, block + count).astype("<u4")
    checksums: list[int] = (folded % 65535 + 1).tolist()
    return checksums


def by_integers(pages: Pages, block: int) -> list[int]:
    """The checksums, by big integers: they hold the lanes of all pages side by side, 64 bits apart, so that a
    multiplication cannot reach into the next lane."""
    step = PAGE_SIZE * _BATCH
    return [
        checksum
        for start in range(0, len(pages), step)
        for checksum in _batch_by_integers(pages[start : start + step], block + start // PAGE_SIZE)
    ]


def _batch_by_integers(pages: Pages, block: int) -> list[int]:
    count = len(pages) // PAGE_SIZE
    mask = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * (16 * count), "little")
    starts = int.from_bytes(_STARTS * count, "little")
    even, odd = starts & mask, starts >> 32 & mask
    for row in range(0, PAGE_SIZE, _ROW):
        words = int.from_bytes(b"".join([pages[at : at + _ROW] for at in range(row, len(pages), PAGE_SIZE)]), "little")
        if row == 0:
            words &= _without_checksums(count)
        even ^= words & mask
        odd ^= words >> 32 & mask
        even = (even * _PRIME ^ even >> 17) & mask
        odd = (odd * _PRIME ^ odd >> 17) & mask
    for _ in range(_ROUNDS_OF_ZEROS):
        even = (even * _PRIME ^ even >> 17) & mask
        odd = (odd * _PRIME ^ odd >> 17) & mask
    lanes = even ^ odd
    for distance in (512, 256, 128, 64):
        lanes ^= lanes >> distance
    folded = lanes.to_bytes(_ROW * count, "little")
    words_of_pages = (struct.unpack_from("<I", folded, page * _ROW)[0] for page in range(count))
    return [(word ^ (block + number & 0xFFFFFFFF)) % 65535 + 1 for number, word in enumerate(words_of_pages)]


def _without_checksums(count: int) -> int:
    """Mask of the first rows that takes the checksums themselves for zero."""
    return int.from_bytes((b"\xff" * 8 + b"\0\0" + b"\xff" * (_ROW - 10)) * count, "little")
