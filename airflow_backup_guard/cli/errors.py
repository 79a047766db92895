"""The one error that only a command line can have."""

from __future__ import annotations

from airflow_backup_guard.core.secrets import without_secrets
from airflow_backup_guard.errors import BackupGuardError

__all__ = ["WrongUse", "without_secrets"]


class WrongUse(BackupGuardError):
    """The command was given something that it does not take, or not given what it needs."""
