"""The plugin: without it, the scheduler would refuse a DAG with a timetable of ours."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_backup_guard.timetables import OffPeakTimetable


class BackupGuardPlugin(AirflowPlugin):
    """All that this package adds to Airflow's own processes."""

    name = "backup_guard"
    timetables = [OffPeakTimetable]  # noqa: RUF012  # Airflow's own declaration
