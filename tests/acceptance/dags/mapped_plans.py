"""Mapped tasks, each instance of which has a plan of its own; and a task that is none of ours."""

import os

import pendulum
from airflow.sdk import DAG, task

from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.operators import PostgresSnapshotOperator, ThrottledCopyOperator
from airflow_backup_guard.sensors import WriteLoadSensor

plans = {
    name: BackupPlan(
        name=name,
        connection="shop_primary",
        repository=os.environ["SHOP_BACKUP_REPOSITORY"],
        calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
        limits=LoadLimits(commit_latency=("10s", "100s")),
        quiet_for="1s",
        checkpoint="fast",
        max_rate="30MB/s",
        min_rate="30MB/s",
    )
    for name in ("mapped-one", "mapped-two")
}


def with_plan(snapshot):
    return {"snapshot": snapshot, "plan": plans[snapshot["plan"]["name"]]}


with DAG("mapped_plans", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
    gate = WriteLoadSensor.partial(task_id="gate", poke_interval=1).expand(plan=list(plans.values()))
    snapshot = PostgresSnapshotOperator.partial(task_id="snapshot").expand(plan=list(plans.values()))
    # Both plans are of one cluster, which has one guarded backup at a time.
    copy = ThrottledCopyOperator.partial(task_id="copy", max_active_tis_per_dagrun=1).expand_kwargs(
        snapshot.output.map(with_plan)
    )

    @task
    def foreign() -> str:
        return "<b>of somebody else</b>"

    gate >> snapshot
    foreign()
