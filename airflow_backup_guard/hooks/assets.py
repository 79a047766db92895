"""The asset that a verified backup updates, so that other DAGs can be scheduled on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan
    from airflow_backup_guard.core.backup import BackupRecord

_GROUP = "postgres-backup"

ANY_BACKUP = AssetAlias(_GROUP)
"""In place of the asset of a plan, as the outlet of a task that learns its plan only when it runs."""


def backup_asset(plan: BackupPlan | str) -> Asset:
    """The asset of a plan, or of the plan by this name: ``schedule=[backup_asset(plan)]``.

    Each of its events has ``backup_id``, ``plan_name``, ``taken_at``, ``database_size`` and ``stored_size`` (bytes) in
    ``extra``.
    """
    name = plan if isinstance(plan, str) else plan.name
    # Airflow takes URIs with x- as they are; for any other scheme it would look through all providers at each parsing.
    return Asset(
        name=f"{_GROUP}-{name}",
        uri=f"x-{_GROUP}://{name}",
        group=_GROUP,
        extra={"about": f"A verified backup of the plan {name}; the page Backups has how the plan stands."},
    )


def tell_asset(context: Context, plan: BackupPlan, record: BackupRecord) -> None:
    """Give the event that the task's success will make of the plan's asset what there is to know of the backup."""
    about: dict[str, Any] = {
        "backup_id": record.backup_id,
        "plan_name": record.plan_name,
        "taken_at": record.snapshot.taken_at.isoformat(),
        "database_size": record.database_size,
        "stored_size": record.stored_size,
    }
    events = context["outlet_events"]
    if ANY_BACKUP in context["task"].outlets:
        events[ANY_BACKUP].add(backup_asset(plan), extra=about)
    else:
        events[backup_asset(plan)].extra.update(about)
