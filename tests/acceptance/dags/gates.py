"""Both gates, open and closed, in each of the ways that a sensor can wait."""

import os

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.sensors import OffPeakSensor, WriteLoadSensor

now = pendulum.now("UTC")
closed = f"daily {now.add(hours=6):%H:00}-{now.add(hours=7):%H:00}"


def plan(windows: str, latency: str) -> BackupPlan:
    return BackupPlan(
        name="gates",
        connection="shop_primary",
        repository=os.environ["SHOP_BACKUP_REPOSITORY"],
        calendar=OffPeakCalendar.parse(windows, tz="UTC"),
        limits=LoadLimits(commit_latency=latency, wal_rate="100MB/s", commit_rate="10000/s", tuple_rate="100000/s"),
        quiet_for="2s",
    )


ways = {
    "poked": {"mode": "poke", "poke_interval": 1},
    # Airflow takes a task for dead if it is queued again before the executor's word of its last end was read.
    "rescheduled": {"mode": "reschedule", "poke_interval": 3},
    "deferred": {"deferrable": True},
}
for state, made, timeout in (
    ("open", plan("daily 00:00-24:00", "10s"), 60),
    ("closed", plan(closed, "0.001ms"), 5),
):
    with DAG(f"gates_{state}", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
        for way, arguments in ways.items():
            for sensor in (OffPeakSensor, WriteLoadSensor):
                sensor(task_id=f"{sensor.__name__}_{way}", plan=made, timeout=timeout, **arguments)
