"""Once a quarter, what was promised about backups is held against evidence, and the report is kept beside them.

Change the plans to your clusters, at best to the very plans of their backups: one task audits them all. It reads the
database and the repository, changes nothing in either, and stores the report, which is for auditors, too.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, RetentionPolicy
from airflow_backup_guard.operators import BackupAuditOperator

plan = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository=os.environ.get("SHOP_BACKUP_REPOSITORY", "file:///srv/backups"),
    calendar=OffPeakCalendar.parse(
        os.environ.get("SHOP_OFF_PEAK", "Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00"),
        tz=os.environ.get("SHOP_TIME_ZONE", "America/Los_Angeles"),
    ),
    rpo="2d",
    rto="2h",
    retention=RetentionPolicy(keep_daily=7, keep_weekly=5, keep_monthly=12, min_age="3d"),
)
plans = [plan]

with DAG(
    dag_id="quarterly_audit",
    schedule="0 9 1 1,4,7,10 *",
    start_date=pendulum.datetime(2026, 1, 1, tz=plan.calendar.tz),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    doc_md=__doc__,
    tags=["backup", "postgresql"],
):
    BackupAuditOperator(task_id="audit", plan=plans, period="92d")
