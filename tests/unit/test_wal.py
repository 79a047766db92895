"""Log sequence numbers, names of segments, and the header that a segment begins with."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.wal import LSN, SegmentHeader, parse_segment_header, segment_name, segment_names

MEGABYTE = 1 << 20
SIZES = st.sampled_from([MEGABYTE << power for power in range(11)])


@pytest.mark.parametrize(
    ("text", "number"),
    [("0/0", 0), ("0/2000028", 0x2000028), ("16/B374D848", 0x16B374D848), ("FFFFFFFF/FFFFFFFF", 2**64 - 1)],
)
def test_an_lsn_is_written_as_postgresql_does(text: str, number: int) -> None:
    """Upper-case hex without leading zeros, in messages too."""
    lsn = LSN.parse(text)
    assert lsn == number
    assert str(lsn) == f"{lsn}" == text


@given(st.integers(0, 2**64 - 1))
def test_an_lsn_survives_its_text(number: int) -> None:
    """Every position can be written and read, in lower case as well."""
    assert LSN.parse(str(LSN(number))) == number
    assert LSN.parse(str(LSN(number)).lower()) == number


@pytest.mark.parametrize(
    "text",
    ["", "0", "0/", "/0", "0/0/0", " 0/0", "0/0\n", "G/0", "0x1/0", "100000000/0", "0/123456789", "-1/0", 5, None],
)
def test_what_is_no_lsn_is_refused(text: Any) -> None:
    """Always with a ValueError, whatever a damaged record holds in its place."""
    with pytest.raises(ValueError, match="is not an LSN such as 16/B374D848"):
        LSN.parse(text)


@pytest.mark.parametrize(
    ("timeline", "lsn", "megabytes", "name"),
    [
        (1, "0/1000000", 16, "000000010000000000000001"),
        (1, "0/2000028", 16, "000000010000000000000002"),
        (1, "16/B374D848", 16, "0000000100000016000000B3"),
        (1, "16/B3FFFFFF", 16, "0000000100000016000000B3"),
        (1, "16/B4000000", 16, "0000000100000016000000B4"),
        (1, "0/FFFFFFFF", 16, "0000000100000000000000FF"),
        (1, "1/0", 16, "000000010000000100000000"),
        (0x1F, "ABCDEF01/23456789", 16, "0000001FABCDEF0100000023"),
        (1, "16/B374D848", 64, "00000001000000160000002C"),
        (1, "0/FFFFFFFF", 64, "00000001000000000000003F"),
        (1, "1/0", 64, "000000010000000100000000"),
        (1, "16/B374D848", 1, "000000010000001600000B37"),
        (1, "0/FFFFFFFF", 1, "000000010000000000000FFF"),
        (2, "3/0", 1024, "000000020000000300000000"),
        (2, "3/FFFFFFFF", 1024, "000000020000000300000003"),
    ],
)
def test_segments_are_named_as_postgresql_does(timeline: int, lsn: str, megabytes: int, name: str) -> None:
    """As pg_walfile_name() says, for the usual size of segments and for others."""
    assert segment_name(timeline, LSN.parse(lsn), megabytes * MEGABYTE) == name


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**64 - 1), SIZES)
def test_names_sort_as_the_wal_does(timeline: int, lsn: int, size: int) -> None:
    """24 hex digits that hold the timeline and grow from one segment to the next."""
    name, following = segment_name(timeline, lsn, size), segment_name(timeline, lsn + size, size)
    assert len(name) == 24
    assert int(name[:8], 16) == timeline
    assert int(name[8:16], 16) == lsn >> 32
    if lsn + size < 2**64:
        assert name < following


@pytest.mark.parametrize(
    ("start", "end", "numbers"),
    [
        ("0/2000028", "0/2000100", [2]),
        ("0/2000028", "0/3000000", [2]),
        ("0/2000028", "0/3000001", [2, 3]),
        ("0/2FFFFFF", "0/5000000", [2, 3, 4]),
        ("0/2000000", "0/2000000", []),
    ],
)
def test_recovery_needs_every_segment_of_its_range(start: str, end: str, numbers: list[int]) -> None:
    """The end is not part of the range, so a range that ends where a segment begins does without it."""
    names = list(segment_names(7, LSN.parse(start), LSN.parse(end), 16 * MEGABYTE))
    assert names == [f"0000000700000000{number:08X}" for number in numbers]


@given(st.integers(0, 2**40), st.integers(1, 64 * MEGABYTE), SIZES)
def test_a_range_has_no_gaps(start: int, length: int, size: int) -> None:
    """First and last byte have their segments, and there are no more than are needed."""
    names = list(segment_names(1, start, start + length, size))
    assert names[0] == segment_name(1, start, size)
    assert names[-1] == segment_name(1, start + length - 1, size)
    assert len(set(names)) == len(names) == (start + length - 1) // size - start // size + 1


def header(flags: int = 0x0002) -> bytes:
    """A page header as PostgreSQL 18 writes at the start of a segment on x86, field by field."""
    return b"".join(
        [
            struct.pack("<H", 0xD118),  # xlp_magic
            struct.pack("<H", flags),  # xlp_info; 0x0002 is XLP_LONG_HEADER
            struct.pack("<I", 3),  # xlp_tli
            struct.pack("<Q", 0x16B3000000),  # xlp_pageaddr
            struct.pack("<I", 77),  # xlp_rem_len
            b"\xff" * 4,  # padding, which may hold anything
            struct.pack("<Q", 2**64 - 5),  # xlp_sysid
            struct.pack("<I", 16 * MEGABYTE),  # xlp_seg_size
            struct.pack("<I", 8192),  # xlp_xlog_blcksz
        ]
    )


@pytest.mark.parametrize("flags", [0x0002, 0x0003, 0x0007])
def test_a_segment_tells_what_it_is(flags: int) -> None:
    """Also if a record continues into it, which is another flag."""
    found = parse_segment_header(header(flags) + b"records")
    assert found == SegmentHeader(3, LSN.parse("16/B3000000"), str(2**64 - 5), 16 * MEGABYTE)
    assert isinstance(found.start, LSN)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter than its header"),
        (header()[:-1], "shorter than its header"),
        (bytes(8192), "does not begin with a WAL page header"),
        (header(0x0001), "does not begin with a WAL page header"),
    ],
    ids=["empty", "cut", "zeros", "not the first page"],
)
def test_what_is_no_segment_is_refused(data: bytes, why: str) -> None:
    """A segment that was never written, or is another page, is not taken for one."""
    with pytest.raises(ValueError, match=why):
        parse_segment_header(data)
