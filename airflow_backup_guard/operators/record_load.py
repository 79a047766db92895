"""The load of a database over months as tasks: one that records it, one that tells what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowSkipException

from airflow_backup_guard.core.hours import check_weeks
from airflow_backup_guard.core.quiet_hours import parse_share
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import told_to_airflow
from airflow_backup_guard.hooks.metrics import gauge_protection
from airflow_backup_guard.hooks.notifiers import tell
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan


class LoadRecordOperator(StoppableOperator):
    """Measures the load of the plan's database for some seconds, and keeps one entry of it in the plan's repository.
    With a ``load_connection`` that is the database it leads to.

    :param seconds: for how long it measures; 300 at most

    Meant to run every five minutes. A database that does not answer is an entry, too, and the task a success: what is
    not known never counts as quiet. Returns the entry as plain values.
    """

    def __init__(self, *, plan: BackupPlan, seconds: float = 10.0, **kwargs: Any) -> None:
        super().__init__(plan=plan, **kwargs)
        self.seconds = seconds

    def execute(self, context: Context) -> dict[str, Any]:
        """Record one entry."""
        from airflow_backup_guard.engine.load_history import record

        hook = BackupGuardHook(self.plan)
        with told_to_airflow(context):
            repository = hook.repository()
            dsn = hook.load_dsn() or hook.dsn()
            entry = record(dsn, repository, self.plan.name, seconds=self.seconds, stop=self._stop)
            self._stop.check()
        gauge_protection(self.plan, repository)
        for signal, reason in entry.unknown.items():
            self.log.warning("%s is not known, and does not count as quiet: %s", signal, reason)
        self.log.info("Recorded %s", dict(entry.values))
        return entry.to_dict()


class QuietHoursOperator(StoppableOperator):
    """Shows the recorded week, proposes windows, and tells if windows of the plan's calendar are no longer quiet.

    :param weeks: how many weeks count
    :param quiet_below: up to which share of the peak an hour is quiet
    :param notifiers: of any provider, called only if windows are not quiet; their templates may use
        ``{{ hours_title }}`` and ``{{ hours_report }}``. One that fails is logged

    Meant to run once a week. Skips as long as nothing is recorded. Returns the report as plain values.
    """

    def __init__(
        self,
        *,
        plan: BackupPlan,
        weeks: int = 8,
        quiet_below: str = "25%",
        notifiers: Iterable[BaseNotifier] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(plan=plan, **kwargs)
        self.weeks = weeks
        self.quiet_below = quiet_below
        self.notifiers = list(notifiers)
        parse_share(quiet_below)
        check_weeks(weeks)

    def execute(self, context: Context) -> dict[str, Any]:
        """Report; the log has the week as a heat map."""
        from airflow_backup_guard.engine.load_history import report

        with told_to_airflow(context):
            found = report(
                BackupGuardHook(self.plan).repository(),
                self.plan.name,
                self.plan.calendar,
                weeks=self.weeks,
                quiet_below=parse_share(self.quiet_below),
            )
            self._stop.check()
        if found is None:
            raise AirflowSkipException(f"No load of {self.plan.name} is recorded yet; see LoadRecordOperator.")
        self.log.log(INFO if found.good else WARNING, "%s\n%s", found.title, found)
        if not found.good:
            tell(self.notifiers, context, hours_title=found.title, hours_report=str(found))
        return found.to_dict()
