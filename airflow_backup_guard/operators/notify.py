"""The last word of a run: the report, through any of Airflow's notifiers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, TriggerRule
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import PROBLEM_KEY
from airflow_backup_guard.hooks.notifiers import tell, tell_channels
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan
    from airflow_backup_guard.core.report import BackupReport
    from airflow_backup_guard.operators.snapshot import PostgresSnapshotOperator


class BackupNotifyOperator(StoppableOperator):
    """Sends the report of this run, good or bad, and then fails if it is bad, so that the run is seen as what it is.

    :param snapshot: the run's :class:`PostgresSnapshotOperator` itself, not its output: Airflow wants whatever depends
        on a setup task to run only after its success, and this runs after failures, too
    :param gates: what the gates returned
    :param notifiers: notifiers of any provider; their templates may use ``{{ backup_title }}`` and
        ``{{ backup_report }}``. They hear of every run; the channels of the plan's ``alerts`` hear of failed ones. One
        that fails is logged, and keeps neither the others nor the backup from ending well.

    Runs whatever became of the tasks before it. Returns title, text, and whether the backup is good.
    """

    template_fields: Sequence[str] = ("gates",)

    def __init__(
        self,
        *,
        plan: BackupPlan,
        snapshot: PostgresSnapshotOperator,
        gates: Sequence[Any] = (),
        notifiers: Iterable[BaseNotifier] = (),
        trigger_rule: TriggerRule = TriggerRule.ALL_DONE,
        **kwargs: Any,
    ) -> None:
        super().__init__(plan=plan, trigger_rule=trigger_rule, **kwargs)
        self.snapshot_task_id = snapshot.task_id
        self.gates = list(gates)
        self.notifiers = list(notifiers)

    def execute(self, context: Context) -> dict[str, Any]:
        """Send."""
        states = self._states(context)
        report = self._report(context, states)
        self.log.info("%s", report)
        tell(self.notifiers, context, backup_title=report.title, backup_report=str(report))
        if not report.good and "failed" in states.values():
            tell_channels(self.plan, context, "backup.failed", report.title, report.problem)
        self._stop.check()
        if not report.good and "skipped" in states.values() and "failed" not in states.values():
            raise AirflowSkipException(report.title)
        if not report.good:
            raise AirflowFailException(f"{report.title}. {report.problem}")
        return {"good": report.good, "title": report.title, "text": str(report)}

    def _states(self, context: Context) -> dict[str, str]:
        run = context["dag_run"]
        states = context["ti"].get_task_states(dag_id=run.dag_id, run_ids=[run.run_id])
        return {task_id: str(state) for task_id, state in states.get(run.run_id, {}).items()}

    def _report(self, context: Context, states: dict[str, str]) -> BackupReport:
        from airflow_backup_guard.core.report import BackupReport
        from airflow_backup_guard.engine import catalog

        failed = sorted(task_id for task_id, state in states.items() if state in ("failed", "skipped"))
        problem = " ".join(
            context["ti"].xcom_pull(task_ids=task_id, key=PROBLEM_KEY) or f"Task {task_id} {states[task_id]}."
            for task_id in failed
        )
        record = verification = None
        try:
            if snapshot := context["ti"].xcom_pull(task_ids=self.snapshot_task_id):
                repository = BackupGuardHook(self.plan).repository()
                record = catalog.find(repository, snapshot["backup_id"], self.plan.name)
                verification = catalog.last_verification(repository, record)
        except BackupGuardError as error:
            problem = problem or str(error)
        gates = [gate for gate in self.gates if gate]
        return BackupReport(self.plan.name, record, verification, gates, problem)
