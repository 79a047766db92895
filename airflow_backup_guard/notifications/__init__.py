"""What tells people, from the callbacks and deadlines of a DAG."""

from airflow_backup_guard.notifications.backup_guard import BackupGuardNotifier

__all__ = ["BackupGuardNotifier"]
