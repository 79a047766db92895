"""What Airflow loads at its start, through the entry point group ``airflow.plugins``."""

from airflow_backup_guard.plugins.backup_guard import BackupGuardPlugin

__all__ = ["BackupGuardPlugin"]
