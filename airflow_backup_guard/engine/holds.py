"""Puts a hold on a backup, and takes it off again; a hold and an expiry at the same moment cannot miss each other."""

from __future__ import annotations

import time
from datetime import date, datetime, timezone

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.expiry import expiring_key
from airflow_backup_guard.core.holds import Hold, hold_key
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.repository.base import Repository

_WAIT_SECONDS = 5.0


def hold(
    repository: Repository,
    record: BackupRecord,
    *,
    until: date | None,
    reason: str,
    by: str,
    wait_seconds: float = _WAIT_SECONDS,
) -> Hold:
    """Keep a backup to the end of the day ``until``, or until :func:`release`; takes the place of an earlier hold.

    An expiry marks a backup before it looks for a hold, and this looks for the mark after it has put the hold: one of
    them sees the other. Raises :class:`BackupMissing` if the backup was gone all the same.
    """
    made = Hold(backup.FORMAT, until, reason, by, datetime.now(timezone.utc))
    key = hold_key(record.plan_name, record.backup_id)
    repository.put(key, backup.dump(made))
    if any(repository.list(expiring_key(record.plan_name, record.backup_id))):
        # Between its look for a hold and the end of the record there is one request, or the mark is of a dead one.
        time.sleep(wait_seconds)
    if not any(repository.list(backup.record_key(record.plan_name, record.backup_id))):
        repository.delete(key)
        catalog.refuse_gone(repository, record)
    return made


def release(repository: Repository, record: BackupRecord) -> bool:
    """Take the hold off a backup, readable or not; False if there was none."""
    key = hold_key(record.plan_name, record.backup_id)
    held = any(repository.list(key))
    repository.delete(key)
    return held
