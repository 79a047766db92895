"""PostgreSQL's data pages: which files have them, and whether each carries the checksum that its content has.

Format: PageHeaderData in PostgreSQL's ``storage/bufpage.h``.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from airflow_backup_guard.core.page_checksums import PAGE_SIZE, page_checksums

_BLOCKS_IN_SEGMENT = (1 << 30) // PAGE_SIZE
_OTHER_SIZES = {1024, 2048, 4096, 16384, 32768}
_HEADER = struct.Struct("<IIHHHHHH")  # LSN (high, low), checksum, flags, lower, upper, special, size and version
_FILE = re.compile(
    r"(?:base/\d+|global|pg_tblspc/\d+/PG_[^/]+/\d+)/\d+(?:_(?:fsm|vm|init))?(?:\.(?P<segment>\d+))?", re.ASCII
)

_BATCH = 512  # pages: 4 MiB; numpy takes longer for fewer, each of its calls costing more than what it does
_MOST_NAMED = 3


@dataclass
class PageFindings:
    """What was found in one file: pages ``checked``; of those the numbers of ``wrong`` blocks, and of another size."""

    checked: int = 0
    wrong: list[int] = field(default_factory=list)
    other_size: int = 0

    def add(self, other: PageFindings) -> None:
        """Take in what was found in other pages of the same file."""
        self.checked += other.checked
        self.wrong += other.wrong
        self.other_size += other.other_size

    def __str__(self) -> str:
        blocks = ", ".join(map(str, sorted(self.wrong)[:_MOST_NAMED]))
        more = f" and {len(self.wrong) - _MOST_NAMED} more" if len(self.wrong) > _MOST_NAMED else ""
        return f"has a wrong page checksum in block {blocks}{more}"


def first_block(path: str) -> int | None:
    """Number of the first block in the file at ``path``, from the data directory; None if it has no pages."""
    match = _FILE.fullmatch(path)
    # 32 bits, as PostgreSQL's own, whatever number a file claims to have.
    return int(match["segment"] or 0) * _BLOCKS_IN_SEGMENT & 0xFFFFFFFF if match else None


class PageRun(NamedTuple):
    """Whole pages, the first of which has number ``block``: the first ``size`` bytes of ``pieces``."""

    block: int
    pieces: list[bytes]
    size: int


class WholePages:
    """Gathers the pages of a file that comes in pieces of any size, the first of which has number ``block``.

    What follows the last whole page is passed over: a file that was cut while it was read has its end in the WAL.
    """

    def __init__(self, block: int) -> None:
        self._block = block
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes, *, is_last: bool) -> PageRun | None:
        """The next piece; returns all pages that are whole and were not returned, once they are many or the last."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size < PAGE_SIZE * _BATCH and not is_last:
            return None
        left = self._size % PAGE_SIZE
        run = PageRun(self._block, self._pieces, self._size - left)
        begun = piece if left <= len(piece) else b"".join(self._pieces)
        self._pieces, self._size = [begun[len(begun) - left :]], left
        self._block += run.size // PAGE_SIZE
        return run


def check_pages(run: PageRun, start_lsn: int) -> PageFindings:
    """Check some pages of a file.

    The rule is that of PostgreSQL's own base backup: a page that was never filled has no checksum, and one that was
    written since ``start_lsn``, where the backup began, may be torn, which the WAL of the backup repairs.
    """
    found = PageFindings()
    pages = memoryview(b"".join(run.pieces))[: run.size]
    stored = {}
    for number in range(len(pages) // PAGE_SIZE):
        high, low, checksum, _, _, upper, _, size = _HEADER.unpack_from(pages, number * PAGE_SIZE)
        if upper and high << 32 | low < start_lsn:
            stored[number] = (checksum, size & 0xFF00)
    if not stored:
        return found
    found.checked = len(stored)
    computed = page_checksums(pages, run.block)
    for number, (checksum, size) in stored.items():
        if computed[number] != checksum:
            if size in _OTHER_SIZES:
                found.other_size += 1
            else:
                found.wrong.append(run.block + number)
    return found
