"""The gate on the calendar: opens inside of the plan's off-peak windows, if enough of them is left."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import timezone
from airflow.sdk.exceptions import AirflowSkipException

from airflow_backup_guard.core.due import read_calendar, time_needed
from airflow_backup_guard.core.plan import FORECAST, WhenLate
from airflow_backup_guard.errors import BackupGuardError, WindowMissed
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import PROBLEM_KEY
from airflow_backup_guard.sensors.gate import Gate

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger


class OffPeakSensor(Gate):
    """Waits for an off-peak window of ``plan.calendar`` with ``plan.min_remaining`` left of it.

    A run that is too late for the window that it was due in follows ``plan.when_late``. Returns the window's end and a
    text that explains it.
    """

    _next_start: datetime | None = None

    def look(self, context: Context) -> tuple[bool, dict[str, Any]]:
        """Hold the present moment against the calendar."""
        from airflow_backup_guard.engine.ical import read_sources

        now = timezone.utcnow()
        calendar = read_sources(self.plan.calendar, now)
        needed = time_needed(self.plan, now, self._last_duration(), calendar)
        reading = read_calendar(calendar, now, context["dag_run"].run_after, needed)
        if reading.late and self.plan.when_late is WhenLate.SKIP:
            problem = f"Too late for a backup, and the plan says to skip it: {reading.text}."
            context["ti"].xcom_push(key=PROBLEM_KEY, value=problem)
            raise AirflowSkipException(problem)
        no_more = reading.next_start is None and not reading.opened
        if no_more or (reading.late and self.plan.when_late is WhenLate.FAIL):
            raise WindowMissed(
                f"It is too late for this backup: {reading.text}.",
                remedy="Start the run again when it can begin, give it a longer window or a shorter min_remaining, or "
                'let it wait for the next window, with when_late="wait".',
            )
        self._next_start = reading.next_start
        return reading.opened, reading.to_dict()

    def waiting(self) -> BaseTrigger:
        """Until the next window opens that is long enough."""
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        return DateTimeTrigger(moment=self._next_start or timezone.utcnow())

    def _last_duration(self) -> timedelta | None:
        if self.plan.min_remaining != FORECAST:
            return None
        from airflow_backup_guard.engine.recovery_point import last_duration

        try:
            return last_duration(BackupGuardHook(self.plan).repository(), self.plan.name)
        except BackupGuardError as error:
            self.log.warning("How long the last backup took is unknown, so any time left is enough: %s", error)
            return None
