"""What Airflow's own metrics (StatsD or OpenTelemetry) are told of a plan."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_backup_guard.core import BackupPlan
    from airflow_backup_guard.repository.base import Repository

_log = logging.getLogger(__name__)


def gauge(plan_name: str, group: str, **values: float) -> None:
    """Set ``backup_guard.<plan>.<group>.<name>`` for each of ``values``; the plan is a tag, too."""
    from airflow.sdk.observability import stats

    for name, value in values.items():
        # The plan is in the name, too: plain StatsD drops tags, and one plan would overwrite another.
        plan = plan_name.replace(".", "_")
        stats.gauge(f"backup_guard.{plan}.{group}.{name}", value, tags={"plan": plan_name})


def gauge_protection(plan: BackupPlan, repository: Repository) -> None:
    """Set what is there to restore from: ``backup.recovery_point`` (seconds since 1970, UTC), ``backup.age_seconds``,
    and with an RPO ``backup.rpo_left_seconds``, below zero once it is missed. Whatever goes wrong is logged."""
    from airflow_backup_guard.engine.recovery_point import recovery_point

    try:
        point = recovery_point(repository, plan.name)
        if point is None:
            return
        age = (datetime.now(timezone.utc) - point).total_seconds()
        gauge(plan.name, "backup", recovery_point=point.timestamp(), age_seconds=age)
        if plan.rpo is not None:
            gauge(plan.name, "backup", rpo_left_seconds=plan.rpo.total_seconds() - age)
    except Exception as error:  # a metric must not fail what it tells of
        _log.warning("How old the last verified backup of %s is could not be told: %r", plan.name, error)
