"""Halting a backup that runs, as a task: for the DAG that answers an incident."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import told_to_airflow
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan


class BackupStopOperator(StoppableOperator):
    """Ends every guarded copy and command of the plan that runs, wherever it runs, and waits until it has ended.

    :param reason: why, for the log of the copy and the record of its attempt; the DAG run that asks is named by itself

    That none runs is a success, too. Returns a list with ``backup_id``, ``obeyed``, ``ended`` and ``seconds`` for each;
    ``obeyed`` is None where no copy has answered, as its worker is dead: its attempt is swept by the next copy.
    """

    template_fields: Sequence[str] = ("reason",)

    def __init__(self, *, plan: BackupPlan, reason: str = "", **kwargs: Any) -> None:
        super().__init__(plan=plan, **kwargs)
        self.reason = reason

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Stop them one after the other; each lets go of the database within two seconds."""
        from datetime import datetime, timezone

        from airflow_backup_guard.core.backup import FORMAT
        from airflow_backup_guard.core.control import Action, Controlled, Order
        from airflow_backup_guard.engine import control
        from airflow_backup_guard.errors import BackupNotRunning

        repository = BackupGuardHook(self.plan).repository()
        ti = context["ti"]
        by = f"Airflow: task {ti.task_id} of {ti.dag_id}, run {ti.run_id}"
        became = []
        with told_to_airflow(context):
            running: list[Controlled] = [*control.running(repository, self.plan.name)]
            for found in [*running, *control.running_commands(repository, self.plan.name)]:
                order = Order(FORMAT, Action.STOP, by, self.reason, datetime.now(timezone.utc))
                try:
                    outcome = control.carry_out(repository, found, order)
                except BackupNotRunning as ended:
                    self.log.info("%s", ended)
                    continue
                self.log.info("Backup %s: %s", found.backup_id, outcome)
                became.append(
                    {
                        "backup_id": found.backup_id,
                        "obeyed": outcome.obeyed,
                        "ended": outcome.ended,
                        "seconds": outcome.seconds,
                    }
                )
            self._stop.check()
        if not became:
            self.log.info("No guarded backup of plan %s runs", self.plan.name)
        return became
