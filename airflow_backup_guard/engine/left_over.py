"""What lies in a repository and belongs to no backup: left by an expiry or a copy that was killed, or unknown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import Attempt
from airflow_backup_guard.core.expiry import LeftOver, expiring_prefix
from airflow_backup_guard.core.retention import ABANDONED_AFTER
from airflow_backup_guard.core.units import parse_duration
from airflow_backup_guard.errors import BackupDamaged, InvalidPlan, ObjectMissing
from airflow_backup_guard.repository.base import ObjectInfo, Repository, UnfinishedWrite
from airflow_backup_guard.repository.read import read_whole


@dataclass
class Stored:
    """What is stored under each id of a plan, backup or not, as it was before its attempts and records were listed.

    In this order, because a copy removes its attempt once its record is there: what is stored and has neither was not
    made by a copy that runs.
    """

    parts: Mapping[str, list[ObjectInfo]]
    writes: Mapping[str, list[UnfinishedWrite]]
    marks: Mapping[str, datetime]
    attempts: Mapping[str, ObjectInfo] = field(default_factory=dict)

    @classmethod
    def of(cls, repository: Repository, plan_name: str) -> Stored:
        """Look; call this before any look at the records."""
        prefix = f"backups/{plan_name}/"
        marks = {
            backup_id: info.modified
            for info in repository.list(expiring_prefix(plan_name))
            if backup.is_backup_id(backup_id := info.key.rpartition("/")[2].removesuffix(".json"))
        }
        parts: defaultdict[str, list[ObjectInfo]] = defaultdict(list)
        for info in repository.list(prefix):
            parts[info.key.removeprefix(prefix).partition("/")[0]].append(info)
        writes: defaultdict[str, list[UnfinishedWrite]] = defaultdict(list)
        for write in repository.unfinished_writes(prefix):
            writes[write.key.removeprefix(prefix).partition("/")[0]].append(write)
        folder = backup.attempts_prefix(plan_name)
        attempts = {info.key.removeprefix(folder).removesuffix(".json"): info for info in list(repository.list(folder))}
        return cls(parts, writes, marks, attempts)


def left_over(
    repository: Repository,
    plan_name: str,
    stored: Stored,
    visible: Collection[str],
    now: datetime,
    abandoned_after: timedelta = ABANDONED_AFTER,
) -> list[LeftOver]:
    """What belongs to none of the ``visible`` backups, and to no copy that may run, by id.

    A copy may run as long as its plan's ``max_duration``, and ``abandoned_after`` at least, since it stored something.
    """
    found = []
    ids = {*stored.parts, *stored.writes, *stored.marks, *stored.attempts}
    for backup_id in sorted(one for one in ids.difference(visible) if backup.is_backup_id(one)):
        info = stored.attempts.get(backup_id)
        if info is None:
            why = "an expiry that was cut short" if backup_id in stored.marks else "neither a record nor an attempt"
            found.append(_left(stored, backup_id, why, known=backup_id in stored.marks))
            continue
        key = backup.attempt_key(plan_name, backup_id)
        try:
            attempt = backup.load(Attempt, read_whole(repository, key), key)
        except ObjectMissing:
            continue  # it has become a backup just now, or was cleaned up
        except BackupDamaged as error:
            found.append(_left(stored, backup_id, error.message, known=False))
            continue
        signs = [info.modified, *(part.modified for part in stored.parts.get(backup_id, ()))]
        signs += [write.since for write in stored.writes.get(backup_id, ())]
        nothing = not stored.parts.get(backup_id) and not stored.writes.get(backup_id)
        if nothing and attempt.outcome is not None:
            continue  # it is closed, and is kept a while for people to read
        if now - max(signs) > max(abandoned_after, _longest(attempt)):
            found.append(_left(stored, backup_id, "an abandoned attempt", attempt=attempt))
    return found


def _left(stored: Stored, backup_id: str, why: str, *, known: bool = True, attempt: Attempt | None = None) -> LeftOver:
    parts = stored.parts.get(backup_id, ())
    return LeftOver(
        backup_id=backup_id,
        why=why,
        objects=len(parts),
        size=sum(part.size for part in parts),
        unfinished=len(stored.writes.get(backup_id, ())),
        known=known,
        snapshot=attempt.snapshot if attempt else None,
    )


def _longest(attempt: Attempt) -> timedelta:
    try:
        return parse_duration(attempt.snapshot.plan.get("max_duration", ""))
    except InvalidPlan:
        return timedelta.max  # whatever wrote it, nobody can say that it is over
