"""An attempt to make a backup, in the repository: tried, tried again, closed, or become visible as a backup.

Its worker may be taken for dead and not be: whoever retries, tears down or expires an attempt says so in it first, and
whoever makes it a backup looks there before and after, so that of two one always sees the other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import Attempt, BackupRecord, Snapshot, StoredPart
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.engine import catalog, control
from airflow_backup_guard.engine.parts import PartStore
from airflow_backup_guard.errors import (
    BackupDamaged,
    BackupGuardError,
    ObjectExists,
    ObjectMissing,
    RepositoryFull,
    RepositoryUnavailable,
)
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.once import put_once
from airflow_backup_guard.repository.read import read_whole

_KEPT = timedelta(days=30)
_log = logging.getLogger(__name__)


def made_already(repository: Repository, snapshot: Snapshot) -> BackupRecord | None:
    """The backup that the attempt has become; None if it has not."""
    try:
        return catalog.record_of(repository, snapshot.plan_name, snapshot.backup_id)
    except ObjectMissing:
        return None


def close_attempt(plan: BackupPlan, snapshot: Snapshot, repository: Repository, reason: str) -> bool:
    """Leave nothing behind of an attempt that did not become a backup; True if there was something to close.

    A backup that is visible is not touched. May be called any number of times, by anybody, but not while the copy
    of this very attempt runs.
    """
    if not _is_visible(repository, snapshot):
        # First the word, then a look, then the deed. A copy that is not dead after all makes its record, then looks for
        # the word, and takes the record back: whoever comes second sees the other.
        close_with(repository, snapshot, reason)
        if not _is_visible(repository, snapshot):
            PartStore(repository, plan, snapshot.backup_id).clear()
            control.clear(repository, plan.name, snapshot.backup_id)
            return True
    _forget(repository, snapshot)
    return False


def close_with(repository: Repository, snapshot: Snapshot, reason: str) -> None:
    """Say in the attempt that it has ended, and why; on a disk without space for that, remove the attempt, which a copy
    that is not dead takes for the same."""
    known = _read(repository, snapshot)
    key = backup.attempt_key(snapshot.plan_name, snapshot.backup_id)
    closed = Attempt(backup.FORMAT, snapshot, outcome=reason, tries=known.tries if known else 0)
    try:
        repository.put(key, backup.dump(closed))
    except RepositoryFull:
        repository.delete(key)


def close_dead(plan: BackupPlan, snapshot: Snapshot, repository: Repository) -> None:
    """Close what dead copies of the same cluster left, and forget attempts that ended long ago.

    Only for who holds the cluster for ``snapshot``: no other copy of it can be alive then.
    """
    control.sweep(repository, plan.name, snapshot.backup_id)
    for found in list(repository.list(backup.attempts_prefix(plan.name))):
        try:
            attempt = backup.load(Attempt, read_whole(repository, found.key), found.key)
        except (BackupDamaged, ObjectMissing) as error:
            _log.warning("Left alone: %s", error)
            continue
        if attempt.outcome is not None and datetime.now(timezone.utc) - found.modified > _KEPT:
            repository.delete(found.key)
        other = attempt.snapshot
        if other.backup_id == snapshot.backup_id or attempt.outcome is not None:
            continue
        same = other.cluster.system_identifier == snapshot.cluster.system_identifier
        if same:
            # Only who holds the cluster writes these, and that one may have died in the middle of it.
            for key in (found.key, backup.record_key(plan.name, other.backup_id)):
                repository.abort_writes(key)
        # An attempt without parts may be a snapshot whose copy has yet to begin.
        prefix = backup.parts_prefix(plan.name, other.backup_id)
        if same and (any(repository.list(prefix)) or repository.abort_writes(prefix)):
            close_attempt(plan, other, repository, "its worker died in mid-copy")


class Try:
    """One try to make an attempt a backup, by a copy that holds the cluster; ``store`` is where its parts go."""

    def __init__(self, plan: BackupPlan, snapshot: Snapshot, repository: Repository) -> None:
        self._plan, self._snapshot, self._repository = plan, snapshot, repository
        self._number = 0
        self.store = PartStore(repository, plan, snapshot.backup_id)

    def begin(self) -> None:
        """Say that this try is under way, and then remove what earlier ones have stored."""
        known = _read(self._repository, self._snapshot)
        self._number = known.tries + 1 if known is not None else 1
        attempt = backup.dump(Attempt(backup.FORMAT, self._snapshot, tries=self._number))
        try:
            self._repository.put(self._key, attempt)
        except RepositoryFull:  # maybe of what an earlier try has stored
            self.store.clear()
            self._repository.put(self._key, attempt)
        self.store.clear()
        prefix = backup.try_prefix(self._plan.name, self._snapshot.backup_id, self._number)
        self.store = PartStore(self._repository, self._plan, self._snapshot.backup_id, prefix)

    def check_stored(self, parts: Sequence[StoredPart]) -> None:
        """Raise :class:`ObjectMissing` unless all is there still: somebody may have taken this copy for dead, and
        tidied up after it."""
        self._refuse_lost()
        there = {found.key: found.size for found in self._repository.list(self.store.prefix)}
        missing = [part.key for part in parts if there.get(part.key) != part.size]
        if missing:
            raise ObjectMissing(
                f"{len(missing)} objects of this backup are gone from the repository, {missing[0]} among them.",
                remedy="See who deletes there; retry from the snapshot.",
            )
        with suppress(BackupGuardError):  # it is only tidier without
            # All writers have ended; what is open was begun by a request whose answer was lost.
            self._repository.abort_writes(self.store.prefix)

    def make_visible(self, record: BackupRecord) -> None:
        """Store the record, and read it back: a repository that lost the answer, or the write, tells the contrary.

        It is taken back if somebody took this copy for dead meanwhile.
        """
        key, content = backup.record_key(record.plan_name, record.backup_id), backup.dump(record)
        try:
            put_once(self._repository, key, content)
        except ObjectExists as error:
            error.advise("Another try of this backup made it: see it with backup-guard show.")
            raise
        try:
            stored = read_whole(self._repository, key)
        except ObjectMissing:
            stored = b""
        if stored != content:
            self._repository.delete(key)  # before its parts are removed, should it turn up after all
            raise RepositoryUnavailable(
                f"{self._repository.url} has lost {key}, which it said that it stored.",
                remedy="Find out what it does with writes before you trust it; then try again.",
            )
        # The last look was before the record, and whoever took this copy for dead since then removes its parts.
        try:
            self._refuse_lost()
        except _TakenForDead:
            self._repository.delete(key)
            raise
        except ObjectMissing:
            pass  # somebody saw the record, and tidied up after it

    def end(self) -> None:
        """The backup is visible: the attempt and its orders go."""
        _forget(self._repository, self._snapshot)

    def give_up(self, error: BaseException) -> None:
        """Remove what this try stored, and nothing that is another's: its worker may have been taken for dead, and a
        retry be at work. The attempt says ``error`` then."""
        record = made_already(self._repository, self._snapshot)
        if record is not None and self.store.has_begun(part.key for part in record.parts):
            self.end()  # the answer to its last request was lost: it is whole
            return
        self.store.clear_own()
        attempt = _read(self._repository, self._snapshot)
        if record is None and attempt is not None and attempt.tries == self._number and attempt.outcome is None:
            close_with(self._repository, self._snapshot, str(error) or type(error).__name__)
            control.clear(self._repository, self._plan.name, self._snapshot.backup_id, for_retry=True)

    @property
    def _key(self) -> str:
        return backup.attempt_key(self._plan.name, self._snapshot.backup_id)

    def _refuse_lost(self) -> None:
        """Raise :class:`ObjectMissing` if somebody took this copy for dead: a retry of it, a teardown, an expiry."""
        try:
            attempt = backup.load(Attempt, read_whole(self._repository, self._key), self._key)
        except ObjectMissing as error:
            error.advise("See who deletes there; run it again from the snapshot.")
            raise
        if attempt.outcome is not None:
            raise _TakenForDead(
                f"The attempt of this backup was closed while it ran: {attempt.outcome}.",
                remedy="Run it again from the snapshot.",
            )
        if attempt.tries != self._number:
            raise _TakenForDead(
                f"This copy of {self._snapshot.backup_id} was taken for dead, and a retry of it has begun.",
                remedy="See the retry; this worker was cut off from the database or the scheduler, or stood still.",
            )


class _TakenForDead(ObjectMissing):
    """Somebody has begun to remove what this copy stored."""


def _read(repository: Repository, snapshot: Snapshot) -> Attempt | None:
    """The attempt as it is stored; None if it is gone, or is nothing that can be read."""
    key = backup.attempt_key(snapshot.plan_name, snapshot.backup_id)
    try:
        return backup.load(Attempt, read_whole(repository, key), key)
    except (ObjectMissing, BackupDamaged):
        return None


def _is_visible(repository: Repository, snapshot: Snapshot) -> bool:
    """Whether it has become a backup, be its record readable or not."""
    try:
        read_whole(repository, backup.record_key(snapshot.plan_name, snapshot.backup_id))
    except ObjectMissing:
        return False
    return True


def _forget(repository: Repository, snapshot: Snapshot) -> None:
    repository.delete(backup.attempt_key(snapshot.plan_name, snapshot.backup_id))
    control.clear(repository, snapshot.plan_name, snapshot.backup_id)
