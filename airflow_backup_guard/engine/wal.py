"""Stores the WAL that is written while a copy runs, segment by segment, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from types import TracebackType

from airflow_backup_guard.core.backup import Cluster, StoredPart
from airflow_backup_guard.core.pace import TokenBucket
from airflow_backup_guard.core.wal import LSN, segment_name
from airflow_backup_guard.engine.parts import PartStore, PartWriter
from airflow_backup_guard.errors import SourceBusy, SourceUnavailable, SourceUnsuitable
from airflow_backup_guard.postgres.replication import KeepGoing, ReplicationConnection
from airflow_backup_guard.postgres.slot import BackupSlot
from airflow_backup_guard.postgres.wal_stream import SystemIdentity, WalStream, identify_system

# A WAL sender that is always there is woken for every commit of the application, which costs that 2 % of a processor
# for each thousand commits a second. So one comes now and then, and the slot keeps the WAL in between.
_ROUND_SECONDS = 10.0
# Bytes per second: however slowly a copy is to read, its WAL must come to an end.
_LEAST_RATE = 16e6
# Rounds must be faster than the WAL is written.
_MARGIN = 1.5
_READ_SECONDS = 0.2
_BATCH_BYTES = 1 << 18
_SILENT_SECONDS = 30.0
_STALLED_SECONDS = 360.0  # what a write to a repository that hangs may take, with its retries
_JOIN_SECONDS = 2.0


def identify(connection: ReplicationConnection, expected: Cluster, keep_going: KeepGoing) -> SystemIdentity:
    """Who the server is, if it is the one that the snapshot was taken of; else raises :class:`SourceUnsuitable`."""
    found = identify_system(connection, keep_going)
    if (found.system_identifier, found.timeline) != (expected.system_identifier, expected.timeline):
        raise SourceUnsuitable(
            f"The connection leads to system {found.system_identifier} on timeline {found.timeline}, but the "
            f"snapshot was taken of system {expected.system_identifier} on timeline {expected.timeline}.",
            remedy="Run it again from the snapshot: there was a failover, or the connection was changed.",
        )
    return found


class WalArchive(AbstractContextManager["WalArchive"]):
    """Fetches WAL in rounds from entry to exit. What was not committed when it ends is dropped.

    A round that fails for the moment is followed by the next one: the slot keeps what is missing. A round reads at
    ``max_rate`` (16 MB/s at least), as all WAL of it at once would be a burst that transactions wait for; or faster, if
    WAL is written faster.
    """

    def __init__(
        self,
        connect: Callable[[], ReplicationConnection],
        slot: BackupSlot,
        store: PartStore,
        *,
        start: LSN,
        cluster: Cluster,
        max_rate: float,
    ) -> None:
        """The first segment is the one that holds ``start``; ``cluster`` is that of the snapshot.

        ``max_rate`` in bytes per second.
        """
        self._connect = connect
        self._slot = slot
        self._store = store
        self._cluster = cluster
        self._max_rate = max(max_rate, _LEAST_RATE)
        self._position = LSN(start - start % cluster.wal_segment_size)
        self._flushed: tuple[LSN, float] | None = None
        self._parts: list[StoredPart] = []
        self._segment: PartWriter | None = None
        self._end: LSN | None = None
        self._error: Exception | None = None
        self._trouble: Exception | None = None
        self.broke = False
        """Whether a session of its own was given up, which the server may not have heard of yet."""
        self._connection: ReplicationConnection | None = None
        self._heard_at = time.monotonic()
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self._complete = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wal-archive", daemon=True)

    def __enter__(self) -> WalArchive:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        # A repository that hangs must not hold up a stop; the thread ends by itself once its write does.
        self._thread.join(_JOIN_SECONDS)

    def cut(self) -> None:
        """From another thread: end its session, and begin no other."""
        self._closing.set()
        self._hurry.set()
        connection = self._connection
        if connection is not None:
            connection.cut()

    def check(self) -> None:
        """Raise what went wrong in the thread, if anything did."""
        if self._error is not None:
            raise self._error

    def finish(self, end: LSN, keep_going: KeepGoing) -> list[StoredPart]:
        """Wait until all WAL before ``end`` is stored; returns the segments in order."""
        self._end = end
        self._hurry.set()
        position, since = self._position, time.monotonic()
        while not self._complete.wait(_READ_SECONDS):
            keep_going()
            if self._position != position:
                position, since = self._position, time.monotonic()
            if time.monotonic() - since > _STALLED_SECONDS:
                why = f" ({self._trouble})" if self._trouble else ""
                raise SourceUnavailable(
                    f"WAL up to {end} is needed, and none came after {position} for {_STALLED_SECONDS:.0f} s{why}.",
                    remedy="Retry; if it stays, see the server's log, and how fast the repository writes.",
                )
        return self._parts

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._fetch()
                    self._trouble = None
                except (SourceUnavailable, SourceBusy) as error:
                    self._trouble, self.broke = error, True
                if self._closing.is_set():
                    return
                self._slot.release_before(self._position)
                if self._end is None:
                    self._hurry.wait(_ROUND_SECONDS)
                elif self._position >= self._end:
                    self._pad()
                    self._complete.set()
                    return
                else:
                    self._closing.wait(_READ_SECONDS)
        except Exception as error:  # the copy's thread raises it
            self._error = error
        finally:
            if self._segment is not None:
                with suppress(Exception):  # what is still open is invisible, and swept by whoever cleans up
                    self._segment.__exit__(None, None, None)

    def _fetch(self) -> None:
        """All WAL that the server has flushed by now."""
        with closing(self._connect()) as connection:
            self._connection = connection
            try:
                self._heard_at = time.monotonic()
                flushed = identify(connection, self._cluster, self._keep_going).flushed
                if flushed <= self._position:
                    return
                stream = WalStream(
                    connection, start=self._position, timeline=self._cluster.timeline, keep_going=self._keep_going
                )
                bucket = TokenBucket(self._rate(flushed), time.monotonic())
                released_at = time.monotonic()
                while self._position < flushed:
                    self._keep_going()
                    batch = self._batch(stream)
                    self._store_from(self._position, batch)
                    self._position = stream.position
                    if batch:  # only now: what the repository took its time for is not the server's silence
                        self._heard_at = time.monotonic()
                    bucket.take(len(batch), time.monotonic())
                    self._closing.wait(bucket.wait(time.monotonic()))
                    if time.monotonic() - released_at > _ROUND_SECONDS:
                        self._slot.release_before(self._position)
                        released_at = time.monotonic()
                stream.end(self._keep_going)
            finally:
                self._connection = None

    def _rate(self, flushed: LSN) -> float:
        """What is to be read each second, from how much was written since the last round began."""
        now = time.monotonic()
        before, self._flushed = self._flushed, (flushed, now)
        written = (flushed - before[0]) / max(now - before[1], _READ_SECONDS) if before else 0.0
        return max(self._max_rate, _MARGIN * written)

    def _batch(self, stream: WalStream) -> memoryview:
        """What has arrived, and if that is nothing, what comes next."""
        batch = bytearray(stream.read(_READ_SECONDS) or b"")
        while batch and len(batch) < _BATCH_BYTES and (more := stream.read(0)):
            batch += more
        return memoryview(batch)

    def _keep_going(self) -> None:
        if self._closing.is_set():
            raise SourceUnavailable("The copy has ended.")
        if time.monotonic() - self._heard_at > _SILENT_SECONDS:
            raise SourceUnavailable(f"The server has sent no WAL for {_SILENT_SECONDS:.0f} s.")

    def _store_from(self, position: LSN, data: memoryview) -> None:
        segment_size = self._cluster.wal_segment_size
        while data:
            room = segment_size - position % segment_size
            if self._segment is None:
                name = segment_name(self._cluster.timeline, position, segment_size)
                self._segment = self._store.writer("wal", name, f"wal/{name}")
            self._segment.write(data[:room])
            position, data = LSN(position + len(data[:room])), data[room:]
            if position % segment_size == 0:
                self._parts.append(self._segment.commit())
                self._segment = None

    def _pad(self) -> None:
        """Recovery wants whole segments; after the end of the backup there is nothing in them that it needs."""
        missing = -self._position % self._cluster.wal_segment_size
        if missing:
            self._store_from(self._position, memoryview(bytes(missing)))
