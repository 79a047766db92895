"""Once a week, the newest backup is restored on trial: on the worker, in a scratch folder, on a private PostgreSQL.

Change the plan to your cluster, at best to the very plan of its backups. The task needs no database, but room for one,
and PostgreSQL of the cluster's major version. What it finds is stored beside the backup.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, DrillCheck, DrillPolicy, OffPeakCalendar
from airflow_backup_guard.operators import RestoreDrillOperator

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
    drill=DrillPolicy(
        amcheck="full",
        checks={"tables": DrillCheck(sql="SELECT count(*) FROM pg_class WHERE relkind = 'r'", min=1)},
        max_rate="200MB/s",
    ),
)

with DAG(
    dag_id="restore_drill",
    schedule="0 12 * * 6",
    start_date=pendulum.datetime(2026, 1, 1, tz=plan.calendar.tz),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=12),
    doc_md=__doc__,
    tags=["backup", "postgresql"],
):
    RestoreDrillOperator(task_id="drill", plan=plan)
