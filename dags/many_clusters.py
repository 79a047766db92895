"""Many clusters in one DAG: one mapped task group for each, and a cluster that fails keeps no other from its backup.

Dynamic task mapping makes a backup of every plan in the list. Each waits in its own gates and is copied on its own; no
more than `max_active_tis_per_dagrun` copies run at once. Change the list to your clusters, or let a task return it,
each as `plan.to_dict()` gives it; the values read from the environment are there so that the file runs on a laptop.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG, task_group

from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.operators import BackupVerifyOperator, PostgresSnapshotOperator, ThrottledCopyOperator
from airflow_backup_guard.sensors import OffPeakSensor, WriteLoadSensor

calendar = OffPeakCalendar.parse(
    os.environ.get("SHOP_OFF_PEAK", "Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00"),
    tz=os.environ.get("SHOP_TIME_ZONE", "America/Los_Angeles"),
)
clusters = ["orders", "payments", "search"]
plans = [
    BackupPlan(
        name=cluster,
        connection=f"{cluster}_primary",
        repository=os.environ.get("SHOP_BACKUP_REPOSITORY", "file:///srv/backups"),
        calendar=calendar,
        limits=LoadLimits(commit_latency=("25ms", "100ms")),
        quiet_for=os.environ.get("SHOP_QUIET_FOR", "60s"),
    )
    for cluster in clusters
]

with DAG(
    dag_id="many_clusters",
    schedule="0 1 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz=calendar.tz),
    catchup=False,
    max_active_runs=1,
    default_args={"map_index_template": "{{ task.plan.name }}"},
    doc_md=__doc__,
    tags=["backup", "postgresql"],
) as dag:

    @task_group
    def back_up(plan: BackupPlan) -> None:
        """The steps of one cluster."""
        off_peak = OffPeakSensor(task_id="off_peak", plan=plan, deferrable=True)
        write_load = WriteLoadSensor(task_id="write_load", plan=plan, deferrable=True)
        snapshot = PostgresSnapshotOperator(task_id="snapshot", plan=plan)
        copy = ThrottledCopyOperator(task_id="copy", plan=plan, snapshot=snapshot.output, max_active_tis_per_dagrun=2)
        verify = BackupVerifyOperator(task_id="verify", plan=plan, backup=copy.output)

        off_peak >> write_load >> snapshot >> copy >> verify
        copy >> snapshot.teardown()

    back_up.expand(plan=plans)
