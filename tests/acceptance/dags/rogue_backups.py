"""The watchdog as a sensor, in each of the ways that a sensor can wait; and the answer to what it saw."""

import os
from pathlib import Path

import pendulum
from airflow.sdk import DAG, BaseNotifier

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, WatchdogPolicy
from airflow_backup_guard.operators import RogueBackupResponseOperator
from airflow_backup_guard.sensors import RogueBackupSensor


class ToFile(BaseNotifier):
    """Writes the title of what it is told to a file."""

    template_fields = ("title",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.title = "{{ backup_title }}"

    def notify(self, context):
        with Path(os.environ["AIRFLOW_HOME"], f"{self.name}.told").open("a") as told:
            told.write(f"{self.title}\n")


later = pendulum.now("UTC").add(hours=6)
plan = BackupPlan(
    name="rogues",
    connection="shop_primary",
    repository=os.environ["SHOP_BACKUP_REPOSITORY"],
    calendar=OffPeakCalendar.parse(f"daily {later:%H:00}-{later:%H:30}", tz="UTC"),
    watchdog=WatchdogPolicy(policy="terminate", grace="2s"),
)

with DAG("rogue_backups", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
    sensors = [
        RogueBackupSensor(task_id=way, plan=plan, timeout=90, **arguments)
        for way, arguments in {
            "poked": {"mode": "poke", "poke_interval": 1},
            # Airflow takes a task for dead if it is queued again before the executor's word of its last end was read.
            "rescheduled": {"mode": "reschedule", "poke_interval": 3},
            "deferred": {"deferrable": True},
        }.items()
    ]
    sensors >> RogueBackupResponseOperator(
        task_id="respond", plan=plan, rogues=sensors[0].output, notifiers=[ToFile("rogues")]
    )
