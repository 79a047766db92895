"""Tasks that hold secrets in every way that a task can, and fail in every way that shows where they connect to."""

import os

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import AlertRules, BackupPlan, OffPeakCalendar
from airflow_backup_guard.operators import (
    BackupRestoreOperator,
    GuardedCommandOperator,
    PostgresSnapshotOperator,
    RestoreDrillOperator,
)
from airflow_backup_guard.sensors import WriteLoadSensor

CHANNEL = {
    "name": "hook",
    "notifier": "airflow.providers.http.notifications.http.HttpNotifier",
    "arguments": {"http_conn_id": "planted_hook", "endpoint": "alert", "json": {"text": "{{ alert_text }}"}},
}


def plan(name: str, connection: str, repository: str = os.environ["SHOP_BACKUP_REPOSITORY"]) -> BackupPlan:
    """A plan that tells a channel whose token is planted, too."""
    return BackupPlan(
        name=name,
        connection=connection,
        repository=repository,
        calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
        alerts=AlertRules(channels=[CHANNEL]),
    )


SCRIPT = 'echo "with $RESTIC_PASSWORD"; echo "and $RESTIC_PASSWORD" >&2; cat /proc/self/cmdline; exit 3'

with DAG("planted_secrets", schedule=None, start_date=pendulum.datetime(2026, 1, 1), max_active_runs=1):
    for place in ("wrong_host", "wrong_password"):
        PostgresSnapshotOperator(task_id=f"snapshot_{place}", plan=plan(f"planted_{place}", f"planted_{place}"))
    WriteLoadSensor(
        task_id="gate", plan=plan("planted_gate", "planted_wrong_host"), poke_interval=1, timeout=3, mode="poke"
    )
    bucket = "s3://planted_aws@nowhere/backups"
    PostgresSnapshotOperator(task_id="snapshot_bucket", plan=plan("planted_bucket", "shop_primary", bucket))
    identity = os.environ["PLANTED_IDENTITY_FILE"]
    encrypted = plan("planted_encrypted", "shop_primary")
    RestoreDrillOperator(task_id="drill", plan=encrypted, identity_file=identity)
    BackupRestoreOperator(
        task_id="restore", plan=encrypted, to=os.environ["SHOP_STAGING"] + "-planted", identity_file=identity
    )
    GuardedCommandOperator(
        task_id="command",
        plan=plan("planted_command", "shop_primary"),
        command=["sh", "-c", SCRIPT],
        env={"RESTIC_PASSWORD": "{{ conn.planted_restic.password }}", "PATH": os.environ["PATH"]},
    )
