"""Looks into the WAL segments of one backup: each for itself, and as the chain that recovery will read."""

from __future__ import annotations

import io

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.wal import parse_segment_header, segment_name, segment_names
from airflow_backup_guard.engine.wal_chain import WalBroken, WalChain

_CHUNK = 1 << 20


class WalSegments:
    """Give it every segment in order, those that recovery needs are ``names``, then :meth:`finish`.

    ``broken`` says what is wrong with the chain, ``missed`` which segment was first not to be seen, after which it is
    not followed; both are empty if all is right.
    """

    def __init__(self, record: BackupRecord) -> None:
        cluster = record.snapshot.cluster
        self._segment_size = cluster.wal_segment_size
        self._chain = WalChain(cluster.major, record.timeline, record.start_lsn, record.end_lsn, self._segment_size)
        self.names = list(segment_names(record.timeline, record.start_lsn, record.end_lsn, self._segment_size))
        self.system_identifiers: set[str] = set()
        self.broken = ""
        self.missed = ""

    @property
    def records(self) -> int:
        """How many records were followed."""
        return self._chain.records

    def look(self, name: str, content: io.BufferedIOBase) -> str:
        """Read a segment to its end; returns what is wrong with it."""
        chunk = content.read(_CHUNK)
        problem = ""
        try:
            header = parse_segment_header(chunk)
            self.system_identifiers.add(header.system_identifier)
            # Its first pages may be of an older timeline: a promotion goes on in a copy of the segment it falls into.
            if segment_name(int(name[:8], 16), header.start, self._segment_size) != name:
                problem = f"holds WAL from {header.start}, which is not {name}"
        except ValueError as error:
            problem = str(error)
        size = 0
        while chunk:
            problem = problem or self._follow(header.start + size, chunk)
            size += len(chunk)
            chunk = content.read(_CHUNK)
        if size != self._segment_size:
            problem = problem or f"holds {size} bytes, and a segment has {self._segment_size}"
        return problem

    def miss(self, name: str) -> None:
        """A segment could not be looked at, or is not what it was."""
        self.missed = self.missed or name

    def finish(self) -> None:
        """All segments were given."""
        if not self.broken and not self.missed:
            try:
                self._chain.finish()
            except WalBroken as error:
                self.broken = str(error)

    def _follow(self, address: int, data: bytes) -> str:
        if self.broken or self.missed:
            return ""
        try:
            self._chain.feed(address, data)
        except WalBroken as error:
            self.broken = str(error)
        return self.broken
