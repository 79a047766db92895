"""Stores the WAL that is written while a copy runs, segment by segment, in a thread of its own."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, suppress
from types import TracebackType

from airflow_backup_guard.core.backup import StoredPart
from airflow_backup_guard.core.wal import LSN, segment_name
from airflow_backup_guard.engine.parts import PartStore, PartWriter
from airflow_backup_guard.errors import SourceUnavailable
from airflow_backup_guard.postgres.replication import KeepGoing, ReplicationConnection
from airflow_backup_guard.postgres.wal_stream import WalStream

_READ_SECONDS = 0.2
# The server sends a message for each commit. Taken one by one they would wake this thread as often, at the cost of the
# application's own processes where they share a processor; taken in batches, they are still read before they pile up.
_BATCH_SECONDS = float(__import__("os").environ.get("BGW", "0.005"))
_BATCH_BYTES = 1 << 16
_STALLED_SECONDS = 360.0  # what a write to a repository that hangs may take, with its retries
_JOIN_SECONDS = 2.0


class WalArchive(AbstractContextManager["WalArchive"]):
    """Receives WAL from entry to exit. What was not committed when it ends is dropped."""

    def __init__(
        self,
        connection: ReplicationConnection,
        store: PartStore,
        *,
        start: LSN,
        timeline: int,
        segment_size: int,
    ) -> None:
        """``segment_size`` in bytes; the first segment is the one that holds ``start``."""
        self._connection = connection
        self._store = store
        self._first = LSN(start - start % segment_size)
        self._timeline = timeline
        self._segment_size = segment_size
        self._parts: list[StoredPart] = []
        self._segment: PartWriter | None = None
        self._end: LSN | None = None
        self._error: Exception | None = None
        self._position = self._first
        self.behind = 0
        """Bytes of WAL that the server has written and we have not stored."""
        self._closing = threading.Event()
        self._complete = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wal-archive", daemon=True)

    def __enter__(self) -> WalArchive:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        # A repository that hangs must not hold up a stop; the thread ends by itself once its write does.
        self._thread.join(_JOIN_SECONDS)

    def check(self) -> None:
        """Raise what went wrong in the thread, if anything did."""
        if self._error is not None:
            raise self._error

    def finish(self, end: LSN, keep_going: KeepGoing) -> list[StoredPart]:
        """Wait until all WAL before ``end`` is stored; returns the segments in order.

        The session lives on until the archive is left, as the cluster is held by it.
        """
        self._end = end
        position, since = self._position, time.monotonic()
        while not self._complete.wait(_READ_SECONDS):
            keep_going()
            if self._position != position:
                position, since = self._position, time.monotonic()
            if time.monotonic() - since > _STALLED_SECONDS:
                raise SourceUnavailable(
                    f"WAL up to {end} is needed, and none came after {position} for {_STALLED_SECONDS:.0f} s.",
                    remedy="Retry; if it stays, see the server's log, and how fast the repository writes.",
                )
        return self._parts

    def _run(self) -> None:
        try:
            stream = WalStream(
                self._connection, start=self._first, timeline=self._timeline, keep_going=self._keep_going
            )
            while not self._closing.is_set():
                position = stream.position
                batch = self._batch(stream)
                if self._complete.is_set():
                    continue
                if batch:
                    self._store_from(position, memoryview(batch))
                    self._position = stream.position
                self.behind = max(stream.server_position - stream.position, 0)
                if self._end is not None and stream.position >= self._end:
                    self._pad(stream.position)
                    self._complete.set()
                elif len(batch) < _BATCH_BYTES:
                    time.sleep(_BATCH_SECONDS)
        except Exception as error:  # the copy's thread raises it
            self._error = error
        finally:
            if self._segment is not None:
                with suppress(Exception):  # what is still open is invisible, and swept by whoever cleans up
                    self._segment.__exit__(None, None, None)

    @staticmethod
    def _batch(stream: WalStream) -> bytearray:
        """What has arrived, and if that is nothing, what comes next."""
        batch = bytearray(stream.read(_READ_SECONDS) or b"")
        while batch and len(batch) < _BATCH_BYTES and (more := stream.read(0)):
            batch += more
        return batch

    def _keep_going(self) -> None:
        if self._closing.is_set():
            raise SourceUnavailable("The copy ended before its WAL began to stream.")

    def _store_from(self, position: LSN, data: memoryview) -> None:
        while data:
            room = self._segment_size - position % self._segment_size
            if self._segment is None:
                name = segment_name(self._timeline, position, self._segment_size)
                self._segment = self._store.writer("wal", name, f"wal/{name}")
            self._segment.write(data[:room])
            position, data = LSN(position + len(data[:room])), data[room:]
            if position % self._segment_size == 0:
                self._parts.append(self._segment.commit())
                self._segment = None

    def _pad(self, position: LSN) -> None:
        """Recovery wants whole segments; after the end of the backup there is nothing in them that it needs."""
        missing = -position % self._segment_size
        if missing:
            self._store_from(position, memoryview(bytes(missing)))
