"""A fleet of clusters that share their quiet hours, each backed up once in every off-peak window.

The timetable never plans a run outside of the calendar, and gives each cluster a place of its own in the first quarter
of the window. The gate behind it still looks at the clock: a run that had to queue may come too late.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.operators import BackupVerifyOperator, PostgresSnapshotOperator, ThrottledCopyOperator
from airflow_backup_guard.sensors import OffPeakSensor, WriteLoadSensor
from airflow_backup_guard.timetables import OffPeakTimetable

calendar = OffPeakCalendar.parse("Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00", tz="America/Los_Angeles")

for cluster in ("orders", "payments", "search"):
    plan = BackupPlan(
        name=cluster,
        connection=f"{cluster}_primary",
        repository=os.environ.get("SHOP_BACKUP_REPOSITORY", "file:///srv/backups"),
        calendar=calendar,
        limits=LoadLimits(commit_latency=("25ms", "100ms")),
    )

    with DAG(
        dag_id=f"off_peak_backup_{cluster}",
        schedule=OffPeakTimetable(plan),
        start_date=pendulum.datetime(2026, 1, 1, tz=calendar.tz),
        catchup=False,
        max_active_runs=1,
        doc_md=__doc__,
        tags=["backup", "postgresql"],
    ):
        off_peak = OffPeakSensor(task_id="off_peak", plan=plan, deferrable=True)
        write_load = WriteLoadSensor(task_id="write_load", plan=plan, deferrable=True)
        snapshot = PostgresSnapshotOperator(task_id="snapshot", plan=plan)
        copy = ThrottledCopyOperator(task_id="copy", plan=plan, snapshot=snapshot.output)
        verify = BackupVerifyOperator(task_id="verify", plan=plan, backup=copy.output)

        off_peak >> write_load >> snapshot >> copy >> verify
        copy >> snapshot.teardown()
