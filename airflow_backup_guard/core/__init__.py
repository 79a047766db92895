"""Pure values and decisions: no I/O, no clock, no environment, no Airflow."""

from airflow_backup_guard.core.alert_rules import AlertChannel, AlertRules
from airflow_backup_guard.core.audit.values import AcceptedRisk
from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.drill_policy import DrillCheck, DrillPolicy
from airflow_backup_guard.core.load import CustomSignal, Limit, LoadLimits
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.core.units import Rate, Size
from airflow_backup_guard.core.watchdog import AllowRule, WatchdogPolicy

__all__ = [
    "AcceptedRisk",
    "AlertChannel",
    "AlertRules",
    "AllowRule",
    "BackupPlan",
    "CustomSignal",
    "DrillCheck",
    "DrillPolicy",
    "Limit",
    "LoadLimits",
    "OffPeakCalendar",
    "Rate",
    "RetentionPolicy",
    "Size",
    "WatchdogPolicy",
]
