"""Watches a copy, or a guarded command, for what its plan wants people to know, and hands it on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_backup_guard.core.alert_conditions import done_to_copy, of_lateness, of_load
from airflow_backup_guard.core.alerts import Alert, AlertBook, Condition
from airflow_backup_guard.core.load import Assessment, Phase
from airflow_backup_guard.core.pace import Pace
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.engine.alerting import AlertSender
from airflow_backup_guard.engine.copy import Progress
from airflow_backup_guard.engine.progress import describe_late
from airflow_backup_guard.repository.base import Repository

_SPACING = timedelta(seconds=1)
_HURRIED_SECONDS = 3.0  # Airflow kills a task five seconds after it has asked it to end
_log = logging.getLogger(__name__)


class AlertWatch:
    """:meth:`load` hears of every sample, :meth:`progress` of the copy, each from its own thread; nothing is raised."""

    def __init__(
        self, plan: BackupPlan, send: Callable[[Alert], None], done: Callable[[Pace], str] = done_to_copy
    ) -> None:
        """``done`` puts into words what a pace does to what is watched."""
        self._plan = plan
        self._send = send
        self._done = done
        self._book = AlertBook(plan.name, plan.alerts)
        self._lock = threading.Lock()
        self._lateness: Condition | None = None
        self._closed = self._failed = False

    def load(self, now: datetime, phase: Phase, assessment: Assessment, pace: Pace) -> None:
        """The load, as it is while the copy runs; looked at once a second."""
        then = self._book.stepped_at
        if phase is not Phase.DURING or (then is not None and timedelta(0) <= now - then < _SPACING):
            return
        try:
            with self._lock:
                if self._closed:
                    return
                conditions = [*of_load(assessment, self._plan.limits, self._plan.alerts, self._done(pace))]
                conditions += [self._lateness] if self._lateness else []
                self._book, alerts = self._book.step(conditions, now)
                for alert in alerts:
                    self._send(alert)
        except Exception:
            # The sampler calls this, and it has more important things to do than to alert.
            if not self._failed:
                _log.exception("It goes on, but its alerts do not work")
            self._failed = True

    def progress(self, progress: Progress) -> None:
        """Whether it will be done in time."""
        self._lateness = of_lateness(progress.late, describe_late(progress) if progress.late else "")

    def close(self, why: str) -> None:
        """The copy has ended; what was told is told to be over."""
        with self._lock:
            self._closed = True
            for alert in self._book.close(datetime.now(timezone.utc), why):
                self._send(alert)


@contextmanager
def alerting(
    plan: BackupPlan,
    repository: Repository | None,
    context: Mapping[str, Any] | None = None,
    link: str = "",
    done: Callable[[Pace], str] = done_to_copy,
) -> Iterator[AlertWatch]:
    """Alert of what the plan wants people to know while a copy, or a command, runs in here; hand both methods to it.

    With a ``repository``, what was sent is kept there.
    """
    with AlertSender(plan, repository, context, link) as sender:
        watch = AlertWatch(plan, sender.send, done)
        try:
            yield watch
        except BaseException:
            watch.close("what was watched has ended, and not well")
            sender.close(_HURRIED_SECONDS)
            raise
        watch.close("what was watched has ended")
