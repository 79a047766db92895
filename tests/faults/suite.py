"""The faults: where each can strike, found by running everything once without; and what is done with each."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Protocol, TypeVar

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord, Snapshot
from airflow_backup_guard.core.expiry import Expiring, expiring_key
from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.core.verification import Level, Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.faults import postgres_wire
from tests.faults.faulty_repository import Call
from tests.faults.postgres_wire import Position, Wire
from tests.faults.rig import Done, Judgement, Outcome, Rig
from tests.faults.stores import Store
from tests.stored import snapshot_at, store_backup, store_parts

T = TypeVar("T")

_VANISHING = ("base backup", "WAL", "slot")
_STREAMED = ("d:d", "d:w")
_DATABASE = ("PostgreSQL at", "The server", "The stream of WAL", "The base backup", "WAL up to")
_CORRUPT = ("corrupt", "corrupt request")
_FORGETFUL = ("stale", "lost write", "not done, says 200")
_LAST_ONE = RetentionPolicy(keep_last=1)


class Fault(Protocol):
    """One fault: what it is, and what comes of it."""

    def __str__(self) -> str: ...

    def inject(self, rig: Rig, *, restored: bool) -> Judgement:
        """Do it, hold the rule against what follows, with a restore if ``restored`` and there is a backup."""


def occurrences(seen: int, chance: random.Random) -> list[int]:
    """Of the things that happen ``seen`` times: the first, the last, and one between."""
    return sorted({1, seen, chance.randint(1, seen)})


@dataclass(frozen=True)
class DatabaseFault:
    """Between us and PostgreSQL, under a snapshot and a copy."""

    position: Position
    action: str

    def __str__(self) -> str:
        return f"database: {self.action} at {self.position}"

    def inject(self, rig: Rig, *, restored: bool) -> Judgement:
        """See :class:`Fault`."""
        repository = MemoryRepository()
        wire = rig.proxy.script = Wire(self.position, self.action, rig.random.randrange(1 << 30))
        judgement = _back_up(
            rig,
            str(self),
            (rig.proxied, repository, repository),
            parties=_DATABASE,
            restored=restored,
            may_be_bad=self.action in _CORRUPT,
            healed=rig.proxy.let_go,
        )
        if not wire.reached:
            judgement.outcome = Outcome.UNREACHED
        return judgement


def database_faults(rig: Rig, chance: random.Random) -> Iterator[Fault]:
    """One for everything that can be done at every kind of message of every session."""
    wire = rig.proxy.script = Wire()
    done = Done(lambda stop: rig.back_up(rig.proxied, MemoryRepository(), [], stop))
    assert done.value is not None, done.error
    for (session, label), seen in sorted(wire.seen.items()):
        for number in occurrences(seen, chance):
            for action in postgres_wire.ACTIONS:
                if action == "vanish" and session not in _VANISHING:
                    continue  # nothing of ours outlives it by more than TCP's keepalives
                if action in ("slow", "delay") and label.startswith(">"):
                    continue
                if action == "slow" and not label.endswith(_STREAMED):
                    continue
                yield DatabaseFault(Position(session, label, number), action)


@dataclass(frozen=True)
class RepositoryFault:
    """Between us and the repository, under one of :data:`STEPS`."""

    store: Store
    step: str
    call: Call
    action: str

    def __str__(self) -> str:
        return f"{self.store.name}, {self.step}: {self.action} at {self.call}"

    def inject(self, rig: Rig, *, restored: bool) -> Judgement:
        """See :class:`Fault`."""
        repository = rig.whole(self.store) if self.step in _READING else self.store.fresh()
        if self.step == "expire":
            _litter(repository)
        seen, disturbed = self.store.disturbed(repository, self.call, self.action, rig.random.randrange(1 << 30))
        if self.step == "backup":
            judgement = _back_up(
                rig,
                str(self),
                (rig.dsn, seen, repository),
                parties=(repository.url, "repository", "The attempt of this backup"),
                restored=restored,
                may_be_bad=self.action in _CORRUPT,
                healed=self.store.healed,
            )
        else:
            judgement = _UNDER[self.step](rig, self, seen, repository, restored)
        if not disturbed.reached:
            judgement.outcome = Outcome.UNREACHED
        return judgement

    @property
    def forgets(self) -> bool:
        """Whether the repository does not tell the truth, so that what is read may look lost or be there still."""
        return self.action in _FORGETFUL


def repository_faults(rig: Rig, store: Store, step: str, chance: random.Random) -> Iterator[Fault]:
    """One for everything that can be done at every call of a step."""
    repository = rig.whole(store) if step in _READING else store.fresh()
    if step == "expire":
        _litter(repository)
    seen, disturbed = store.disturbed(repository, None, "", 0)
    done = Done(lambda stop: STEPS[step](rig, seen))
    assert done.error is None, (step, done.error)
    for (method, kind), count in sorted(disturbed.seen.items()):
        for number in occurrences(count, chance):
            call = Call(method, kind, number)
            yield from (RepositoryFault(store, step, call, a) for a in store.actions if store.allows(call, a))


def _back_up(
    rig: Rig,
    what: str,
    through: tuple[str, Repository, Repository],
    *,
    parties: tuple[str, ...],
    restored: bool,
    may_be_bad: bool,
    healed: Callable[[], None],
) -> Judgement:
    """Snapshot and copy ``through`` a DSN and a repository, one of them disturbed; the last is the true repository."""
    dsn, seen, repository = through
    judgement = Judgement(what)
    began = time.monotonic()
    opened: list[Snapshot] = []
    mark = rig.mark()
    done = Done(lambda stop: rig.back_up(dsn, seen, opened, stop))
    judgement.hold(not done.hung, f"it had to be stopped after {done.seconds:.0f} s")
    rig.check_database(judgement)
    healed()
    marks = {one.backup_id: mark for one in opened}
    if done.error is not None:
        judgement.outcome = Outcome.REFUSED
        rig.check_error(judgement, done.error, parties)
    rig.check_backups(judgement, repository, marks, restored=restored, may_be_bad=may_be_bad)
    if done.value is None:
        rig.retry(judgement, repository, opened, marks)
        rig.check_backups(judgement, repository, marks, restored=False, may_be_bad=False)
    else:
        visible = [backup_id for _, backup_id in catalog.ids(repository, None)]
        judgement.hold(visible == [done.value.backup_id], "a backup is told of, and is not visible")
    if judgement.outcome is not Outcome.FOUND:
        rig.check_maintenance(judgement, repository)
    judgement.seconds = time.monotonic() - began
    return judgement


def _verify(rig: Rig, fault: RepositoryFault, seen: Repository, repository: Repository, restored: bool) -> Judgement:
    """It says that a sound backup is sound, or that it could not find out; and finds out once it can."""
    judgement, done = _run(rig, fault, lambda: _verify_step(rig, seen))
    if done.value is not None:
        wrong = done.value is Verdict.DAMAGED and not fault.forgets and "corrupt" not in fault.action
        judgement.hold(not wrong, "a sound backup is called damaged")
        if done.value is not Verdict.VERIFIED:
            judgement.outcome = Outcome.FOUND if "corrupt" in fault.action else Outcome.REFUSED
    (record,) = catalog.backups(repository)
    judgement.hold(verify(record, repository).verdict is Verdict.VERIFIED, "it does not verify afterwards")
    judgement.verified += 1
    return judgement


def _list(rig: Rig, fault: RepositoryFault, seen: Repository, repository: Repository, restored: bool) -> Judgement:
    """It shows the backup, or says that it could not read it."""
    judgement, done = _run(rig, fault, lambda: list_backups(seen))
    if done.value is not None and not fault.forgets:
        shown = len(done.value.backups) + len(done.value.unreadable)
        judgement.hold(shown, "a backup is not listed, and nothing is said")
    judgement.hold(len(list_backups(repository).backups) == 1, "it is not listed afterwards")
    return judgement


def _restore(rig: Rig, fault: RepositoryFault, seen: Repository, repository: Repository, restored: bool) -> Judgement:
    """All is restored, or nothing is left in the folder; and it is restored once that can be."""
    target = rig.folder / f"restore-{rig.random.randrange(1 << 60):x}"
    judgement, done = _run(rig, fault, lambda: _restore_step(rig, seen, target.name))
    if done.error is None:
        judgement.hold(rig.same_as_restored(repository, target), "what was restored differs")
    else:
        left = [path.name for path in target.iterdir()] if target.exists() else []
        judgement.hold(not left, f"left by a restore that failed: {left[:5]}")
    shutil.rmtree(target, ignore_errors=True)
    if restored:
        (record,) = catalog.backups(repository)
        rig.check_restore(judgement, record, repository, 0)
    return judgement


def _expire(rig: Rig, fault: RepositoryFault, seen: Repository, repository: Repository, restored: bool) -> Judgement:
    """Whatever is visible is whole, and the next expiry finishes."""
    judgement, done = _run(rig, fault, lambda: _expire_step(rig, seen))
    if done.value:
        judgement.outcome = Outcome.REFUSED
    for number in range(3):
        visible = list(catalog.backups(repository))
        judgement.hold(visible, "the newest backup has expired")
        for record in visible:
            there = {info.key: info.size for info in repository.list("backups/")}
            judgement.hold(all(there.get(part.key) == part.size for part in record.parts), "a visible one is not whole")
        if number < 2:
            judgement.hold(not _expire_step(rig, repository), "an expiry fails afterwards")
    judgement.hold(len(visible) == 1, "not all that should have expired did")
    left = {info.key.split("/")[2] for info in repository.list("backups/")} - {record.backup_id for record in visible}
    told = (
        {one.backup_id for one in propose(repository, "shop", _LAST_ONE, "UTC").left_over} if fault.forgets else set()
    )
    judgement.hold(left <= told, f"left in the repository: parts of {left}")
    return judgement


def _run(rig: Rig, fault: RepositoryFault, step: Callable[[], T]) -> tuple[Judgement, Done[T]]:
    judgement = Judgement(str(fault))
    done = Done(lambda stop: step())
    judgement.seconds = done.seconds
    judgement.hold(not done.hung, f"it did not end within {done.seconds:.0f} s")
    fault.store.healed()
    if done.error is not None:
        judgement.outcome = Outcome.REFUSED
        rig.check_error(judgement, done.error, (fault.store.party, "repository", "records/", "backups/"))
    return judgement, done


def _verify_step(rig: Rig, repository: Repository) -> Verdict:
    (record,) = catalog.backups(repository)
    return verify(record, repository, level=Level.CONSISTENT).verdict


def _restore_step(rig: Rig, repository: Repository, name: str = "") -> None:
    target = rig.folder / (name or f"restore-{rig.random.randrange(1 << 60):x}")
    restore(catalog.find(repository, "latest"), repository, target)
    if not name:
        shutil.rmtree(target)


def _expire_step(rig: Rig, repository: Repository) -> list[str]:
    return [str(failure) for failure in expire(propose(repository, "shop", _LAST_ONE, "UTC"), repository).failures]


def _litter(repository: Repository) -> None:
    """Three small backups, and what an expiry that was killed has left of a fourth."""
    now = datetime.now(timezone.utc)
    for days in (3, 2, 1):
        store_backup(repository, now - timedelta(days=days))
    gone = snapshot_at(now - timedelta(days=4))
    store_parts(repository, gone)
    repository.put(expiring_key("shop", gone.backup_id), backup.dump(Expiring(backup.FORMAT, now)))


def _back_up_step(rig: Rig, repository: Repository) -> BackupRecord:
    return rig.back_up(rig.dsn, repository, [], Stop())


STEPS: dict[str, Callable[[Rig, Repository], object]] = {
    "backup": _back_up_step,
    "verify": _verify_step,
    "list": lambda rig, repository: list_backups(repository),
    "restore": _restore_step,
    "expire": _expire_step,
}
_READING = ("verify", "list", "restore")
_UNDER = {"verify": _verify, "list": _list, "restore": _restore, "expire": _expire}


def chosen(rig: Rig, stores: list[Store], seed: int, count: int | None, only: str = "") -> list[Fault]:
    """All faults whose description contains ``only``, or ``count`` of them."""
    chance = random.Random(seed)
    found = list(database_faults(rig, chance)) if _may_be("database: ", only) else []
    for store in stores:
        found += [
            fault
            for step in STEPS
            if _may_be(f"{store.name}, {step}: ", only)
            for fault in repository_faults(rig, store, step, chance)
        ]
    faults = [fault for fault in found if only in str(fault)]
    return faults if count is None or count >= len(faults) else chance.sample(faults, count)


def _may_be(beginning: str, only: str) -> bool:
    """Whether descriptions with that beginning may contain ``only``: the others need not be counted out."""
    return (
        not only.startswith(("database:", "folder,", "S3,")) or beginning.startswith(only) or only.startswith(beginning)
    )
