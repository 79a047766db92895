"""The write-ahead log: positions in it, the segments that hold it, and how a segment begins."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_TEXT = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", re.ASCII)

_LONG_HEADER = struct.Struct("<HHIQI4xQII")
_HAS_LONG_HEADER = 0x0002


class LSN(int):
    """A log sequence number: a byte position in the WAL, written ``16/B374D848`` as PostgreSQL does."""

    @classmethod
    def parse(cls, text: str) -> LSN:
        """Read ``"16/B374D848"``; raises ``ValueError`` for anything else."""
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{text!r} is not an LSN such as 16/B374D848")
        return cls(int(match[1], 16) << 32 | int(match[2], 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def read(value: Any) -> LSN:
            return value if isinstance(value, LSN) else cls.parse(value)

        return core_schema.no_info_plain_validator_function(read, serialization=core_schema.to_string_ser_schema())


def segment_name(timeline: int, lsn: int, segment_size: int) -> str:
    """Name of the WAL segment that holds ``lsn``; ``segment_size`` in bytes.

    Format: XLogFileName in PostgreSQL's ``access/xlog_internal.h``.
    """
    number = lsn // segment_size
    per_file_id = 0x1_0000_0000 // segment_size
    return f"{timeline:08X}{number // per_file_id:08X}{number % per_file_id:08X}"


def segment_names(timeline: int, start: int, end: int, segment_size: int) -> Iterator[str]:
    """Names of all segments that recovery reads from ``start`` up to, not including, ``end``."""
    for position in range(start - start % segment_size, end, segment_size):
        yield segment_name(timeline, position, segment_size)


@dataclass(frozen=True)
class SegmentHeader:
    """What a segment says of itself; ``segment_size`` in bytes."""

    timeline: int
    start: LSN
    system_identifier: str
    segment_size: int


def parse_segment_header(data: bytes) -> SegmentHeader:
    """Read the first 40 bytes of a segment; raises ``ValueError`` if they are no such thing.

    Format: XLogLongPageHeaderData in PostgreSQL's ``access/xlog_internal.h``, as little-endian servers write it.
    """
    if len(data) < _LONG_HEADER.size:
        raise ValueError("the segment is shorter than its header")
    _, flags, timeline, start, _, identifier, size, _ = _LONG_HEADER.unpack(data[: _LONG_HEADER.size])
    if not flags & _HAS_LONG_HEADER:
        raise ValueError("the segment does not begin with a WAL page header")
    return SegmentHeader(timeline, LSN(start), str(identifier), size)
