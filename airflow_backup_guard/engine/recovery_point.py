"""What the repository knows of a plan's past: the last backup that can be trusted, and how long backups take."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.errors import BackupDamaged, BackupMissing
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole


def recovery_point(repository: Repository, plan_name: str) -> datetime | None:
    """Up to when the last verified backup of a plan has every transaction, or None if there is no such backup.

    A backup counts from its snapshot, as that is what is promised; a verification that cannot be read is none.
    """
    for plan, backup_id in reversed(list(catalog.ids(repository, plan_name))):
        key = backup.record_key(plan, backup_id)
        try:
            record = backup.load(BackupRecord, read_whole(repository, key), key)
            verification = catalog.last_verification(repository, record)
        except BackupDamaged:
            continue
        if verification is not None and verification.verdict.trusted:
            return record.snapshot.taken_at
    return None


def last_duration(repository: Repository, plan_name: str) -> timedelta | None:
    """How long the last backup of a plan took, or None if there is none."""
    try:
        return timedelta(seconds=catalog.find(repository, "latest", plan_name).seconds)
    except BackupMissing:
        return None
