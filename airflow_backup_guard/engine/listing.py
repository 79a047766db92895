"""Lists a repository with few requests: remembers what it has read of backups, and reads the rest side by side."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.catalog import (
    BackupSummary,
    Catalog,
    Memory,
    Remembered,
    Unreadable,
    memory_key,
    summarize,
)
from airflow_backup_guard.core.holds import HOLDS, Hold, hold_key
from airflow_backup_guard.core.verification import Verification
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, ObjectMissing
from airflow_backup_guard.repository.base import ObjectInfo, Repository
from airflow_backup_guard.repository.read import read_whole

_READERS = 8  # fewer than the connections that boto3 keeps
_WORTH_REMEMBERING = 16
_log = logging.getLogger(__name__)
_Backup = tuple[str, str]  # plan and id


@dataclass(frozen=True)
class _Found:
    """What was read of one backup; ``remembered`` is None if not all of it could be read."""

    summary: BackupSummary | None
    unreadable: tuple[Unreadable, ...] = ()
    remembered: Remembered | None = None


def list_backups(repository: Repository, plan_name: str | None = None, *, fresh: bool = False) -> Catalog:
    """All whole backups, of one plan or of all, with their last verification and their hold.

    What was remembered counts only of objects that have not changed since; ``fresh`` reads them all nevertheless.
    After many new ones it is remembered anew, if the repository can be written to.
    """
    records = _listed(repository, backup.RECORDS, plan_name)
    verifications = _listed(repository, backup.VERIFICATIONS, plan_name)
    holds = _listed(repository, HOLDS, plan_name)
    plans = sorted({plan for plan, _ in records})
    known = {} if fresh else {key: one for plan in plans for key, one in _recall(repository, plan).items()}

    def look(one: _Backup) -> _Found:
        tags = (records[one].tag, verifications[one].tag if one in verifications else "")
        old = known.get(one)
        if old is not None and tags == (old.record_tag, old.verification_tag):
            found = _Found(old.summary, (), old)
        else:
            found = _read(repository, *one, tags)
        return _with_hold(repository, found) if one in holds else found

    with ThreadPoolExecutor(_READERS) as pool:
        found = dict(zip(records, pool.map(look, records), strict=True))
    new = Counter(plan for (plan, _), one in found.items() if one.remembered is not known.get((plan, _)))
    for plan in plans:
        if new[plan] >= _WORTH_REMEMBERING:
            _remember(repository, plan, (one.remembered for (own, _), one in found.items() if own == plan))
    return Catalog(
        tuple(one.summary for one in found.values() if one.summary is not None),
        tuple(unreadable for one in found.values() for unreadable in one.unreadable),
    )


def read_hold(repository: Repository, plan_name: str, backup_id: str) -> Hold | None:
    """The hold on a backup, or None; raises :class:`BackupDamaged`, and who meets that takes the backup for held."""
    key = hold_key(plan_name, backup_id)
    try:
        return backup.load(Hold, read_whole(repository, key), key)
    except ObjectMissing:
        return None


def _listed(repository: Repository, kind: str, plan_name: str | None) -> dict[_Backup, ObjectInfo]:
    prefix = kind if plan_name is None else f"{kind}{plan_name}/"
    found = {}
    for info in repository.list(prefix):
        plan, _, name = info.key.removeprefix(kind).partition("/")
        backup_id = name.removesuffix(".json")
        if backup.is_backup_id(backup_id) and name != backup_id:  # whatever else somebody put there is none of ours
            found[plan, backup_id] = info
    return found


def _read(repository: Repository, plan: str, backup_id: str, tags: tuple[str, str]) -> _Found:
    key = backup.record_key(plan, backup_id)
    try:
        record = backup.load(BackupRecord, read_whole(repository, key), key)
        if (record.plan_name, record.backup_id) != (plan, backup_id):
            raise BackupDamaged(
                f"{key} is the record of backup {record.backup_id} of plan {record.plan_name}.",
                remedy="Put it back where it belongs, under records/, or remove it.",
            )
    except ObjectMissing:
        return _Found(None)  # somebody removed it just now
    except BackupDamaged as error:
        return _Found(None, (_unreadable(plan, backup_id, key, error),))
    key = backup.verification_key(plan, backup_id)
    try:
        verification = backup.load(Verification, read_whole(repository, key), key) if tags[1] else None
    except ObjectMissing:
        return _Found(summarize(record, None))
    except BackupDamaged as error:
        return _Found(summarize(record, None), (_unreadable(plan, backup_id, key, error),))
    summary = summarize(record, verification)
    return _Found(summary, (), Remembered(*tags, summary))


def _with_hold(repository: Repository, found: _Found) -> _Found:
    if found.summary is None:
        return found
    plan, backup_id = found.summary.plan_name, found.summary.backup_id
    try:
        return replace(found, summary=replace(found.summary, hold=read_hold(repository, plan, backup_id)))
    except BackupDamaged as error:
        unreadable = _unreadable(plan, backup_id, hold_key(plan, backup_id), error)
        return replace(
            found,
            summary=replace(found.summary, hold=UNREADABLE_HOLD),
            unreadable=(*found.unreadable, unreadable),
        )


UNREADABLE_HOLD = Hold(
    backup.FORMAT, None, "the hold cannot be read", "somebody", datetime.fromtimestamp(0, timezone.utc)
)
"""Stands for a hold that is there and cannot be read."""


def _unreadable(plan: str, backup_id: str, key: str, error: BackupDamaged) -> Unreadable:
    return Unreadable(plan, backup_id, key, error.message, error.remedy)


def _recall(repository: Repository, plan: str) -> dict[_Backup, Remembered]:
    key = memory_key(plan)
    try:
        memory = backup.load(Memory, read_whole(repository, key), key)
    except ObjectMissing:
        return {}
    except BackupGuardError as error:
        _log.info("Everything is read anew: %s", error)
        return {}
    return {(one.summary.plan_name, one.summary.backup_id): one for one in memory.backups}


def _remember(repository: Repository, plan: str, found: Iterable[Remembered | None]) -> None:
    memory = Memory(backup.FORMAT, tuple(one for one in found if one is not None))
    try:
        repository.put(memory_key(plan), backup.dump(memory))
    except BackupGuardError as error:
        _log.info("The next listing reads everything anew: %s", error)
