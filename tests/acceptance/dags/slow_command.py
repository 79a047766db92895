"""A guarded command that never ends by itself, and does not mind SIGTERM."""

import os

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.operators import GuardedCommandOperator

plan = BackupPlan(
    name="slow_command",
    connection="shop_primary",
    repository=os.environ["SHOP_BACKUP_REPOSITORY"],
    calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
)
SCRIPT = "trap '' TERM; echo my secret is $SECRET; echo slow command $$; while :; do :; done"

with DAG("slow_command", schedule=None, start_date=pendulum.datetime(2026, 1, 1), max_active_runs=1):
    GuardedCommandOperator(
        task_id="backup",
        plan=plan,
        command=["sh", "-c", SCRIPT],
        env={"SECRET": "{{ 'hunter' ~ 22 }}"},
        append_env=True,
        grace="1s",
    )
