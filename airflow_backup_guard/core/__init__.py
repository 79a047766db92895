"""Pure values and decisions: no I/O, no clock, no environment, no Airflow."""

from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.load import CustomSignal, Limit, LoadLimits
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.units import Rate, Size

__all__ = ["BackupPlan", "CustomSignal", "Limit", "LoadLimits", "OffPeakCalendar", "Rate", "Size"]
