"""A backup that takes half a minute, so that things can happen to it; one that cannot begin; what halts them."""

import os

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.operators import (
    BackupNotifyOperator,
    BackupStopOperator,
    BackupVerifyOperator,
    PostgresSnapshotOperator,
    ThrottledCopyOperator,
)

for name, connection in (("slow", "shop_primary"), ("wrong_password", "wrong_password")):
    plan = BackupPlan(
        name=name,
        connection=connection,
        repository=os.environ["SHOP_BACKUP_REPOSITORY"],
        calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
        max_rate="2MB/s",
        checkpoint="fast",
    )
    with DAG(name, schedule=None, start_date=pendulum.datetime(2026, 1, 1), max_active_runs=1):
        snapshot = PostgresSnapshotOperator(task_id="snapshot", plan=plan)
        copy = ThrottledCopyOperator(task_id="copy", plan=plan, snapshot=snapshot.output)
        verify = BackupVerifyOperator(task_id="verify", plan=plan, backup=copy.output)
        notify = BackupNotifyOperator(task_id="notify", plan=plan, snapshot=snapshot)
        snapshot >> copy >> verify >> notify
        copy >> snapshot.teardown()

    with DAG(f"halt_{name}", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
        BackupStopOperator(task_id="stop", plan=plan, reason="checkout is slow")
