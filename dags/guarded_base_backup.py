"""A guarded base backup of one PostgreSQL cluster, every night.

Off-peak gate → write-load gate → snapshot → throttled copy → verify → notify. Change the plan to your cluster; the
values read from the environment are there so that the same file runs as it is on a laptop.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG, BaseNotifier

from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.operators import (
    BackupNotifyOperator,
    BackupVerifyOperator,
    PostgresSnapshotOperator,
    ThrottledCopyOperator,
)
from airflow_backup_guard.sensors import OffPeakSensor, WriteLoadSensor

plan = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository=os.environ.get("SHOP_BACKUP_REPOSITORY", "file:///srv/backups"),
    calendar=OffPeakCalendar.parse(
        os.environ.get("SHOP_OFF_PEAK", "Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00"),
        tz=os.environ.get("SHOP_TIME_ZONE", "America/Los_Angeles"),
    ),
    limits=LoadLimits(commit_latency=("25ms", "100ms"), wal_rate="40MB/s"),
    quiet_for=os.environ.get("SHOP_QUIET_FOR", "60s"),
    max_rate=os.environ.get("SHOP_MAX_RATE", "50MB/s"),
)

# Notifiers of any provider: SlackNotifier(text="{{ backup_report }}"), SmtpNotifier(html_content=…), and so on.
notifiers: list[BaseNotifier] = []

with DAG(
    dag_id="guarded_base_backup",
    schedule="0 1 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz=plan.calendar.tz),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["backup", "postgresql"],
) as dag:
    off_peak = OffPeakSensor(task_id="off_peak", plan=plan, deferrable=True)
    write_load = WriteLoadSensor(task_id="write_load", plan=plan, deferrable=True)
    snapshot = PostgresSnapshotOperator(task_id="snapshot", plan=plan)
    copy = ThrottledCopyOperator(task_id="copy", plan=plan, snapshot=snapshot.output)
    verify = BackupVerifyOperator(task_id="verify", plan=plan, backup=copy.output)
    notify = BackupNotifyOperator(
        task_id="notify",
        plan=plan,
        snapshot=snapshot,
        gates=[off_peak.output, write_load.output],
        notifiers=notifiers,
    )

    off_peak >> write_load >> snapshot >> copy >> verify >> notify
    copy >> snapshot.teardown()
