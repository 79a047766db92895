"""The verification as a task: reads back what is stored, and fails unless it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import PROBLEM_KEY, told_to_airflow
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan


class BackupVerifyOperator(StoppableOperator):
    """Reads a backup back and holds it against its record and PostgreSQL's manifest.

    :param backup: what :class:`ThrottledCopyOperator` returned, a backup's id, or ``latest`` of the plan

    Returns the verification as plain values. Fails if anything is damaged or could not be read. A backup encrypted by
    its plan is read and compared as stored; looking inside takes its identity, which workers should not have.
    """

    template_fields: Sequence[str] = ("backup",)

    def __init__(self, *, plan: BackupPlan, backup: Any = "latest", **kwargs: Any) -> None:
        super().__init__(plan=plan, **kwargs)
        self.backup = backup

    def execute(self, context: Context) -> dict[str, Any]:
        """Verify; each problem is a line in the log."""
        from airflow_backup_guard.core.backup import dump_plain
        from airflow_backup_guard.core.verification import Verdict
        from airflow_backup_guard.engine import catalog
        from airflow_backup_guard.engine.verify import verify

        repository = BackupGuardHook(self.plan).repository()
        with told_to_airflow(context):
            backup_id = self.backup if isinstance(self.backup, str) else self.backup["backup_id"]
            record = catalog.find(repository, backup_id, self.plan.name)
            result = verify(record, repository, stop=self._stop)
            self._stop.check()
        self.log.info("Verdict: %s, %d files in %.1f s", result.verdict.value, result.files, result.seconds)
        for problem in result.problems:
            self.log.error("%s", problem)
        trusted = result.verdict.trusted if self.plan.recipients else result.verdict is Verdict.VERIFIED
        if not trusted:
            problem = f"Backup {result.backup_id} is {result.verdict.value}: {'; '.join(result.problems[:3])}."
            context["ti"].xcom_push(key=PROBLEM_KEY, value=problem)
            # What is damaged stays so; what could not be read may be readable at the next try.
            raise (AirflowFailException if result.verdict is Verdict.DAMAGED else AirflowException)(problem)
        return dump_plain(result)
