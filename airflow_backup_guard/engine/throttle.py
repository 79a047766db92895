"""Feels the database while a copy or a guarded command runs, and holds it to the pace that follows from that.

Probe, assess and decide run in a thread of their own; the copy's thread only enforces.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import TracebackType

from airflow_backup_guard.core.backup import Impact, Latency, Pause
from airflow_backup_guard.core.budget import Budget
from airflow_backup_guard.core.control import Orders, obey
from airflow_backup_guard.core.load import (
    Assessment,
    Limit,
    LoadLevel,
    LoadLimits,
    LoadSample,
    Phase,
    assess,
    baseline_of,
    limits_for,
)
from airflow_backup_guard.core.pace import Pace, PaceState, TokenBucket, decide
from airflow_backup_guard.core.strain import Strain
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.postgres.paired_probe import PairedProbe

_SAMPLE_SECONDS = 0.1
_DECISION_SECONDS = 1.0
_OVERDUE_SECONDS = 2.0
_SLICE_SECONDS = 0.1
_STALE_SECONDS = 3.0
_JOIN_SECONDS = 2.0
_MOST_PAUSES = 100


_log = logging.getLogger(__name__)


class Throttle:
    """Lets a reader spend bytes at the pace that the load allows, lowered to what people ordered.

    Safe for one reader, one setter of the pace and one of the orders. ``pace`` is what holds of both, for those who
    tell what goes on; ``allowed`` is what the load allows, whatever was ordered.
    """

    def __init__(self, pace: Pace, stop: Stop) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._bucket = TokenBucket(pace.rate, time.monotonic())
        self.allowed = pace
        self._orders = Orders()
        self._set_at = time.monotonic()
        self.pace = pace

    def set_pace(self, pace: Pace) -> None:
        """Change what the load allows; a reader that waits is woken."""
        with self._lock:
            self.allowed = pace
            self._set_at = time.monotonic()
            self._combine()

    def set_orders(self, orders: Orders) -> None:
        """Change what was ordered; a reader that waits is woken."""
        with self._lock:
            self._orders = orders
            self._combine()

    def _combine(self) -> None:
        self.pace = obey(self.allowed, self._orders)
        self._bucket.set_rate(self.pace.rate, time.monotonic())
        self._changed.set()

    def trusted_pace(self) -> Pace:
        """The pace that holds now; its floor, if nobody has set it for a while."""
        with self._lock:
            self._distrust(time.monotonic())
            return self.pace

    def _distrust(self, now: float) -> None:
        if now - self._set_at > _STALE_SECONDS and self.allowed.rate > self.allowed.floor:
            # Whoever decides has died or hangs, so that nobody knows what the load is.
            self.allowed = replace(
                self.allowed,
                rate=self.allowed.floor,
                state=PaceState.THROTTLED,
                reason="nobody measures it",
            )
            self._combine()

    def spend(self, size: int) -> None:
        """Account for ``size`` bytes that were read, and wait as long as they are worth; ends at once on a stop."""
        now = time.monotonic()
        with self._lock:
            self._bucket.take(size, now)
            self._distrust(now)
        while True:
            self._stop.check()
            with self._lock:
                seconds = self._bucket.wait(time.monotonic())
            if seconds == 0:
                return
            self._changed.wait(min(seconds, _SLICE_SECONDS))
            self._changed.clear()


Listener = Callable[[datetime, Phase, Assessment, Pace], None]


def ignore_load(now: datetime, phase: Phase, assessment: Assessment, pace: Pace) -> None:
    """A listener that has no use for it."""


class LoadMonitor(AbstractContextManager["LoadMonitor"]):
    """Samples the load ten times a second from entry to exit, sets the throttle's pace, and keeps the account of both.

    Critical and unknown load act on the throttle at once; the rate follows the strain once a second.
    """

    def __init__(
        self,
        dsn: str,
        limits: LoadLimits,
        throttle: Throttle,
        budget: Budget,
        read_and_left: Callable[[], tuple[int, int]],
        listener: Listener = ignore_load,
        *,
        load_dsn: str | None = None,
    ) -> None:
        """``read_and_left`` tells how many bytes the copy has read and has left; ``listener`` hears of every sample.
        ``load_dsn`` leads to the server whose load the limits are about, where that is not the source itself."""
        self._dsn = dsn
        self._load_dsn = load_dsn
        self._limits = limits
        self._throttle = throttle
        self._budget = budget
        self._read_and_left = read_and_left
        self._listener = listener
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="load-monitor", daemon=True)
        self._latencies = {phase: array("d") for phase in Phase}
        self.seconds = dict.fromkeys(PaceState, 0.0)
        """How long the copy has been in each state."""
        self._seconds_at: dict[LoadLevel, float] = {}
        self._level = LoadLevel.UNKNOWN
        self._pauses: list[Pause] = []
        self._strain = Strain()
        self._before: deque[LoadSample] = deque(maxlen=100)
        self._sample = LoadSample.failed(datetime.now(timezone.utc), "not measured yet")
        self._pace = self._accounted = throttle.pace
        self._worst: Assessment | None = None
        self._began_at = self._accounted_at = self._decided_at = time.monotonic()
        self._bytes_at_decision = 0
        self._allowed = 0.0
        self._paused_since: float | None = None
        self._phase = Phase.BEFORE
        self.wal_retained: float | None = None
        """Bytes of WAL that the server keeps for nothing but this copy, as far as that is known."""
        self.exhausted: str | None = None
        """Why the copy must end, once a budget of its plan is spent; whoever copies looks at it."""

    def __enter__(self) -> LoadMonitor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        # A database that does not answer must not hold up a stop; the thread ends by itself once its probe times out.
        self._thread.join(_JOIN_SECONDS)

    def enter(self, phase: Phase) -> None:
        """The backup is in its next phase."""
        if phase is Phase.DURING:
            self._strain.begin(time.monotonic())
        self._phase = phase

    def impact(self) -> Impact:
        """The account so far; complete once the monitor has ended."""
        before, during, after = (Latency.of(list(self._latencies[phase])) for phase in Phase)
        return Impact(
            before=before,
            during=during,
            after=after,
            seconds_throttled=round(self.seconds[PaceState.THROTTLED], 3),
            seconds_paused=round(self.seconds[PaceState.PAUSED], 3),
            pauses=tuple(replace(pause, seconds=round(pause.seconds, 3)) for pause in self._pauses),
            seconds_at={
                level.value: round(self._seconds_at[level], 3) for level in LoadLevel if level in self._seconds_at
            },
        )

    async def _watch(self) -> None:
        async with PairedProbe(self._dsn, self._load_dsn, custom=self._limits.custom) as probe:
            while not self._ending.is_set():
                began = time.monotonic()
                sampling = asyncio.ensure_future(probe.sample())
                while not (await asyncio.wait({sampling}, timeout=_SLICE_SECONDS))[0]:
                    if self._ending.is_set():
                        sampling.cancel()
                        return
                    pending = probe.pending
                    if pending is not None and pending[1] > self._overdue(pending[0]):
                        # A commit that has not ended yet is at least as slow as the time that we wait for it.
                        now = datetime.now(timezone.utc)
                        self._take(LoadSample(now, dict([pending]), absent=self._sample.absent))
                    elif pending is None and time.monotonic() - began > _OVERDUE_SECONDS:
                        self._take(LoadSample.failed(datetime.now(timezone.utc), "the probe has no answer"))
                sample = self._sample = self._result_of(sampling)
                self.wal_retained = probe.retained_for_backup
                if self._phase is Phase.BEFORE:
                    self._before.append(sample)
                if (latency := sample.values.get(sample.latency)) is not None:
                    self._latencies[self._phase].append(latency)
                    rate = self._throttle.pace.rate if self._phase is Phase.DURING else 0
                    out_of_the_way = rate <= self._pace.floor
                    self._strain.add(time.monotonic(), latency, rate=rate, out_of_the_way=out_of_the_way)
                self._take(sample)
                while time.monotonic() - began < _SAMPLE_SECONDS and not self._ending.is_set():
                    await asyncio.sleep(_SAMPLE_SECONDS / 5)

    def _overdue(self, latency: str) -> float:
        limit: Limit | None = getattr(limits_for(self._limits, self._sample.absent), latency)
        if limit is None:
            return _OVERDUE_SECONDS
        baseline = self._baseline().get(latency)
        highest = limit.at(baseline).max if baseline is not None else limit.max
        return max(min(highest, _OVERDUE_SECONDS), _SLICE_SECONDS)

    def _baseline(self) -> dict[str, float]:
        """What each signal is without the copy: as it was before, and the source's latency as it was measured last."""
        baseline = baseline_of(self._before)
        if self._strain.baseline is not None:
            baseline[self._sample.latency] = self._strain.baseline
        return baseline

    @staticmethod
    def _result_of(sampling: asyncio.Future[LoadSample]) -> LoadSample:
        if (error := sampling.exception()) is not None:
            _log.error("the probe failed: %r", error)
            return LoadSample.failed(datetime.now(timezone.utc), f"the probe failed: {error!r}")
        return sampling.result()

    def _take(self, sample: LoadSample) -> None:
        now = time.monotonic()
        # Orders change the throttle's pace at any time: the last one that was accounted for is this monitor's own. And
        # what they forbid is not used, so that the law does not rise behind them.
        before = self._accounted
        self._allowed += self._throttle.allowed.rate * (now - self._accounted_at)
        assessment = assess(sample, self._limits, self._baseline())
        if self._worst is None or assessment.level.severity > self._worst.level.severity:
            self._worst = assessment
        if assessment.level in (LoadLevel.CRITICAL, LoadLevel.UNKNOWN) or now - self._decided_at >= _DECISION_SECONDS:
            self._decide(now, sample.taken_at)
        self._throttle.set_pace(self._within_bounds(now, sample.taken_at))
        pace = self._accounted = self._throttle.pace
        self._account(sample.taken_at, now, before, pace)
        self._level = assessment.level
        self._listener(sample.taken_at, self._phase, assessment, pace)

    def _decide(self, now: float, moment: datetime) -> None:
        assert self._worst is not None  # noqa: S101  # _take has set it
        done, left = self._read_and_left()
        used = (done - self._bytes_at_decision) / self._allowed if self._allowed else 0.0
        required = self._budget.required_rate(moment, left) if self._phase is Phase.DURING else None
        self._pace = decide(
            self._pace,
            self._worst,
            strain=self._strain.value(now),
            strain_rate=self._strain.rate(now),
            used=used,
            required=required,
        )
        if self._pace.state is not PaceState.PAUSED:
            self._paused_since = None
        elif self._paused_since is None:
            self._paused_since = now
        running = timedelta(seconds=now - self._began_at)
        paused = None if self._paused_since is None else timedelta(seconds=now - self._paused_since)
        self.exhausted = self._budget.exhausted(moment, running, paused, self.wal_retained)
        self._decided_at, self._bytes_at_decision, self._allowed, self._worst = now, done, 0.0, None

    def _within_bounds(self, now: float, moment: datetime) -> Pace:
        """The law's pace, kept at the floor while the baseline is measured, or once the window is over."""
        if self._phase is not Phase.DURING or self._pace.state is PaceState.PAUSED:
            return self._pace
        if self._budget.is_floored(moment):
            reason = "its off-peak window is over"
        elif self._strain.make_way(now):
            reason = "it makes way to measure the baseline anew"
        else:
            return self._pace
        return replace(self._pace, rate=self._pace.floor, state=PaceState.THROTTLED, reason=reason)

    def _account(self, taken_at: datetime, now: float, before: Pace, pace: Pace) -> None:
        seconds, self._accounted_at = now - self._accounted_at, now
        if self._phase is not Phase.DURING:
            return
        self.seconds[before.state] += seconds
        self._seconds_at[self._level] = self._seconds_at.get(self._level, 0.0) + seconds
        if before.state is PaceState.PAUSED and self._pauses:
            pause = self._pauses[-1]
            self._pauses[-1] = replace(pause, seconds=pause.seconds + seconds)
        if pace.state is PaceState.PAUSED and before.state is not PaceState.PAUSED:
            self._pauses.append(Pause(taken_at, 0.0, pace.reason))
            # The record and the report shall stay readable; the sum of all pauses is kept beside them.
            del self._pauses[:-_MOST_PAUSES]
