"""The restore drill as a task: restores a backup on trial, and fails unless it could be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import PROBLEM_KEY, told_to_airflow
from airflow_backup_guard.hooks.metrics import gauge
from airflow_backup_guard.hooks.notifiers import tell_channels
from airflow_backup_guard.hooks.runbook import keep_runbook
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan
    from airflow_backup_guard.core.drill import DrillResult


class RestoreDrillOperator(StoppableOperator):
    """Restores a backup into a scratch folder of the worker, runs a private PostgreSQL on it, looks whether it is good.

    :param backup: a backup's id, what :class:`ThrottledCopyOperator` returned, or ``latest`` of the plan
    :param scratch: an empty folder, or one that is not there yet; goes above ``drill.scratch`` of the plan
    :param identity_file: file with the age secret key of an encrypted backup, as ``age-keygen`` writes it

    What is looked at is the plan's ``drill``; restore and backup are held against its ``rto`` and ``rpo``. Returns the
    result as plain values, and stores it beside the backup, as well as the plan's recovery runbook. Fails if the drill
    did not pass or could not be tried; the channels of the plan's alerts are told. The worker needs PostgreSQL of the
    backup's major version, and room.
    """

    template_fields: Sequence[str] = ("backup", "scratch", "identity_file")

    def __init__(
        self,
        *,
        plan: BackupPlan,
        backup: Any = "latest",
        scratch: str | None = None,
        identity_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(plan=plan, **kwargs)
        self.backup = backup
        self.scratch = scratch
        self.identity_file = identity_file

    def execute(self, context: Context) -> dict[str, Any]:
        """Drill; each check is a line in the log."""
        from airflow_backup_guard.core.backup import dump_plain
        from airflow_backup_guard.core.check import CheckStatus
        from airflow_backup_guard.errors import BackupGuardError, BackupStopped

        with told_to_airflow(context):
            try:
                result = self._drill()
                self._stop.check()
            except BackupGuardError as error:
                gauge(self.plan.name, "drill", passed=0)
                if not isinstance(error, BackupStopped):
                    tell_channels(self.plan, context, "drill.failed", "", str(error))
                raise
        self._gauge(result)
        for stage in result.stages:
            self.log.info("%-9s %.1f s", stage.name, stage.seconds)
        for check in result.checks:
            log = self.log.error if check.status is CheckStatus.FAILED else self.log.info
            log("%-8s %s", check.status.value, check)
        self.log.info("%s", result.summary)
        if not result.passed:
            problem = f"Backup {result.backup_id}: {'; '.join(result.problems)}"
            context["ti"].xcom_push(key=PROBLEM_KEY, value=problem)
            tell_channels(self.plan, context, "drill.failed", "", problem)
            raise AirflowFailException(problem)
        return dump_plain(result)

    def _drill(self) -> DrillResult:
        from pathlib import Path

        from airflow_backup_guard.engine import catalog
        from airflow_backup_guard.engine.drill import drill
        from airflow_backup_guard.engine.identities import read_identities
        from airflow_backup_guard.engine.priority import give_way

        identities = read_identities(Path(self.identity_file)) if self.identity_file else ()
        repository = BackupGuardHook(self.plan).repository()
        backup_id = self.backup if isinstance(self.backup, str) else self.backup["backup_id"]
        record = catalog.find(repository, backup_id, self.plan.name)
        give_way()
        result = drill(
            self.plan,
            record,
            repository,
            scratch=Path(self.scratch) if self.scratch else None,
            identities=identities,
            stop=self._stop,
            on_stage=lambda stage: self.log.info("Stage: %s", stage),
        )
        keep_runbook(self.plan, repository, self.log)
        return result

    def _gauge(self, result: DrillResult) -> None:
        """``drill.rto_seconds`` only where there is one."""
        gauge(
            self.plan.name,
            "drill",
            passed=float(result.passed),
            at=result.started_at.timestamp(),
            rpo_seconds=result.rpo_seconds,
        )
        if result.rto_seconds is not None:
            gauge(self.plan.name, "drill", rto_seconds=result.rto_seconds)
