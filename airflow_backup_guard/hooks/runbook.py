"""Keeps the recovery runbook of a plan beside its backups, and says so in the task's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_backup_guard.core import BackupPlan
    from airflow_backup_guard.repository.base import Repository


def keep_runbook(plan: BackupPlan, repository: Repository, log: Logger) -> None:
    """Write it anew; a failure is a warning."""
    from airflow_backup_guard.engine import runbook

    kept = runbook.keep_runbook(repository, plan.name, plan)
    (log.info if kept.good else log.warning)("%s", kept.said)
