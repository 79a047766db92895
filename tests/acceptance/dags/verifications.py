"""Verify the last backup of the plan of the examples, and that of a plan whose backups are none."""

import os

from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.operators import BackupVerifyOperator

for name in ("shop", "unsound"):
    plan = BackupPlan(
        name=name,
        connection="shop_primary",
        repository=os.environ["SHOP_BACKUP_REPOSITORY"],
        calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
    )
    with DAG(f"verify_{name}", schedule=None):
        BackupVerifyOperator(task_id="verify", plan=plan)
