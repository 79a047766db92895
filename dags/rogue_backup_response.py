"""Hears of every backup of one PostgreSQL cluster that is neither ours nor allowed, and answers it.

The triggerer watches the database, and starts a run within seconds of a backup that nobody guards. That keeps the
evidence in the plan's repository, tells people, and with `policy="terminate"` ends the backup once the grace time is
over, outside of the plan's windows or at critical load. Change the plan to your cluster, at best to the very plan of
its backups; docs/watchdog.md says what the watchdog can see, and how sure it is.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG, Asset, AssetWatcher, BaseNotifier

from airflow_backup_guard.core import AllowRule, BackupPlan, OffPeakCalendar, WatchdogPolicy
from airflow_backup_guard.operators import RogueBackupResponseOperator
from airflow_backup_guard.triggers.rogue_backup import RogueBackupEventTrigger

plan = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository=os.environ.get("SHOP_BACKUP_REPOSITORY", "file:///srv/backups"),
    calendar=OffPeakCalendar.parse(
        os.environ.get("SHOP_OFF_PEAK", "Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00"),
        tz=os.environ.get("SHOP_TIME_ZONE", "America/Los_Angeles"),
    ),
    watchdog=WatchdogPolicy(
        policy="alert",
        grace="60s",
        # Who may run backups of his own here, by role, client address or application name.
        allow=[AllowRule(user="warehouse", application_name="pg_dump", off_peak_only=True)],
    ),
)

# Called once for each rogue backup: SlackNotifier(text="{{ backup_report }}"), PagerdutyNotifier, and so on.
notifiers: list[BaseNotifier] = []

rogue_backups = Asset(
    "rogue_backups_of_shop",
    watchers=[AssetWatcher(name="watchdog_of_shop", trigger=RogueBackupEventTrigger(plan=plan.to_dict()))],
)

with DAG(
    dag_id="rogue_backup_response",
    schedule=[rogue_backups],
    start_date=pendulum.datetime(2026, 1, 1, tz=plan.calendar.tz),
    catchup=False,
    doc_md=__doc__,
    tags=["backup", "postgresql"],
):
    RogueBackupResponseOperator(task_id="respond", plan=plan, notifiers=notifiers)
