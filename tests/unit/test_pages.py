"""Page checksums: the value that PostgreSQL's description gives, and the pages that have one."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core import page_checksums
from airflow_backup_guard.core.page_checksums import PAGE_SIZE, by_integers, by_numpy
from airflow_backup_guard.core.pages import PageFindings, PageRun, WholePages, check_pages, first_block

START = 0x16_0000_1000


def by_the_word(page: bytes, block: int) -> int:
    """The checksum as it is described: 32 lanes, word by word; the slow way."""
    lanes = list(struct.unpack("<32I", page_checksums._STARTS))
    words = struct.unpack("<2048I", page[:8] + b"\0\0" + page[10:])
    for row in [*(words[at : at + 32] for at in range(0, 2048, 32)), (0,) * 32, (0,) * 32]:
        for lane, word in enumerate(row):
            mixed = lanes[lane] ^ word
            lanes[lane] = (mixed * 16777619 ^ mixed >> 17) & 0xFFFFFFFF
    folded = 0
    for lane in lanes:
        folded ^= lane
    return (folded ^ block) % 65535 + 1


def page(
    number: int, *, lsn: int = START - 8, upper: int = 8000, block: int | None = None, size: int = PAGE_SIZE
) -> bytes:
    """A page of noise, with the checksum that it should have as ``block`` (``number`` if None)."""
    header = struct.pack("<IIHHHHHH", lsn >> 32, lsn & 0xFFFFFFFF, 0, 0, 24, upper, PAGE_SIZE, size | 4)
    content = header + random.Random(number).randbytes(PAGE_SIZE - len(header))
    return sealed(content, number if block is None else block)


def sealed(content: bytes, block: int) -> bytes:
    """The same with the right checksum in it."""
    return content[:8] + struct.pack("<H", by_the_word(content, block)) + content[10:]


def flipped(content: bytes, position: int) -> bytes:
    """The same with one bit changed."""
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 2**32 - 6), st.integers(0, 2**32))
def test_many_pages_at_once_are_what_one_at_a_time_is(count: int, block: int, seed: int) -> None:
    """The lanes of one page never reach into another's, whatever is in them; also for the highest block number."""
    chance = random.Random(seed)
    content = b"".join(chance.choice([chance.randbytes(PAGE_SIZE), b"\xff" * PAGE_SIZE]) for _ in range(count))
    one_by_one = [by_the_word(content[n * PAGE_SIZE : (n + 1) * PAGE_SIZE], block + n) for n in range(count)]
    assert by_integers(content, block) == one_by_one
    assert by_numpy(content, block) == one_by_one


def test_both_ways_agree_on_many_pages() -> None:
    """More than either takes at once, up to the last block number that there can be."""
    content = random.Random(1).randbytes(PAGE_SIZE * 300)
    for block in (0, 2**32 - 300):
        assert by_integers(content, block) == by_numpy(content, block)


def checked(content: bytes, block: int) -> PageFindings:
    """What is found in whole pages."""
    return check_pages(PageRun(block, [content], len(content)), START)


@pytest.mark.parametrize("size", [1000, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 131_072, 99_999, 1 << 20, 9 << 20])
@pytest.mark.parametrize("end", [b"", b"half a page"])
def test_pages_are_gathered(size: int, end: bytes) -> None:
    """Each page is in one run, with its number, whatever the pieces are; what is no whole page is in none."""
    content = random.Random(size).randbytes(1100 * PAGE_SIZE)
    whole = content + end
    pages = WholePages(131072)
    found = []
    for at in range(0, len(whole), size):
        run = pages.feed(whole[at : at + size], is_last=at + size >= len(whole))
        if run is not None:
            assert run.block == 131072 + sum(map(len, found)) // PAGE_SIZE
            found.append(b"".join(run.pieces)[: run.size])
            assert len(found[-1]) == run.size
            assert run.size % PAGE_SIZE == 0
    assert b"".join(found) == content
    assert len(found) <= 3  # few and large


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE - 1])
def test_a_file_may_have_no_whole_page(size: int) -> None:
    """Then there is nothing to check."""
    run = WholePages(0).feed(bytes(size), is_last=True)
    assert run is not None
    assert check_pages(run, START).checked == 0


def test_a_wrong_page_is_named_by_its_block() -> None:
    """Also far into a file; the block is part of what is summed."""
    right = [page(number, block=131072 + number) for number in range(600)]
    assert checked(b"".join(right), 131072).wrong == []
    assert checked(b"".join(right), 0).wrong == list(range(600))
    for number in (511, 512, 599):
        right[number] = flipped(right[number], 5000)
    found = checked(b"".join(right[290:]), 131072 + 290)
    assert (found.checked, found.wrong) == (310, [131072 + 511, 131072 + 512, 131072 + 599])
    found.add(checked(b"".join(right[:290]), 131072 + 1))
    assert (found.checked, len(found.wrong)) == (600, 293)
    assert str(found) == "has a wrong page checksum in block 131073, 131074, 131075 and 290 more"


def test_without_numpy_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setattr(page_checksums, "has_numpy", lambda: False)
    content = b"".join(page(number, block=number if number % 5 else number + 1) for number in range(40))
    assert (checked(content, 0).checked, checked(content, 0).wrong) == (40, list(range(0, 40, 5)))


def test_pages_that_replay_repairs_or_that_are_new_are_passed_over() -> None:
    """What was written since the backup began may be torn; what was never filled has no checksum."""
    torn = flipped(page(0, lsn=START), 4096)
    unfilled = page(1, upper=0)[:8] + b"\0\0" + page(1, upper=0)[10:]
    found = checked(torn + unfilled + bytes(PAGE_SIZE) + page(3), 0)
    assert (found.checked, found.wrong) == (1, [])
    assert checked(flipped(page(0, lsn=START - 1), 4096), 0).wrong == [0]


def test_pages_of_another_size_are_no_damage() -> None:
    """A PostgreSQL may be built with other pages, which cannot be checked here."""
    found = checked(flipped(page(0, size=32768), 5000), 0)
    assert (found.wrong, found.other_size) == ([], 1)


@pytest.mark.parametrize(
    ("path", "block"),
    [
        ("base/5/1259", 0),
        ("base/5/1259_fsm", 0),
        ("base/5/16384.2", 262144),
        ("base/5/16384_vm.1", 131072),
        ("base/5/16384_init", 0),
        ("global/1262", 0),
        ("pg_tblspc/16395/PG_18_202506291/5/16400", 0),
        ("base/5/PG_VERSION", None),
        ("base/5/pg_filenode.map", None),
        ("global/pg_control", None),
        ("pg_xact/0000", None),
        ("base/5/1259.tmp", None),
        ("pg_wal/000000010000000000000001", None),
    ],
)
def test_only_files_of_relations_have_pages(path: str, block: int | None) -> None:
    """The same files that pg_checksums looks into, with the number of the first block in each segment."""
    assert first_block(path) == block


@pytest.mark.parametrize("segment", [1 << 15, 999_999_999_999_999_999])
def test_a_number_that_no_segment_has_is_no_error(segment: int) -> None:
    """Block numbers have 32 bits, whatever an archive names its files; both ways go on counting from zero."""
    block = first_block(f"base/1/1.{segment}")
    assert block is not None
    assert block == segment * (1 << 17) % (1 << 32)
    pages = random.Random(3).randbytes(3 * PAGE_SIZE)
    for first in (block, (1 << 32) - 2):
        assert by_numpy(pages, first) == by_integers(pages, first)
