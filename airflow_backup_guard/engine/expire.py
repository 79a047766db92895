"""Removes the backups that a plan's retention lets go, so that at no moment a backup is visible and not whole.

The record goes first, and with it the backup; a mark that is there before and after tells the next expiry what to
finish. Expiries, copies, verifications and restores may run at the same time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pendulum

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.catalog import BackupSummary, memory_key
from airflow_backup_guard.core.drill import DRILLS, drill_key
from airflow_backup_guard.core.expiry import Expiring, Expiry, Failure, LeftOver, expiring_key, expiring_prefix
from airflow_backup_guard.core.holds import HOLDS, hold_key
from airflow_backup_guard.core.retention import ABANDONED_AFTER, Decision, RetentionPolicy, decide
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog, control
from airflow_backup_guard.engine.attempt import close_with
from airflow_backup_guard.engine.left_over import Stored, left_over
from airflow_backup_guard.engine.listing import UNREADABLE_HOLD, list_backups, read_hold
from airflow_backup_guard.engine.parts import clear_parts
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import (
    BackupDamaged,
    BackupGuardError,
    ObjectMissing,
    RepositoryDenied,
    RepositoryFull,
    RepositoryUnavailable,
)
from airflow_backup_guard.repository.base import Repository

_READERS = 8  # fewer than the connections that boto3 keeps
_STALE = timedelta(days=1)
_FOR_EVER = datetime.max.replace(tzinfo=timezone.utc)
_log = logging.getLogger(__name__)


def propose(
    repository: Repository,
    plan_name: str,
    policy: RetentionPolicy,
    tz: str,
    *,
    abandoned_after: timedelta = ABANDONED_AFTER,
    now: datetime | None = None,
) -> Expiry:
    """What would expire now, and why; changes no backup. Days and longer periods are those of the time zone ``tz``.

    Nothing is decided by what listings remember: every record and verification is read. A backup of which less is
    stored than was written counts as damaged, whatever was found of it before; but one that was found good stays until
    a verification says so, too: where it is stored may be out of reach.
    """
    now = now or datetime.now(timezone.utc)
    stored = Stored.of(repository, plan_name)
    found = list_backups(repository, plan_name, fresh=True)
    sizes = {one.backup_id: _stored_size(repository, stored, one) for one in found.backups}
    short = {one.backup_id for one in found.backups if sizes[one.backup_id] < one.stored_size}
    backups = [replace(one, verdict=Verdict.DAMAGED) if one.backup_id in short else one for one in found.backups]
    decisions = decide(policy, backups, pendulum.timezone(tz), now)
    good = {one.backup_id for one in found.backups if one.trust > 1}
    decisions = tuple(
        _explained(one, sizes[one.backup.backup_id], one.backup.backup_id in good)
        if one.backup.backup_id in short
        else one
        for one in decisions
    )
    locked = _locked(repository, stored, [one for one in decisions if not one.keep])
    decisions = tuple(locked.get(one.backup.backup_id, one) for one in decisions)
    # What has a record that cannot be read, or that came meanwhile, is visible, too.
    visible = {info.key.rpartition("/")[2].removesuffix(".json") for info in repository.list(_records(plan_name))}
    kept = [one.backup.backup_id for one in decisions if one.keep]
    stale = tuple(one for one in kept if one in stored.marks and now - stored.marks[one] > _STALE)
    return Expiry(
        plan_name=plan_name,
        policy=policy,
        tz=tz,
        decisions=decisions,
        left_over=tuple(left_over(repository, plan_name, stored, visible, now, abandoned_after)),
        unreadable=found.unreadable,
        stale=stale,
    )


def expire(
    expiry: Expiry,
    repository: Repository,
    *,
    stop: Stop | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Expiry:
    """Do what was proposed, the oldest first; returns what it came to.

    What cannot be removed is among the ``failures``, and does not keep the rest from being removed. Killed at any
    moment, it leaves every backup whole or not visible, and the next one finishes. Raises :class:`BackupStopped`.
    """
    stop = stop or Stop()
    changes: dict[str, Decision] = {}
    failures: dict[str, Failure] = {}
    work: list[Decision | LeftOver] = [*expiry.expired, *expiry.swept]
    for done, one in enumerate(work):
        stop.check()
        on_progress(done, len(work))
        backup_id = one.backup_id if isinstance(one, LeftOver) else one.backup.backup_id
        try:
            if isinstance(one, LeftOver):
                _sweep(repository, expiry.plan_name, one)
                _log.info("Swept %s: %s", backup_id, one)
            elif changed := _remove(repository, expiry, one):
                changes[backup_id] = changed
                _log.info("Backup %s stays: %s", backup_id, changed)
            else:
                _log.info("Backup %s has expired: %s", backup_id, one)
        except BackupGuardError as error:
            failures[backup_id] = Failure(backup_id, error.message, error.remedy)
            _log.warning("Backup %s could not be removed: %s", backup_id, error)
            if isinstance(one, Decision) and _is_visible(repository, expiry.plan_name, backup_id):
                changes[backup_id] = replace(one, keep=True, reasons=(f"it could not be removed: {error.message}",))
    repository.delete_all([expiring_key(expiry.plan_name, backup_id) for backup_id in expiry.stale])
    _drop_stale_writes(repository, expiry.plan_name)
    on_progress(len(work), len(work))
    return expiry.after(changes, failures)


def policy_of(repository: Repository, plan_name: str) -> tuple[RetentionPolicy, str]:
    """Retention and time zone of the plan that the newest backup was made under; raises :class:`BackupMissing`."""
    plan = catalog.find(repository, "latest", plan_name).snapshot.plan
    return RetentionPolicy.from_dict(plan.get("retention", {})), str(plan["calendar"]["tz"])


def _records(plan_name: str) -> str:
    return f"{backup.RECORDS}{plan_name}/"


def _stored_size(repository: Repository, stored: Stored, one: BackupSummary) -> int:
    """How many bytes are there of it. A record may outlive its parts, or come long after them: a store may perform a
    write when all is cleaned up."""
    size = sum(info.size for info in stored.parts.get(one.backup_id, ()))
    if size == one.stored_size:
        return size
    # It may have been made since; and what else lies there does not stand for what is missing.
    there = {info.key: info.size for info in repository.list(backup.parts_prefix(one.plan_name, one.backup_id))}
    try:
        parts = catalog.record_of(repository, one.plan_name, one.backup_id).parts
    except (ObjectMissing, BackupDamaged):  # somebody removed or replaced it just now
        return 0
    return sum(min(part.size, there.get(part.key, 0)) for part in parts)


def _explained(decision: Decision, size: int, was_good: bool) -> Decision:
    missing = f"{Size(size)} of its {Size(decision.backup.stored_size)} are stored"
    if decision.keep:
        return replace(decision, reasons=(*decision.reasons, missing))
    if was_good:
        reason = f"{missing}, and it was found good: see what becomes of it, and verify it"
        return Decision(decision.backup, True, (reason,))
    return replace(decision, reasons=(missing, *decision.reasons))


def _is_visible(repository: Repository, plan_name: str, backup_id: str) -> bool:
    return any(repository.list(backup.record_key(plan_name, backup_id)))


def _locked(repository: Repository, stored: Stored, expired: list[Decision]) -> dict[str, Decision]:
    """Those of some decisions that the repository itself overrules: the backup stays visible, as all of it is there."""

    def look(one: Decision) -> Decision:
        backup_id, plan = one.backup.backup_id, one.backup.plan_name
        keys = [backup.record_key(plan, backup_id), *(part.key for part in stored.parts.get(backup_id, ()))]
        locks = [lock for key in keys if (lock := repository.lock_of(key)) is not None]
        lock = max(locks, key=lambda lock: lock.until or _FOR_EVER, default=None)
        return replace(one, keep=True, reasons=(str(lock),)) if lock else one

    with ThreadPoolExecutor(_READERS) as pool:
        return {one.backup.backup_id: one for one in pool.map(look, expired) if one.keep}


def _drop_stale_writes(repository: Repository, plan: str) -> None:
    """Of small objects too a writer that was killed may have left something, which nobody sees."""
    folders = (HOLDS, DRILLS, backup.VERIFICATIONS)
    for prefix in (expiring_prefix(plan), memory_key(plan), *(f"{folder}{plan}/" for folder in folders)):
        for write in list(repository.unfinished_writes(prefix)):
            if datetime.now(timezone.utc) - write.since > _STALE:
                repository.abort_writes(write.key)


def _remove(repository: Repository, expiry: Expiry, decision: Decision) -> Decision | None:
    """Remove one backup; or return why it is kept after all."""
    plan, backup_id = expiry.plan_name, decision.backup.backup_id
    mark = expiring_key(plan, backup_id)
    now = datetime.now(timezone.utc)
    # It may have outlived its copy, and with the record gone it would look like one that runs.
    repository.delete(backup.attempt_key(plan, backup_id))
    _mark(repository, plan, mark, now)
    try:
        hold = read_hold(repository, plan, backup_id)
    except BackupDamaged:
        hold = UNREADABLE_HOLD
    if hold is not None and not hold.is_over(now.astimezone(pendulum.timezone(expiry.tz)).date()):
        repository.delete(mark)
        return replace(decision, keep=True, reasons=(str(hold),))
    try:
        repository.delete(backup.record_key(plan, backup_id))
    except RepositoryDenied:
        # After any other error the record may be gone all the same, and the mark is needed.
        with suppress(BackupGuardError):
            repository.delete(mark)
        raise
    if _is_visible(repository, plan, backup_id):
        raise RepositoryUnavailable(
            f"{repository.url} has {backup.record_key(plan, backup_id)} still, which it said that it removed.",
            remedy="Find out what it does with deletions before you trust it; the next expiry tries again.",
        )
    _remove_rest(repository, plan, backup_id)
    return None


def _mark(repository: Repository, plan: str, mark: str, now: datetime) -> None:
    """Put the mark. A disk without one free byte must not keep a backup from being removed: what listings remember
    makes room for it, and without that it goes on unmarked, as nobody can put a hold there either."""
    with suppress(RepositoryFull):
        try:
            repository.put(mark, backup.dump(Expiring(backup.FORMAT, now)))
        except RepositoryFull:
            repository.delete(memory_key(plan))
            repository.put(mark, backup.dump(Expiring(backup.FORMAT, now)))


def _sweep(repository: Repository, plan: str, left: LeftOver) -> None:
    if _is_visible(repository, plan, left.backup_id):
        return  # it has become a backup meanwhile
    if left.snapshot is not None:
        # First the word, then the deed: a copy that is not dead after all sees it before it makes a record.
        close_with(repository, left.snapshot, "it gave no sign of life, and was swept by an expiry")
        if _is_visible(repository, plan, left.backup_id):
            return
    _remove_rest(repository, plan, left.backup_id)


def _remove_rest(repository: Repository, plan: str, backup_id: str) -> None:
    """Remove what there is of a backup without a record; the mark goes last."""
    beside = (backup.verification_key, hold_key, drill_key)
    repository.delete_all([key_of(plan, backup_id) for key_of in beside])
    clear_parts(repository, backup.parts_prefix(plan, backup_id))
    control.clear(repository, plan, backup_id)
    repository.delete(expiring_key(plan, backup_id))
