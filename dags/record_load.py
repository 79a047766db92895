"""The load of one PostgreSQL cluster, every five minutes, and what it says of the quiet hours, every week.

Change the plan to your cluster, at best to the very plan of its backups. From the first day on, `backup-guard hours`
shows the week and proposes windows; after two weeks it is more than a guess.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.sdk import DAG, BaseNotifier

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.operators import LoadRecordOperator, QuietHoursOperator

plan = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository=os.environ.get("SHOP_BACKUP_REPOSITORY", "file:///srv/backups"),
    calendar=OffPeakCalendar.parse(
        os.environ.get("SHOP_OFF_PEAK", "Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00"),
        tz=os.environ.get("SHOP_TIME_ZONE", "America/Los_Angeles"),
    ),
)

# Called if windows of the plan are no longer quiet: SlackNotifier(text="{{ hours_report }}"), and so on.
notifiers: list[BaseNotifier] = []

with DAG(
    dag_id="record_load",
    schedule="*/5 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz=plan.calendar.tz),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),
    doc_md=__doc__,
    tags=["backup", "postgresql"],
):
    LoadRecordOperator(task_id="record", plan=plan)

with DAG(
    dag_id="quiet_hours",
    schedule="0 9 * * Mon",
    start_date=pendulum.datetime(2026, 1, 1, tz=plan.calendar.tz),
    catchup=False,
    doc_md=__doc__,
    tags=["backup", "postgresql"],
):
    QuietHoursOperator(task_id="report", plan=plan, notifiers=notifiers)
