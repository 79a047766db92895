"""A line about a copy's progress every so often, for logs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from airflow_backup_guard.core.pace import PaceState
from airflow_backup_guard.core.units import Rate, Size, format_duration
from airflow_backup_guard.engine.copy import Progress

_SECONDS = 15.0


class ProgressLog:
    """Call it with every :class:`Progress`; it writes a line every 15 seconds, and at each change of state."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._began = clock()
        self._last: tuple[float, int, PaceState | None] = (self._began, 0, None)

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        then, done, state = self._last
        if now - then < _SECONDS and state is progress.pace.state:
            return
        self._last = (now, progress.done, progress.pace.state)
        if progress.total == 0:
            self._write("waiting for the server's checkpoint")
            return
        rate = (progress.done - done) / (now - then) if now > then else 0.0
        self._write(f"{self._share(progress)} at {Rate(rate)}, {self._left(progress, now)}; {describe_pace(progress)}")

    @staticmethod
    def _share(progress: Progress) -> str:
        total = max(progress.total, progress.done, 1)
        return f"{Size(progress.done)} of about {Size(total)} ({100 * progress.done // total} %)"

    def _left(self, progress: Progress, now: float) -> str:
        average = progress.done / max(now - self._began, 0.001)
        if not average:
            return "not begun"
        seconds = max(progress.total - progress.done, 0) / average
        return f"about {format_duration(timedelta(seconds=round(seconds)))} left"


def describe_pace(progress: Progress) -> str:
    """The state of the copy with its reason: ``throttled to 5MB/s: commit latency 31.0 ms > 25.0 ms``."""
    pace = progress.pace
    if pace.state is PaceState.RUNNING:
        return f"running at up to {pace.rate}"
    return f"{pace.state.value} to {pace.rate}: {pace.reason}"
