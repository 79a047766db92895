"""Backups that people hear of: one under too much load, with a deadline that it misses; and one that fails."""

import os
from datetime import timedelta

import pendulum
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference

from airflow_backup_guard.core import AlertChannel, AlertRules, BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.notifications import BackupGuardNotifier
from airflow_backup_guard.operators import PostgresSnapshotOperator, ThrottledCopyOperator

told = ("title", "text", "severity", "state", "key", "link")
hook = AlertChannel(
    name="hook",
    notifier="airflow.providers.http.notifications.http.HttpNotifier",
    arguments={
        "http_conn_id": "webhook",
        "endpoint": "alert",
        "json": {what: f"{{{{ alert_{what} }}}}" for what in told},
    },
)


def plan(name: str, connection: str) -> BackupPlan:
    """A plan whose threshold every commit is over."""
    return BackupPlan(
        name=name,
        connection=connection,
        repository=os.environ["SHOP_BACKUP_REPOSITORY"],
        calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
        max_rate="6MB/s",
        checkpoint="fast",
        alerts=AlertRules(
            channels=[hook],
            thresholds=LoadLimits(commit_latency=(timedelta(microseconds=1), "100s")),
            raise_after="1s",
        ),
    )


loaded, failing = plan("loaded", "shop_primary"), plan("failing", "wrong_password")
late = AsyncCallback(BackupGuardNotifier, kwargs={"plan": loaded.to_dict(), "max_age": "1d"})
deadline = DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, timedelta(seconds=1), late)
with DAG("loaded", schedule=None, start_date=pendulum.datetime(2026, 1, 1), deadline=deadline):
    snapshot = PostgresSnapshotOperator(task_id="snapshot", plan=loaded)
    snapshot >> ThrottledCopyOperator(task_id="copy", plan=loaded, snapshot=snapshot.output)

with DAG("failing", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
    PostgresSnapshotOperator(task_id="snapshot", plan=failing, on_failure_callback=BackupGuardNotifier(failing))
