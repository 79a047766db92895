"""The steps of a backup as tasks."""

from airflow_backup_guard.operators.copy import ThrottledCopyOperator
from airflow_backup_guard.operators.notify import BackupNotifyOperator
from airflow_backup_guard.operators.record_load import LoadRecordOperator, QuietHoursOperator
from airflow_backup_guard.operators.snapshot import PostgresSnapshotOperator
from airflow_backup_guard.operators.verify import BackupVerifyOperator

__all__ = [
    "BackupNotifyOperator",
    "BackupVerifyOperator",
    "LoadRecordOperator",
    "PostgresSnapshotOperator",
    "QuietHoursOperator",
    "ThrottledCopyOperator",
]
