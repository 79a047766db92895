"""The steps of a backup, and what becomes of it, as tasks."""

from airflow_backup_guard.operators.audit import BackupAuditOperator
from airflow_backup_guard.operators.command import GuardedCommandOperator
from airflow_backup_guard.operators.copy import ThrottledCopyOperator
from airflow_backup_guard.operators.drill import RestoreDrillOperator
from airflow_backup_guard.operators.expire import BackupExpireOperator
from airflow_backup_guard.operators.notify import BackupNotifyOperator
from airflow_backup_guard.operators.record_load import LoadRecordOperator, QuietHoursOperator
from airflow_backup_guard.operators.restore import BackupRestoreOperator
from airflow_backup_guard.operators.rogue_backup import RogueBackupResponseOperator
from airflow_backup_guard.operators.snapshot import PostgresSnapshotOperator
from airflow_backup_guard.operators.stop import BackupStopOperator
from airflow_backup_guard.operators.verify import BackupVerifyOperator

__all__ = [
    "BackupAuditOperator",
    "BackupExpireOperator",
    "BackupNotifyOperator",
    "BackupRestoreOperator",
    "BackupStopOperator",
    "BackupVerifyOperator",
    "GuardedCommandOperator",
    "LoadRecordOperator",
    "PostgresSnapshotOperator",
    "QuietHoursOperator",
    "RestoreDrillOperator",
    "RogueBackupResponseOperator",
    "ThrottledCopyOperator",
]
