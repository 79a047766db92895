"""The timetable where it has a run now, and where it has none until much later."""

from pathlib import Path

import pendulum
from airflow.sdk import DAG, task

from airflow_backup_guard.core import OffPeakCalendar
from airflow_backup_guard.timetables import OffPeakTimetable

# The same each time that the file is parsed.
now = pendulum.from_timestamp(Path(__file__).stat().st_mtime)
windows = {
    "open": f"{now.subtract(hours=2):%H:00}-{now.add(hours=4):%H:00}",
    "closed": f"{now.add(hours=6):%H:00}-{now.add(hours=10):%H:00}",
}
for state, times in windows.items():
    with DAG(
        f"off_peak_runs_{state}",
        schedule=OffPeakTimetable(OffPeakCalendar.parse(f"daily {times}", tz="UTC"), key="shop"),
        start_date=pendulum.datetime(2026, 1, 1),
        catchup=False,
    ):

        @task
        def planned(logical_date: pendulum.DateTime | None = None) -> str:
            return logical_date.isoformat() if logical_date else "no logical date"

        planned()
