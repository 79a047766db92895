"""Finds backups in a repository, by their records alone, and reads what lies beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.drill import DrillResult, drill_key
from airflow_backup_guard.core.expiry import expiring_key
from airflow_backup_guard.core.verification import Verification
from airflow_backup_guard.errors import BackupDamaged, BackupMissing, ObjectMissing
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_lines, read_whole


def backups(repository: Repository, plan_name: str | None = None) -> Iterator[BackupRecord]:
    """All visible backups, of one plan or of all, by plan and then by time; raises ``BackupDamaged`` for a bad one."""
    for plan, backup_id in ids(repository, plan_name):
        yield record_of(repository, plan, backup_id)


def record_of(repository: Repository, plan_name: str, backup_id: str) -> BackupRecord:
    """One backup's record; raises ``ObjectMissing``, and ``BackupDamaged`` also for one that is of another backup."""
    key = backup.record_key(plan_name, backup_id)
    record = backup.load(BackupRecord, read_whole(repository, key), key)
    if (record.plan_name, record.backup_id) != (plan_name, backup_id):
        raise BackupDamaged(
            f"{key} is the record of backup {record.backup_id} of plan {record.plan_name}.",
            remedy="Somebody copied or renamed it: put the right one back, or remove it.",
        )
    return record


def find(repository: Repository, backup_id: str, plan_name: str | None = None) -> BackupRecord:
    """The backup by this id, or the newest one for ``"latest"``; raises :class:`BackupMissing`."""
    found = list(ids(repository, plan_name))
    if backup_id == "latest":
        matching = sorted(found, key=lambda pair: pair[1])[-1:]
        if len({plan for plan, _ in found}) > 1:
            raise BackupMissing(
                f"{repository.url} has backups of several plans: {', '.join(sorted({p for p, _ in found}))}.",
                remedy="Say which one, with --plan-name, or give a backup's id.",
            )
    else:
        matching = [pair for pair in found if pair[1] == backup_id]
    if not matching:
        what = "no backup at all" if not found else f"no backup {backup_id}"
        raise BackupMissing(f"{repository.url} has {what}.", remedy="See backup-guard list.")
    return record_of(repository, *matching[0])


def last_verification(repository: Repository, record: BackupRecord) -> Verification | None:
    """What the latest verification of a backup found, or None if there was none."""
    key = backup.verification_key(record.plan_name, record.backup_id)
    try:
        return backup.load(Verification, read_whole(repository, key), key)
    except ObjectMissing:
        return None


def last_drill(repository: Repository, record: BackupRecord) -> DrillResult | None:
    """What the latest restore drill of a backup found, or None if there was none."""
    key = drill_key(record.plan_name, record.backup_id)
    try:
        return backup.load(DrillResult, read_whole(repository, key), key)
    except ObjectMissing:
        return None


@contextmanager
def gone_explained(repository: Repository, record: BackupRecord) -> Iterator[None]:
    """Raise :class:`BackupMissing` in place of ``ObjectMissing`` where the whole backup was removed meanwhile."""
    try:
        yield
    except ObjectMissing as error:
        refuse_gone(repository, record, error)
        raise


def refuse_gone(repository: Repository, record: BackupRecord, cause: Exception | None = None) -> None:
    """Raise :class:`BackupMissing` for a backup that is not visible any more."""
    if any(repository.list(backup.record_key(record.plan_name, record.backup_id))):
        return
    expired = any(repository.list(expiring_key(record.plan_name, record.backup_id)))
    how = "has expired" if expired else "was removed from the repository"
    raise BackupMissing(
        f"Backup {record.backup_id} of plan {record.plan_name} {how} while it was being read.",
        remedy="Use another one: see backup-guard list. backup-guard hold keeps one from expiring.",
    ) from cause


def ids(repository: Repository, plan_name: str | None) -> Iterator[tuple[str, str]]:
    """Plan and id of every visible backup, of one plan or of all, by plan and then by time."""
    prefix = backup.RECORDS if plan_name is None else f"{backup.RECORDS}{plan_name}/"
    for found in repository.list(prefix):
        plan, _, name = found.key.removeprefix(backup.RECORDS).partition("/")
        backup_id = name.removesuffix(".json")
        if backup.is_backup_id(backup_id):  # whatever else somebody put there is none of ours
            yield plan, backup_id


def telemetry(repository: Repository, record: BackupRecord, identities: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What a copy wrote once a second about load, decision and rate, the oldest first; docs/format.md has the fields.

    ``identities`` are age secret keys, for a backup that is encrypted.
    """
    lines: list[dict[str, Any]] = []
    for part in record.parts_of("telemetry"):
        lines += read_lines(repository, part.key, identities)
    return lines
