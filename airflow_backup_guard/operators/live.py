"""What a copy, or a guarded command, shows of itself in Airflow while it runs: task state, and metrics."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.core.load import Finding
from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.engine.copy import Progress
from airflow_backup_guard.hooks.metrics import gauge

if TYPE_CHECKING:
    from airflow_backup_guard.core.backup import Impact

STATE_KEY = "backup_guard"
"""The key in the task state store; readable over Airflow's REST API while the task runs."""

_SECONDS = 2.0
_RECENT = 300  # ten minutes of them, which whoever begins to look then sees at once
_PAUSES = 50
_log = logging.getLogger(__name__)


class LiveView:
    """Call it with every :class:`Progress`; every two seconds it writes the task's state, and metrics.

    The state is one JSON document: ``backup_id`` (of a guarded command, its own id), ``plan``, ``time``, ``done`` and
    ``total`` (bytes), ``rate`` and ``allowed_rate`` (bytes per second), ``state``, ``reason``, ``level``, ``signals``
    (by name, in their units), ``finish``, ``window_end``, ``late``, ``limits`` (``max`` and ``critical`` by signal,
    null for none), ``recent``: up to 300 of ``[time, rate, allowed_rate, latency in seconds, state, WAL rate]``, the
    oldest first, the latency the highest since the one before, of commits, or on a standby of reads; and ``pauses``:
    the last 50 as ``[since, until, reason]``, ``until`` null while it lasts.

    Whatever goes wrong here is logged once, and does not concern the copy.
    """

    def __init__(
        self, plan_name: str, number: str, store: Any = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``number`` is the id of the backup; ``store`` is Airflow's ``task_state_store``, if any."""
        self._plan_name = plan_name
        self.number = number
        self._store = store
        self._clock = clock
        self._last: tuple[float, int] | None = None
        self._worst: float | None = None  # latency since then: what made it pause is in the picture
        self._recent: deque[list[Any]] = deque(maxlen=_RECENT)
        self._pauses: deque[list[Any]] = deque(maxlen=_PAUSES)
        self._failed = False

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        then, done = self._last or (now, progress.done)
        latency = _latency(progress)
        if latency is not None:
            self._worst = max(latency, self._worst or 0.0)
        if self._last is not None and now - then < _SECONDS:
            return
        self._last = (now, progress.done)
        rate = (progress.done - done) / (now - then) if now > then else 0.0
        self._guarded(lambda: self._store_state(progress, rate))
        self._worst = None
        self._guarded(lambda: self._send_metrics(progress, rate))

    def finish(self, impact: Impact) -> None:
        """The copy has ended, and this is the account of it."""
        throttled, paused = impact.seconds_throttled, impact.seconds_paused
        self._guarded(lambda: self._gauges(throttled_seconds=throttled, paused_seconds=paused, rate=0, allowed_rate=0))

    def _store_state(self, progress: Progress, rate: float) -> None:
        if self._store is None:
            return
        findings = progress.assessment.findings if progress.assessment else ()
        signals = {found.signal: found.value for found in findings}
        moment = time.time()
        self._note_pause(round(moment, 1), progress.pace)
        self._recent.append(
            [
                round(moment, 1),
                round(rate),
                int(progress.pace.rate),
                self._worst,
                progress.pace.state.value,
                signals.get("wal_rate"),
            ]
        )
        self._store.set(
            STATE_KEY,
            {
                "backup_id": self.number,
                "plan": self._plan_name,
                "time": round(moment, 3),
                "done": progress.done,
                "total": progress.total,
                "rate": round(rate),
                "allowed_rate": int(progress.pace.rate),
                "state": progress.pace.state.value,
                "reason": progress.pace.reason,
                "level": progress.assessment.level.value if progress.assessment else "unknown",
                "signals": signals,
                "limits": {found.signal: _limit(found) for found in findings if found.threshold is not None},
                "finish": progress.finish and progress.finish.isoformat(timespec="seconds"),
                "window_end": progress.window_end and progress.window_end.isoformat(timespec="seconds"),
                "late": progress.late,
                "recent": list(self._recent),
                "pauses": list(self._pauses),
            },
        )

    def _note_pause(self, moment: float, pace: Pace) -> None:
        paused, open_ = pace.state is PaceState.PAUSED, bool(self._pauses) and self._pauses[-1][1] is None
        if open_ and not paused:
            self._pauses[-1][1] = moment
        elif paused and not open_:
            self._pauses.append([moment, None, pace.reason])

    def _send_metrics(self, progress: Progress, rate: float) -> None:
        self._gauges(
            rate=rate,
            allowed_rate=int(progress.pace.rate),
            bytes_read=progress.done,
            throttled_seconds=progress.seconds.get(PaceState.THROTTLED, 0.0),
            paused_seconds=progress.seconds.get(PaceState.PAUSED, 0.0),
        )
        if progress.assessment is not None:
            self._gauges(level=progress.assessment.level.severity)

    def _gauges(self, **values: float) -> None:
        gauge(self._plan_name, "copy", **values)

    def _guarded(self, show: Callable[[], None]) -> None:
        try:
            show()
        except Exception as error:  # whatever becomes of the picture, the copy is what matters
            if not self._failed:
                _log.warning("The copy goes on, but cannot be shown in Airflow: %r", error)
            self._failed = True


def _latency(progress: Progress) -> float | None:
    values = {found.signal: found.value for found in progress.assessment.findings} if progress.assessment else {}
    return values.get("read_latency") or values.get("commit_latency")


def _limit(finding: Finding) -> dict[str, float | None]:
    plain = finding.to_dict()
    return {"max": plain["max"], "critical": plain["critical"]}
