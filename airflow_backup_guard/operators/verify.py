"""The verification as a task: reads back what is stored, and fails unless it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_backup_guard.core.units import Rate, parse_duration
from airflow_backup_guard.errors import InvalidPlan
from airflow_backup_guard.hooks.assets import ANY_BACKUP, backup_asset, tell_asset
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import PROBLEM_KEY, told_to_airflow
from airflow_backup_guard.hooks.metrics import gauge_protection
from airflow_backup_guard.hooks.runbook import keep_runbook
from airflow_backup_guard.hooks.shown import is_mapped
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan

_LEVELS = ("stored", "readable", "consistent")


class BackupVerifyOperator(StoppableOperator):
    """Holds a backup, as it is stored, against its record and what PostgreSQL promises, and reads it back for that.

    :param backup: what :class:`ThrottledCopyOperator` returned, a backup's id, or ``latest`` of the plan
    :param level: how far to look: ``stored``, ``readable`` or ``consistent``
    :param max_age: what was read and found right longer ago is read again, as ``"7d"``
    :param full: True reads all of it again, whenever that was done last
    :param max_rate: the most that is read from the repository, as ``"50MB/s"``; no limit if None

    Returns the verification as plain values, with its ``level``. Fails if that is not reached or anything is damaged. A
    backup encrypted by its plan need only be ``readable``; looking inside takes its identity, which workers should not
    have. Success updates the asset of the plan (:func:`backup_asset`), on which DAGs can be scheduled; not so at
    the level ``stored``, which reads nothing back.
    """

    template_fields: Sequence[str] = ("backup",)

    def __init__(
        self,
        *,
        plan: BackupPlan,
        backup: Any = "latest",
        level: str = "consistent",
        max_age: str | timedelta = "7d",
        full: bool = False,
        max_rate: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(plan=plan, **kwargs)
        if level not in _LEVELS:
            raise InvalidPlan("level", level, ", ".join(_LEVELS))
        if level != "stored":
            self.outlets = [*self.outlets, ANY_BACKUP if is_mapped(plan) else backup_asset(plan)]
        self.backup = backup
        self.level = level
        self.max_age = parse_duration(max_age, "max_age")
        self.full = full
        self.max_rate = None if max_rate is None else Rate.parse(max_rate, "max_rate")

    def execute(self, context: Context) -> dict[str, Any]:
        """Verify; each problem is a line in the log."""
        from airflow_backup_guard.core.backup import dump_plain
        from airflow_backup_guard.core.verification import Level, Verdict
        from airflow_backup_guard.engine import catalog
        from airflow_backup_guard.engine.progress import BytesLog
        from airflow_backup_guard.engine.verify import verify

        repository = BackupGuardHook(self.plan).repository()
        with told_to_airflow(context):
            backup_id = self.backup if isinstance(self.backup, str) else self.backup["backup_id"]
            record = catalog.find(repository, backup_id, self.plan.name)
            result = verify(
                record,
                repository,
                level=Level(self.level),
                max_age=None if self.full else self.max_age,
                max_rate=self.max_rate,
                stop=self._stop,
                on_progress=BytesLog("verifying", self.log.info),
            )
            self._stop.check()
        keep_runbook(self.plan, repository, self.log)
        gauge_protection(self.plan, repository)
        for found in result.evidence:
            self.log.info("%s: %s, %s", found.level.value, found.status.value, found.detail)
        self.log.info("Verdict: %s, %d bytes read in %.1f s", result.verdict.value, result.bytes_read, result.seconds)
        for problem in result.problems:
            self.log.error("%s", problem)
        wanted = Level.READABLE if self.plan.recipients and self.level == "consistent" else Level(self.level)
        if result.verdict is Verdict.DAMAGED or not result.reaches(wanted):
            problem = f"Backup {result.backup_id} is {result.verdict.value}: {'; '.join(result.problems[:3])}."
            context["ti"].xcom_push(key=PROBLEM_KEY, value=problem)
            # What is damaged stays so; what could not be read may be readable at the next try.
            raise (AirflowFailException if result.verdict is Verdict.DAMAGED else AirflowException)(problem)
        if self.level != "stored":
            tell_asset(context, self.plan, record)
        return {**dump_plain(result), "level": result.level.value if result.level else None}
