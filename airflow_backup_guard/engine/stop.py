"""Asking work that is under way to end, from another thread or a signal handler."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_backup_guard.errors import BackupStopped

_SLICE_SECONDS = 0.1
_JOIN_SECONDS = 1.0


class Stop:
    """A flag with a reason. Whoever works calls :meth:`check` several times a second."""

    def __init__(self) -> None:
        # No threading.Event: a signal handler that sets one can meet its lock held by the very thread it interrupts.
        self._reason: str | None = None

    def request(self, reason: str) -> None:
        """Ask for the end; ``reason`` names who and why. The first reason stays."""
        if self._reason is None:
            self._reason = reason

    @property
    def requested(self) -> bool:
        """Whether the end was asked for."""
        return self._reason is not None

    def check(self) -> None:
        """Raise :class:`BackupStopped` if it was asked for."""
        if self._reason is not None:
            raise BackupStopped(f"Stopped: {self._reason}.", remedy="The next run starts afresh.")

    def wait(self, seconds: float) -> None:
        """Sleep, but end with :class:`BackupStopped` soon after it was asked for."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _SLICE_SECONDS))


@contextmanager
def when_stopped(stop: Stop, act: Callable[[], None]) -> Iterator[None]:
    """A thread that calls ``act`` soon after a stop was asked for, however long whoever works here would take to see
    it; once, and not after the end."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_SLICE_SECONDS):
            if stop.requested:
                act()
                return

    watcher = threading.Thread(target=watch, name="stop-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join(_JOIN_SECONDS)
