"""Asking work that is under way to end, from another thread or a signal handler."""

from __future__ import annotations

import threading

from airflow_backup_guard.errors import BackupStopped


class Stop:
    """A flag with a reason. Whoever works calls :meth:`check` several times a second."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._reason = ""

    def request(self, reason: str) -> None:
        """Ask for the end; ``reason`` names who and why. The first reason stays."""
        self._reason = self._reason or reason
        self._event.set()

    def check(self) -> None:
        """Raise :class:`BackupStopped` if it was asked for."""
        if self._event.is_set():
            raise BackupStopped(f"Stopped: {self._reason}.", remedy="The next run starts afresh.")

    def wait(self, seconds: float) -> None:
        """Sleep, but end with :class:`BackupStopped` at once when it is asked for."""
        self._event.wait(seconds)
        self.check()
