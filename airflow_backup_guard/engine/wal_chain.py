"""Follows the WAL of a backup from record to record: is it whole, in order, and PostgreSQL's?

Format: XLogPageHeaderData in PostgreSQL's ``access/xlog_internal.h`` and XLogRecord in ``access/xlogrecord.h``, as
little-endian servers write them.
"""

from __future__ import annotations

import struct

import google_crc32c

from airflow_backup_guard.core.wal import LSN

PAGE_SIZE = 8192

_PAGE = struct.Struct("<HHIQI")  # magic, flags, timeline, address, bytes left of the record that continues here
_SHORT_HEADER, _LONG_HEADER = 24, 40
_IS_LONG, _DROPS_RECORD = 0x0002, 0x0008
_MAGIC = {15: 0xD110, 16: 0xD113, 17: 0xD116, 18: 0xD118}
_RECORD = struct.Struct("<IIQBB2xI")  # length, transaction, previous record, info, resource manager, CRC-32C
_CRC_AT = 20
_LONGEST = 1020 << 20
_SWITCH = (0x40, 0)  # info and resource manager of the record that leaves the rest of a segment empty


class WalBroken(ValueError):
    """What is wrong with the WAL, and where."""


class WalChain:
    """The WAL from ``start`` to ``end`` on ``timeline``; give it every page in order. ``major`` is PostgreSQL's.

    A page or record that is not as it must be raises :class:`WalBroken`; so does :meth:`finish` if an end is missing.
    ``end`` is where a record ends, as that of a backup is.
    """

    def __init__(self, major: int, timeline: int, start: LSN, end: LSN, segment_size: int) -> None:
        self._magic = _MAGIC.get(major)
        self._timeline = timeline
        self._start, self._end = start, end
        self._segment_size = segment_size
        self._next_page = start - start % PAGE_SIZE
        self._pieces: list[bytes] = []  # of a record that is not whole yet
        self._have, self._need = 0, 0
        self._record_at = start
        self._previous: int | None = None
        self.records = 0

    def feed(self, address: int, data: bytes) -> None:
        """Take whole pages, the first of which belongs at ``address``; those outside of the range are passed over."""
        for offset in range(0, len(data), PAGE_SIZE):
            at = address + offset
            if self._next_page <= at < self._end:
                self._page(at, data[offset : offset + PAGE_SIZE])

    def finish(self) -> None:
        """All pages were given."""
        if self._next_page < self._end:
            raise WalBroken(f"the WAL ends at {LSN(self._next_page)}, before {self._end}")
        if self._need:
            raise WalBroken(f"the record at {self._record_at} goes on beyond {self._end}, where the WAL ends")

    def _page(self, at: int, page: bytes) -> None:
        if at != self._next_page:
            raise WalBroken(f"the WAL has a gap from {LSN(self._next_page)} to {LSN(at)}")
        if len(page) < PAGE_SIZE:
            raise WalBroken(f"the page at {LSN(at)} is cut short")
        magic, flags, timeline, address, _ = _PAGE.unpack_from(page)
        if self._magic is None:
            self._magic = magic
        if magic != self._magic:
            raise WalBroken(f"the page at {LSN(at)} begins with {magic:#06x}, and not with {self._magic:#06x}")
        if address != at:
            raise WalBroken(f"the page at {LSN(at)} is that of {LSN(address)}")
        if timeline > self._timeline:
            raise WalBroken(f"the page at {LSN(at)} is of timeline {timeline}, and not of {self._timeline}")
        header = _LONG_HEADER if flags & _IS_LONG else _SHORT_HEADER
        if flags & _DROPS_RECORD:  # a server crashed in the middle of a record, and began another one here
            self._pieces, self._have, self._need, self._previous = [], 0, 0, None
        skipped = max(header, self._start - at)
        self._next_page = at + PAGE_SIZE
        if not self._pieces:
            self._record_at = LSN(at + skipped)
        before = self._have
        self._pieces.append(page[skipped:])
        self._have += PAGE_SIZE - skipped
        if self._have >= self._need:
            self._walk(at + skipped - before)

    def _walk(self, base: int) -> None:
        """Check the records that are whole; all but the first begin in the last page, ``base`` before their offset."""
        data, position = b"".join(self._pieces), 0
        self._need = 0
        while len(data) - position >= _RECORD.size:
            at = self._record_at
            if at >= self._end:
                break
            length, _, previous, info, manager, crc = _RECORD.unpack_from(data, position)
            if not _RECORD.size <= length <= _LONGEST:
                raise WalBroken(f"there is no record at {at}")
            if self._previous is not None and previous != self._previous:
                raise WalBroken(f"the record at {at} follows {LSN(previous)}, and not {LSN(self._previous)}")
            if len(data) - position < length:
                self._need = length
                break
            content = data[position + _RECORD.size : position + length]
            header = data[position : position + _CRC_AT]
            if google_crc32c.extend(google_crc32c.value(content), header) != crc:
                raise WalBroken(f"the record at {at} does not have the CRC that it was written with")
            self.records += 1
            self._previous = at
            position += -(-length // 8) * 8
            self._record_at = LSN(base + position)
            if (info & 0xF0, manager) == _SWITCH:
                position = len(data)
                self._next_page += -self._next_page % self._segment_size
        self._pieces = [data[position:]] if position < len(data) else []
        self._have = len(data) - position
