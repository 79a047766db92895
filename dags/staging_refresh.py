"""Whenever a backup of the plan is verified, it is restored into a new folder, for a staging server to run on.

Change the plan to the very plan of the backups. `current` leads to the newest restore; a restore never overwrites
anything, so remove older folders once nothing runs on them. To run this where the staging server is, give the tasks a
`queue` that only its worker serves.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.hooks.assets import backup_asset
from airflow_backup_guard.operators import BackupRestoreOperator

plan = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository=os.environ.get("SHOP_BACKUP_REPOSITORY", "file:///srv/backups"),
    calendar=OffPeakCalendar.parse(
        os.environ.get("SHOP_OFF_PEAK", "Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00"),
        tz=os.environ.get("SHOP_TIME_ZONE", "America/Los_Angeles"),
    ),
)


@task
def point_to(restored: dict[str, Any]) -> str:
    """Have `current` lead to what was restored, in one step."""
    target = Path(restored["target"])
    new = target.with_name("current.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(target.with_name("current"))
    return str(target)


with DAG(
    dag_id="staging_refresh",
    schedule=[backup_asset(plan)],
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    doc_md=__doc__,
    tags=["backup", "postgresql"],
):
    restore = BackupRestoreOperator(
        task_id="restore",
        plan=plan,
        to=os.environ.get("SHOP_STAGING", "/srv/staging") + "/{backup_id}",
        max_rate="200MB/s",
    )
    point_to(restore.output)
