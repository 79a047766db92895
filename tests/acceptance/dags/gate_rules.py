"""Gates whose plans say what becomes of a run that is late, or starved by the load; and some that wait for a table."""

import os
from pathlib import Path

import pendulum
from airflow.sdk import DAG, BaseNotifier, task

from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.core.load import CustomSignal
from airflow_backup_guard.sensors import OffPeakSensor, WriteLoadSensor

now = pendulum.now("UTC")
WAYS = {
    "poked": {"mode": "poke", "poke_interval": 1},
    # Airflow takes a task for dead if it is queued again before the executor's word of its last end was read.
    "rescheduled": {"mode": "reschedule", "poke_interval": 3},
    "deferred": {"deferrable": True},
}
HELD = CustomSignal(sql="SELECT count(*) FROM pg_class WHERE relname = 'hold_the_gates'", max="0.5")


class Told(BaseNotifier):
    """Writes what it is told into a file."""

    template_fields = ("text",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.text = "{{ backup_title }}"

    def notify(self, context) -> None:
        note(self.name, self.text)


def note(name: str, text: str) -> None:
    with (Path(os.environ["AIRFLOW_HOME"]) / f"{name}.told").open("a") as file:
        file.write(f"{text}\n")


def plan(**values) -> BackupPlan:
    defaults = {
        "name": "gate-rules",
        "connection": "shop_primary",
        "repository": os.environ["SHOP_BACKUP_REPOSITORY"],
        "calendar": OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
        "quiet_for": "1s",
        "min_rate": "2MB/s",
    }
    return BackupPlan(**{**defaults, **values})


def dag(dag_id: str) -> DAG:
    return DAG(dag_id, schedule=None, start_date=pendulum.datetime(2026, 1, 1))


# Open for three hours, of which less than one is left.
closing = OffPeakCalendar.parse(f"daily {now.subtract(hours=2):%H:00}-{now.add(hours=1):%H:00}", tz="UTC")
for rule in ("skip", "fail"):
    with dag(f"late_{rule}"):
        for way, arguments in WAYS.items():
            late = plan(calendar=closing, min_remaining="1h 1min", when_late=rule)
            OffPeakSensor(task_id=way, plan=late, retries=1, **arguments)

for rule in ("go_at_floor", "fail"):
    with dag(f"starved_{rule}"):
        for way, arguments in WAYS.items():
            starved = plan(limits=LoadLimits(commit_latency="0.001ms"), rpo="6s", when_starved=rule)
            told = Told(f"starved_{rule}_{way}")
            # Where looks are seconds apart, Airflow's scheduler sometimes takes the end of one for the end of the next,
            # and fails that try ("finished with state success, but ... state attribute is queued").
            retries = 0 if way == "poked" else 3
            WriteLoadSensor(
                task_id=way, plan=starved, timeout=300, notifiers=[told], retries=retries, retry_delay=1, **arguments
            )

for part, way in (("triggerer", "deferred"), ("scheduler", "deferred"), ("worker", "poked")):
    with dag(f"restarted_{part}"):
        held = plan(limits=LoadLimits(commit_latency="10s", custom={"held": HELD}))
        gate = WriteLoadSensor(task_id="gate", plan=held, retries=1, retry_delay=1, **WAYS[way])

        @task
        def passed(part: str = part) -> None:
            note(f"restarted_{part}", "passed")

        gate >> passed()
