"""Plans to look at, none of which ever runs: one that stands well, and some of which something cannot be read."""

import os

import pendulum
from airflow.sdk import DAG

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, RetentionPolicy
from airflow_backup_guard.operators import PostgresSnapshotOperator

shown = f"{os.environ['SHOP_BACKUP_REPOSITORY']}-shown"

with DAG("shown_plans", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
    for name, repository, recipients in (
        ("shown-good", shown, ()),
        ("shown-sealed", shown, ("age1somebody",)),
        ("shown-broken", shown, ()),
        ("shown-away", "file:///nowhere/at/all", ()),
        ("shown-locked", "s3://no_such_connection@backups/prefix", ()),
        ("shown-s3", "s3://shown_s3@shown/prefix", ()),
    ):
        PostgresSnapshotOperator(
            task_id=name,
            plan=BackupPlan(
                name=name,
                connection="shop_primary",
                repository=repository,
                calendar=OffPeakCalendar.parse("daily 01:00-05:00", tz="Europe/Berlin"),
                rpo="26h",
                recipients=recipients,
                retention=RetentionPolicy(keep_daily=7),
            ),
        )
