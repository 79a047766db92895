"""Page checksums: the value that PostgreSQL's description gives, and the pages that have one."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core import page_checksums
from airflow_backup_guard.core.page_checksums import PAGE_SIZE, by_integers, by_numpy
from airflow_backup_guard.core.pages import WholePages, check_pages, first_block

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


@pytest.mark.parametrize("size", [1, 100, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 131_072, 99_999, 3 << 20])
def test_a_page_may_be_in_two_pieces(size: int) -> None:
    """Each page is in one run, with its number, whatever the pieces are; what is no whole page is in none."""
    content = random.Random(size).randbytes(40 * PAGE_SIZE)
    end = content + b"half a page"
    pages = WholePages(131072)
    found = {}
    for at in range(0, len(end), size):
        for block, run in pages.feed(end[at : at + size]):
            assert len(run) % PAGE_SIZE == 0
            for start in range(0, len(run), PAGE_SIZE):
                found[block + start // PAGE_SIZE] = run[start : start + PAGE_SIZE]
    assert list(found) == list(range(131072, 131072 + 40))
    assert b"".join(found.values()) == content


def test_a_wrong_page_is_named_by_its_block() -> None:
    """Also far into a file; the block is part of what is summed."""
    right = [page(number, block=131072 + number) for number in range(300)]
    assert check_pages(b"".join(right), 131072, START).wrong == []
    assert check_pages(b"".join(right), 0, START).wrong == list(range(300))
    for number in (298, 299):
        right[number] = flipped(right[number], 5000)
    found = check_pages(b"".join(right[290:]), 131072 + 290, START)
    assert (found.checked, found.wrong) == (10, [131072 + 298, 131072 + 299])
    found.add(check_pages(b"".join(right[:290]), 131072 + 1, START))
    assert (found.checked, len(found.wrong)) == (300, 292)
    assert str(found) == "has a wrong page checksum in block 131073, 131074, 131075 and 289 more"


def test_pages_that_replay_repairs_or_that_are_new_are_passed_over() -> None:
    """What was written since the backup began may be torn; what was never filled has no checksum."""
    torn = flipped(page(0, lsn=START), 4096)
    unfilled = page(1, upper=0)[:8] + b"\0\0" + page(1, upper=0)[10:]
    found = check_pages(torn + unfilled + bytes(PAGE_SIZE) + page(3), 0, START)
    assert (found.checked, found.wrong) == (1, [])
    assert check_pages(flipped(page(0, lsn=START - 1), 4096), 0, START).wrong == [0]


def test_pages_of_another_size_are_no_damage() -> None:
    """A PostgreSQL may be built with other pages, which cannot be checked here."""
    found = check_pages(flipped(page(0, size=32768), 5000), 0, START)
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
