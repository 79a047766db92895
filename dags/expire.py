"""Once a day, the backups of one plan that its retention does not keep are removed, each with a reason in the log.

Change the plan to your cluster, at best to the very plan of its backups. The task needs no database, and does no harm
beside a backup that runs. Look first: `backup-guard expire` shows what it would remove.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, RetentionPolicy
from airflow_backup_guard.operators import BackupExpireOperator

plan = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository=os.environ.get("SHOP_BACKUP_REPOSITORY", "file:///srv/backups"),
    calendar=OffPeakCalendar.parse(
        os.environ.get("SHOP_OFF_PEAK", "Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00"),
        tz=os.environ.get("SHOP_TIME_ZONE", "America/Los_Angeles"),
    ),
    retention=RetentionPolicy(keep_daily=7, keep_weekly=5, keep_monthly=12, min_age="3d"),
)

with DAG(
    dag_id="expire_backups",
    schedule="0 12 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz=plan.calendar.tz),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    doc_md=__doc__,
    tags=["backup", "postgresql"],
):
    BackupExpireOperator(task_id="expire", plan=plan, retries=2, retry_delay=timedelta(minutes=10))
