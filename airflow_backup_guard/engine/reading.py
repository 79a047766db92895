"""Reading stored objects no faster than is allowed, with several readers at once, until somebody says stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import BinaryIO

from airflow_backup_guard.core.pace import TokenBucket
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import BackupStopped


class ReadingMeter:
    """Shared by all readers: ``max_rate`` holds for their sum, and ``on_progress`` is given the bytes of all.

    Its second value is ``total``, bytes that there are to read; it is called by one thread at a time.
    """

    def __init__(self, total: int, max_rate: Rate | None, stop: Stop, on_progress: Callable[[int, int], None]) -> None:
        self.done = 0
        self.stop = stop
        self._cancelled = False
        self._total = total
        self._bucket = TokenBucket(max_rate, time.monotonic()) if max_rate else None
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def account(self, count: int) -> None:
        """``count`` bytes were read: wait until more may be. Raises :class:`BackupStopped` soon after it was asked."""
        self.keep_going()
        with self._lock:
            self.done += count
            self._on_progress(self.done, self._total)
            if self._bucket is not None:
                self._bucket.take(count, time.monotonic())
        while wait := self._owed():
            self.stop.wait(wait)

    def keep_going(self) -> None:
        """Raise :class:`BackupStopped` where it was asked for, or another reader has failed."""
        self.stop.check()
        if self._cancelled:
            raise BackupStopped("Another reader failed.")

    def cancel(self) -> None:
        """Have all readers end, as one of them has failed."""
        self._cancelled = True

    def _owed(self) -> float:
        if self._bucket is None:
            return 0.0
        with self._lock:
            return self._bucket.wait(time.monotonic())


class MeteredReader:
    """A stored object whose bytes are accounted for."""

    def __init__(self, stored: BinaryIO, meter: ReadingMeter) -> None:
        self._stored = stored
        self._meter = meter

    def read(self, size: int) -> bytes:
        """As the object's own."""
        data = self._stored.read(size)
        self._meter.account(len(data))
        return data

    def close(self) -> None:
        """As the object's own."""
        self._stored.close()
