"""A line about the progress of a copy, a guarded command or a reading, every so often, for logs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_backup_guard.core.load import Phase
from airflow_backup_guard.core.pace import PaceState
from airflow_backup_guard.core.units import Rate, Size, whole_seconds

if TYPE_CHECKING:
    from airflow_backup_guard.engine.command import CommandProgress
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


class CommandProgressLog:
    """The same for every :class:`CommandProgress`."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._last: tuple[float, Phase | None, PaceState | None] = (clock(), None, None)

    def __call__(self, progress: CommandProgress) -> None:
        now, phase, state = self._clock(), progress.phase, progress.pace.state
        then, *before = self._last
        if now - then < _SECONDS and before == [phase, state]:
            return
        self._last = (now, phase, state)
        if phase is Phase.DURING:
            self._write(f"{describe_command(progress)}; {state.value}: {progress.pace.reason}")
        elif phase is not before[0]:
            self._write("measuring the load of the database")


def describe_command(progress: CommandProgress) -> str:
    """``may run 25 % of the time (ran 5s, stood still 15s)``, or ``12.5MB of output, at up to 5MB/s``."""
    if progress.share is None:
        return f"{Size(progress.done)} of output, at up to {progress.pace.rate}"
    percent = max(100 * progress.share, 0.1)
    allowed = f"may run {percent:.{0 if percent >= 1 else 1}f} % of the time"
    if progress.ran + progress.stood < 1:
        return allowed
    ran, stood = (whole_seconds(timedelta(seconds=seconds), least=1) for seconds in (progress.ran, progress.stood))
    return f"{allowed} (ran {ran}, stood still {stood})" if progress.stood else f"{allowed} (ran {ran})"


class BytesLog:
    """Call it with the bytes that are done and that there are; every 15 seconds it writes a line, with what is left."""

    def __init__(self, doing: str, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._doing, self._write, self._clock = doing, write, clock
        self._began = self._last = clock()

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        if now - self._last < _SECONDS or not done:
            return
        self._last = now
        elapsed = now - self._began
        left = whole_seconds(timedelta(seconds=max(total - done, 0) * elapsed / done), least=1)
        self._write(f"{self._doing}: {Size(done)} of {Size(total)} at {Rate(done / elapsed)}, about {left} left")


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
