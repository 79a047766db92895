"""A backup script that you already have, guarded: pgBackRest, Barman, pg_dump or any other command.

Off-peak gate → write-load gate → the command, held to what the load of the database allows. Change the plan and the
command to yours; the values read from the environment are there so that the same file runs as it is on a laptop.
"""

from __future__ import annotations

import os
import shlex

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.operators import GuardedCommandOperator
from airflow_backup_guard.sensors import OffPeakSensor, WriteLoadSensor

plan = BackupPlan(
    name="shop_command",
    connection="shop_primary",
    repository=os.environ.get("SHOP_BACKUP_REPOSITORY", "file:///srv/backups"),
    calendar=OffPeakCalendar.parse(
        os.environ.get("SHOP_OFF_PEAK", "Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00"),
        tz=os.environ.get("SHOP_TIME_ZONE", "America/Los_Angeles"),
    ),
    limits=LoadLimits(commit_latency=("25ms", "100ms")),
    quiet_for=os.environ.get("SHOP_QUIET_FOR", "60s"),
    at_window_end="stop",
)

command = shlex.split(os.environ.get("SHOP_BACKUP_COMMAND", "pgbackrest --stanza=shop --type=incr backup"))

with DAG(
    dag_id="guarded_command",
    schedule="0 1 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz=plan.calendar.tz),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["backup", "postgresql"],
) as dag:
    off_peak = OffPeakSensor(task_id="off_peak", plan=plan, deferrable=True)
    write_load = WriteLoadSensor(task_id="write_load", plan=plan, deferrable=True)
    backup = GuardedCommandOperator(task_id="backup", plan=plan, command=command, gate=write_load.output)

    off_peak >> write_load >> backup
