"""Schedules that keep to a plan's off-peak windows."""

from airflow_backup_guard.timetables.off_peak import OffPeakTimetable

__all__ = ["OffPeakTimetable"]
