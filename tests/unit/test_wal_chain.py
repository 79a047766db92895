"""The chain of WAL records: what is whole passes, and no change to it does."""

from __future__ import annotations

import struct

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.engine.wal_chain import PAGE_SIZE, WalBroken, WalChain

SEGMENT = 1 << 20
START = LSN(5 * SEGMENT + 40)


class Writer:
    """Writes WAL as PostgreSQL lays it out, from the start of segment 5 on."""

    def __init__(self, timeline: int = 3) -> None:
        self.timeline = timeline
        self.data = bytearray()
        self.base = 5 * SEGMENT
        self.previous = 0
        self.starts: list[int] = []

    @property
    def lsn(self) -> int:
        return self.base + len(self.data)

    def record(self, content: bytes, *, info: int = 0, manager: int = 10) -> int:
        """One record; returns where it begins."""
        self._pad()
        if self.lsn % PAGE_SIZE == 0:
            self._page(0)
        at = self.lsn
        header = struct.pack("<IIQBB2x", 24 + len(content), 7, self.previous, info, manager)
        crc = google_crc32c.extend(google_crc32c.value(content), header)
        self._write(header + struct.pack("<I", crc) + content)
        self.previous = at
        self.starts.append(at)
        self._pad()
        return at

    def switch(self) -> int:
        """The record after which a segment stays empty."""
        at = self.record(b"", info=0x40, manager=0)
        self.data += bytes(-len(self.data) % SEGMENT)
        return at

    def _write(self, content: bytes) -> None:
        while content:
            room = -self.lsn % PAGE_SIZE
            if not room:
                self._page(len(content))
                room = -self.lsn % PAGE_SIZE
            self.data += content[:room]
            content = content[room:]

    def _page(self, left: int) -> None:
        first = self.lsn % SEGMENT == 0
        flags = (1 if left else 0) | (2 if first else 0)
        self.data += struct.pack("<HHIQI4x", 0xD118, flags, self.timeline, self.lsn, left)
        if first:
            self.data += struct.pack("<QII", 1234, SEGMENT, PAGE_SIZE)

    def _pad(self) -> None:
        self.data += bytes(-len(self.data) % 8)

    def pages(self) -> bytes:
        """All of it, the last page filled up with zeros."""
        return bytes(self.data) + bytes(-len(self.data) % PAGE_SIZE)


def follow(data: bytes, end: int, *, start: LSN = START, timeline: int = 3, major: int = 18, step: int = 65536) -> int:
    """Follow it in pieces of ``step`` bytes; returns the number of records."""
    chain = WalChain(major, timeline, start, LSN(end), SEGMENT)
    for at in range(0, len(data), step):
        chain.feed(5 * SEGMENT + at, data[at : at + step])
    chain.finish()
    return chain.records


def written(sizes: list[int]) -> Writer:
    """Records with contents of these sizes."""
    writer = Writer()
    for number, size in enumerate(sizes):
        writer.record(bytes([number % 256]) * size)
    return writer


SIZES = st.lists(st.one_of(st.integers(0, 200), st.integers(8000, 30000)), min_size=1, max_size=40)


@settings(max_examples=50)
@given(SIZES, st.sampled_from([PAGE_SIZE, 65536]))
def test_every_record_is_followed(sizes: list[int], step: int) -> None:
    """Of any length, across any number of pages, and wherever a page ends within its header."""
    writer = written(sizes)
    assert follow(writer.pages(), writer.lsn, step=step) == len(sizes)


def test_a_last_record_that_claims_to_go_on_is_broken() -> None:
    """A record's changed length is found where nothing follows, too."""
    writer = written([65, 0])
    pages = bytearray(writer.pages())
    pages[138] ^= 1
    with pytest.raises(WalBroken, match=r"the record at .* goes on beyond"):
        follow(bytes(pages), writer.lsn)


@settings(max_examples=100)
@given(SIZES, st.data())
def test_no_changed_bit_passes(sizes: list[int], data: st.DataObject) -> None:
    """In a record or in what makes a page; only padding, and how much of a record is left, say nothing new."""
    writer = written(sizes)
    pages = bytearray(writer.pages())
    position = data.draw(st.integers(0, len(writer.data) - 1))
    in_page = position % PAGE_SIZE
    if in_page >= (40 if position < 40 else 24):
        at = max((s - 5 * SEGMENT for s in writer.starts if s - 5 * SEGMENT <= position), default=0)
        size = 24 + sizes[writer.starts.index(at + 5 * SEGMENT)]
        headers = 24 * (position // PAGE_SIZE - at // PAGE_SIZE)
        if position - at - headers >= size:
            return
    elif not (in_page < 2 or 4 <= in_page < 16):
        return
    pages[position] ^= 0x80 if in_page in (4, 5, 6, 7) else 1
    with pytest.raises(WalBroken, match=r"[0-9A-F]+/[0-9A-F]+"):
        follow(bytes(pages), writer.lsn)


def test_a_segment_may_end_early_where_it_was_switched() -> None:
    """The rest of it is zeros, without so much as a page header; the chain goes on in the next."""
    writer = written([100] * 20)
    writer.switch()
    writer.record(b"in the next segment")
    assert follow(writer.pages(), writer.lsn) == 22


def test_the_range_begins_and_ends_in_the_middle_of_pages() -> None:
    """What lies before its start and after its end is not looked at."""
    writer = written([300] * 200)
    start, end = writer.starts[50], writer.starts[150]
    data = bytearray(writer.pages())
    data[writer.starts[10] - writer.base + 30] ^= 1
    data[writer.starts[160] - writer.base + 30] ^= 1
    assert follow(bytes(data), end, start=LSN(start)) == 100


def test_a_missing_page_or_end_is_told() -> None:
    """With the position, which leads to the segment."""
    writer = written([5000] * 30)
    pages = writer.pages()
    chain = WalChain(18, 3, START, LSN(writer.lsn), SEGMENT)
    chain.feed(5 * SEGMENT, pages[:PAGE_SIZE])
    with pytest.raises(WalBroken, match="has a gap from 0/502000 to 0/504000"):
        chain.feed(5 * SEGMENT + 2 * PAGE_SIZE, pages[2 * PAGE_SIZE :])
    with pytest.raises(WalBroken, match="ends at 0/504000, before"):
        follow(pages[: 2 * PAGE_SIZE], writer.lsn)


def test_pages_of_older_timelines_are_part_of_it_and_of_newer_ones_not() -> None:
    """A promotion goes on in a copy of the segment that it falls into."""
    writer = written([100] * 10)
    assert follow(writer.pages(), writer.lsn, timeline=4) == 10
    with pytest.raises(WalBroken, match="is of timeline 3, and not of 2"):
        follow(writer.pages(), writer.lsn, timeline=2)


def test_pages_of_another_version_are_told() -> None:
    """A PostgreSQL of another major version would not read them."""
    writer = written([100])
    with pytest.raises(WalBroken, match="begins with 0xd118, and not with 0xd116"):
        follow(writer.pages(), writer.lsn, major=17)
    assert follow(writer.pages(), writer.lsn, major=99) == 1


def test_what_a_crash_cut_off_is_dropped() -> None:
    """After a crash within a record PostgreSQL marks the next page, and goes on there."""
    writer = written([100, 20000])
    cut = writer.starts[1] // PAGE_SIZE * PAGE_SIZE + PAGE_SIZE
    again = Writer()
    again.base = cut
    again.record(b"after the crash")
    page = bytearray(again.pages())
    page[2] |= 0x08
    data = writer.pages()[: cut - 5 * SEGMENT] + bytes(page)
    assert follow(data, again.lsn) == 2
