"""Signals that end a command in good order: it cleans up, and then it fails."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from airflow_backup_guard.engine.stop import Stop

_REASONS = {
    signal.SIGTERM: "SIGTERM",
    signal.SIGINT: "interrupted from the keyboard",
    signal.SIGHUP: "the terminal was closed (SIGHUP)",
}


@contextmanager
def stop_on_signals(doing: str = "Stopping and cleaning up; a second signal ends this at once.") -> Iterator[Stop]:
    """A stop that the first signal asks for, saying what it is ``doing``; a second has its usual effect, at once."""
    stop = Stop()
    # Whoever starts us with nohup has SIGHUP ignored, and means it.
    usual = {number: signal.getsignal(number) for number in _REASONS}
    usual = {number: handler for number, handler in usual.items() if handler is not signal.SIG_IGN}

    def restore_usual() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        restore_usual()
        stop.request(_REASONS[signal.Signals(number)])
        print(doing, file=sys.stderr)

    for number in usual:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore_usual()
