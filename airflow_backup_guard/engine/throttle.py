"""Feels the database while a copy runs, and holds the copy to the pace that follows from it.

Probe, assess and decide run in a thread of their own; the copy's thread only enforces.
"""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from enum import Enum
from types import TracebackType

from airflow_backup_guard.core.backup import Impact, Latency, Pause
from airflow_backup_guard.core.load import Assessment, LoadLimits, LoadSample, assess
from airflow_backup_guard.core.pace import Pace, PaceState, TokenBucket, decide
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.postgres.probe import LoadProbe

_SAMPLE_SECONDS = 0.5
_OVERDUE_SECONDS = 2.0
_SLICE_SECONDS = 0.1


class Throttle:
    """Lets a reader spend bytes at the pace that was set last. Safe for one reader and one setter."""

    def __init__(self, pace: Pace, stop: Stop) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._bucket = TokenBucket(pace.rate, time.monotonic())
        self.pace = pace

    def set_pace(self, pace: Pace) -> None:
        """Change the pace; a reader that waits is woken."""
        with self._lock:
            self.pace = pace
            self._bucket.set_rate(pace.rate, time.monotonic())
        self._changed.set()

    def spend(self, size: int) -> None:
        """Account for ``size`` bytes that were read, and wait as long as they are worth; ends at once on a stop."""
        with self._lock:
            self._bucket.take(size, time.monotonic())
        while True:
            self._stop.check()
            with self._lock:
                seconds = self._bucket.wait(time.monotonic())
            if seconds == 0:
                return
            self._changed.wait(min(seconds, _SLICE_SECONDS))
            self._changed.clear()


class Phase(Enum):
    """Which part of a backup a sample belongs to."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


Listener = Callable[[datetime, Phase, Assessment, Pace], None]


class LoadMonitor(AbstractContextManager["LoadMonitor"]):
    """Samples the load twice a second from entry to exit, sets the throttle's pace, and keeps the account of both."""

    def __init__(self, dsn: str, limits: LoadLimits, throttle: Throttle, listener: Listener | None = None) -> None:
        self._dsn = dsn
        self._limits = limits
        self._throttle = throttle
        self._listener = listener
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="load-monitor", daemon=True)
        self._latencies = {phase: array("d") for phase in Phase}
        self._seconds = dict.fromkeys(PaceState, 0.0)
        self._pauses: list[Pause] = []
        self._decided_at = time.monotonic()
        self.phase = Phase.BEFORE

    def __enter__(self) -> LoadMonitor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def impact(self) -> Impact:
        """The account so far; complete once the monitor has ended."""
        before, during, after = (Latency.of(list(self._latencies[phase])) for phase in Phase)
        return Impact(
            before=before,
            during=during,
            after=after,
            seconds_throttled=round(self._seconds[PaceState.THROTTLED], 3),
            seconds_paused=round(self._seconds[PaceState.PAUSED], 3),
            pauses=tuple(self._pauses),
        )

    async def _watch(self) -> None:
        limit = self._limits.commit_latency
        overdue = max(limit.max, _SLICE_SECONDS) if limit else _OVERDUE_SECONDS
        async with LoadProbe(self._dsn) as probe:
            while not self._ending.is_set():
                began = time.monotonic()
                sampling = asyncio.ensure_future(probe.sample())
                while not (await asyncio.wait({sampling}, timeout=_SLICE_SECONDS))[0]:
                    waited = time.monotonic() - began
                    if probe.connected and waited > overdue:
                        # A commit that has not ended yet is at least as slow as the time that we wait for it.
                        late = {"commit_latency": waited}
                        self._decide(LoadSample(datetime.now(timezone.utc), late, {}))
                    elif not probe.connected and waited > _OVERDUE_SECONDS:
                        self._decide(LoadSample.failed(datetime.now(timezone.utc), "the probe cannot connect"))
                sample = sampling.result()
                if "commit_latency" in sample.values:
                    self._latencies[self.phase].append(sample.values["commit_latency"])
                self._decide(sample)
                while time.monotonic() - began < _SAMPLE_SECONDS and not self._ending.is_set():
                    await asyncio.sleep(0.05)

    def _decide(self, sample: LoadSample) -> None:
        before = self._throttle.pace
        assessment = assess(sample, self._limits)
        pace = decide(before, assessment)
        self._account(sample.taken_at, before, pace)
        self._throttle.set_pace(pace)
        if self._listener is not None:
            self._listener(sample.taken_at, self.phase, assessment, pace)

    def _account(self, now: datetime, before: Pace, pace: Pace) -> None:
        seconds, self._decided_at = time.monotonic() - self._decided_at, time.monotonic()
        if self.phase is not Phase.DURING:
            return
        self._seconds[before.state] += seconds
        if before.state is PaceState.PAUSED and self._pauses:
            began_at = self._pauses[-1].began_at
            self._pauses[-1] = Pause(began_at, (now - began_at) / timedelta(seconds=1), self._pauses[-1].reason)
        if pace.state is PaceState.PAUSED and before.state is not PaceState.PAUSED:
            self._pauses.append(Pause(now, 0.0, pace.reason))
