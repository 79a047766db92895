"""WAL, streamed from the server that has written it."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import SourceUnavailable
from airflow_backup_guard.postgres.replication import KeepGoing, ReplicationConnection

_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
_STATUS_SECONDS = 10.0
_WAL_HEADER = struct.Struct("!cQQq")
_KEEPALIVE = struct.Struct("!cQqB")


@dataclass(frozen=True)
class SystemIdentity:
    """The answer to IDENTIFY_SYSTEM."""

    system_identifier: str
    timeline: int
    flushed: LSN


def identify_system(connection: ReplicationConnection, keep_going: KeepGoing) -> SystemIdentity:
    """Who the server is."""
    ((identifier, timeline, flushed, _),) = connection.query("IDENTIFY_SYSTEM", keep_going)
    return SystemIdentity(identifier or "", int(timeline or 0), LSN.parse(flushed or ""))


class WalStream:
    """WAL from ``start`` on; ``position`` is where the next byte belongs."""

    def __init__(self, connection: ReplicationConnection, *, start: LSN, timeline: int, keep_going: KeepGoing) -> None:
        """Begin to stream."""
        self._connection = connection
        self._reported_at = time.monotonic()
        self.position = start
        connection.send(f"START_REPLICATION PHYSICAL {start} TIMELINE {timeline}")
        connection.begin_copy(keep_going)

    def read(self, timeout: float) -> memoryview | None:
        """The next bytes of WAL, or None if none came within ``timeout`` seconds. Answers the server's keepalives."""
        message = self._connection.copy_data(timeout)
        if time.monotonic() - self._reported_at > _STATUS_SECONDS:
            self._report()
        if message is None:
            return None
        if isinstance(message, bool):
            raise SourceUnavailable(
                "The server ended the stream of WAL: it was shut down, or is now on another timeline.",
                remedy="Retry; a new backup starts on the new timeline.",
            )
        if bytes(message[:1]) == b"k":
            _, _, _, reply_wanted = _KEEPALIVE.unpack(message[: _KEEPALIVE.size])
            if reply_wanted:
                self._report()
            return None
        _, start, _, _ = _WAL_HEADER.unpack(message[: _WAL_HEADER.size])
        if start != self.position:
            raise SourceUnavailable(f"The stream of WAL jumped from {self.position} to {LSN(start)}.")
        data = message[_WAL_HEADER.size :]
        self.position = LSN(self.position + len(data))
        return data

    def end(self, keep_going: KeepGoing) -> None:
        """Take leave of the server, which writes of clients that vanish in its log."""
        self._connection.end_copy(keep_going)

    def _report(self) -> None:
        now = int((datetime.now(timezone.utc) - _EPOCH).total_seconds() * 1_000_000)
        # We report no position as flushed: with synchronous_standby_names = '*' a session that
        # does would be taken for a synchronous standby, and commits would wait for it.
        self._connection.put_copy_data(struct.pack("!cQQQqB", b"r", self.position, 0, 0, now, 0))
        self._reported_at = time.monotonic()
