"""A line about a copy's progress every so often, for logs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from airflow_backup_guard.core.pace import PaceState
from airflow_backup_guard.core.units import Rate, Size
from airflow_backup_guard.engine.copy import Progress

_SECONDS = 15.0
_THEN = {
    "finish": "it may go on after that",
    "floor": "it then goes on at its floor only",
    "stop": "it is then ended",
}


class ProgressLog:
    """Call it with every :class:`Progress`; it writes a line every 15 seconds, and at each change of state.

    A copy that will not be done within its window is told to ``warn`` once, and again if it recovers and falls behind.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        warn: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._warn = warn or write
        self._clock = clock
        self._last: tuple[float, int, PaceState | None] = (clock(), 0, None)
        self._late = False

    def __call__(self, progress: Progress) -> None:
        if bool(progress.late) is not self._late:
            self._late = bool(progress.late)
            self._warn(describe_late(progress) if self._late else "It will be done within its window after all.")
        now = self._clock()
        then, done, state = self._last
        if now - then < _SECONDS and state is progress.pace.state:
            return
        self._last = (now, progress.done, progress.pace.state)
        if progress.total == 0:
            self._write("waiting for the server's checkpoint")
            return
        rate = (progress.done - done) / (now - then) if now > then else 0.0
        finish = "not known yet when it is done" if progress.finish is None else f"done {describe_end(progress)}"
        self._write(f"{self._share(progress)} at {Rate(rate)}, {finish}; {describe_pace(progress)}")

    @staticmethod
    def _share(progress: Progress) -> str:
        total = max(progress.total, progress.done, 1)
        return f"{Size(progress.done)} of about {Size(total)} ({100 * progress.done // total} %)"


def describe_pace(progress: Progress) -> str:
    """The state of the copy with its reason: ``throttled to 5MB/s: commit latency 31.0 ms > 25.0 ms``."""
    pace = progress.pace
    if pace.state is PaceState.RUNNING:
        return f"running at up to {pace.rate}"
    return f"{pace.state.value} to {pace.rate}: {pace.reason}"


def describe_end(progress: Progress) -> str:
    """When it is done at the pace of the last minutes: ``about 04:10 UTC``, with the date unless that is today."""
    return "never at this pace" if progress.finish is None else f"about {_clock_time(progress.finish)}"


def describe_late(progress: Progress) -> str:
    """That the window will not be met, by how much, and what the plan does then."""
    assert progress.window_end is not None  # noqa: S101  # nothing is late for no window
    return (
        f"It will not be done within its window, which ends {_clock_time(progress.window_end)}, but "
        f"{describe_end(progress)}: {_THEN[progress.late]}. {describe_pace(progress)}"
    )


def _clock_time(moment: datetime) -> str:
    today = datetime.now(moment.tzinfo).date()
    return f"{moment:%H:%M %Z}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M %Z}"
