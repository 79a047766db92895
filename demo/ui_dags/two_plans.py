"""The two plans of ``make ui``, each with its DAG: one whose copy runs again and again, one that waits for windows."""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar, RetentionPolicy
from airflow_backup_guard.operators import (
    BackupExpireOperator,
    BackupVerifyOperator,
    PostgresSnapshotOperator,
    ThrottledCopyOperator,
)
from airflow_backup_guard.sensors import OffPeakSensor
from airflow_backup_guard.timetables import OffPeakTimetable

repository = os.environ["DEMO_REPOSITORY"]
opens = int(os.environ["DEMO_OPENS"])

shop = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository=repository,
    calendar=OffPeakCalendar.parse(
        f"daily {opens:02}:00-{(opens + 7) % 24:02}:00", tz="UTC", blackouts=[f"{os.environ['DEMO_LAUNCH']} (launch)"]
    ),
    limits=LoadLimits(commit_latency=("25ms", "100ms")),
    rpo="26h",
    rto="30min",
    max_rate=os.environ.get("DEMO_RATE", "2MB/s"),
    at_window_end="finish",
    checkpoint="fast",
    retention=RetentionPolicy(keep_last=5, keep_daily=7),
)
books = BackupPlan(
    name="books",
    connection="shop_primary",
    repository=repository,
    calendar=OffPeakCalendar.parse("Sat,Sun 02:00-06:00", tz="Europe/Berlin"),
    rpo="26h",
    checkpoint="fast",
    retention=RetentionPolicy(keep_last=3),
)

with DAG(
    "shop_backup",
    schedule="@continuous",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    doc_md=__doc__,
):
    snapshot = PostgresSnapshotOperator(task_id="snapshot", plan=shop)
    copy = ThrottledCopyOperator(task_id="copy", plan=shop, snapshot=snapshot.output)
    verify = BackupVerifyOperator(task_id="verify", plan=shop, backup=copy.output)
    expire = BackupExpireOperator(task_id="expire", plan=shop)
    snapshot >> copy >> verify >> expire
    copy >> snapshot.teardown()

with DAG(
    "books_backup",
    schedule=OffPeakTimetable(books.calendar),
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    is_paused_upon_creation=False,
):
    gate = OffPeakSensor(task_id="off_peak", plan=books, deferrable=True)
    snapshot = PostgresSnapshotOperator(task_id="snapshot", plan=books)
    copy = ThrottledCopyOperator(task_id="copy", plan=books, snapshot=snapshot.output)
    gate >> snapshot >> copy
    copy >> snapshot.teardown()
