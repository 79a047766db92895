"""A repository to which anything happens in any order: backups, expiries, holds, verifications, damage, and crashes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord, Snapshot, StoredPart
from airflow_backup_guard.core.expiry import expiring_key, expiring_prefix
from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.core.verification import Level, Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.attempt import close_attempt
from airflow_backup_guard.engine.choice import choose
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.holds import hold, release
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupMissing
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.faults.crashing import CrashingRepository, Died
from tests.integration.guarded import plan_for
from tests.stored import snapshot_at, store_attempt, whole_record

FULL = os.environ.get("FAULTS") == "full"
NOW = datetime.now(timezone.utc).replace(microsecond=0)
POLICIES = [
    RetentionPolicy(keep_last=1),
    RetentionPolicy(keep_last=2, keep_daily=2),
    RetentionPolicy(keep_weekly=2),
    RetentionPolicy(keep_last=1, min_age="2d"),
    RetentionPolicy(),
]
PARTS = (("archive", "base", "base.tar"), ("manifest", "backup_manifest", "backup_manifest"))
WAL = "000000010000000000000001"
# Where a process dies: at which of its changes, and whether that one, or half of it, was done.
DEATHS = st.none() | st.tuples(st.integers(1, 14), st.booleans())


class RepositoryMachine(RuleBasedStateMachine):
    """``stored`` has each visible backup and its bytes: what only these rules can change."""

    def __init__(self) -> None:
        super().__init__()
        self.repository = self.create()
        self.plan = plan_for(Path(tempfile.gettempdir()), repository="file:///unused/backups")
        self.hours = 0
        self.stored: dict[str, dict[str, bytes]] = {}
        self.damaged: set[str] = set()
        self.held: set[str] = set()
        self.trusted: dict[str, bool] = {}
        self.open: list[Snapshot] = []

    def create(self) -> Repository:
        """An empty one."""
        return MemoryRepository()

    # --- what happens

    @rule(gap=st.sampled_from([1, 5, 30, 200]), death=DEATHS)
    def back_up(self, gap: int, death: tuple[int, bool] | None) -> None:
        """In the order in which a copy stores things; one that dies is an attempt, or a backup, and nothing between."""
        self.hours += gap
        snapshot = snapshot_at(NOW - timedelta(days=400) + timedelta(hours=self.hours), self.hours)
        made: list[BackupRecord] = []
        with self.dying(death) as repository:
            store_attempt(repository, snapshot)
            made.append(store_whole(repository, snapshot))
            repository.delete(backup.attempt_key("shop", snapshot.backup_id))
        if snapshot.backup_id in self.visible():
            record = catalog.find(self.repository, snapshot.backup_id)
            self.stored[record.backup_id] = {part.key: self.read(part.key) for part in record.parts}
        else:
            assert death is not None
            self.open.append(snapshot)

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), death=DEATHS)
    def verify(self, data: st.DataObject, death: tuple[int, bool] | None) -> None:
        """What was damaged is found, what was not is never called so."""
        backup_id = data.draw(st.sampled_from(sorted(self.stored)))
        record = catalog.find(self.repository, backup_id)
        with self.dying(death) as repository:
            verify(record, repository, level=Level.READABLE)
        found = catalog.last_verification(self.repository, record)
        if death is None:
            assert found is not None
            assert found.verdict is (Verdict.DAMAGED if backup_id in self.damaged else Verdict.READABLE)
        if found is not None:
            self.trusted[backup_id] = found.verdict.trusted

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), gone=st.booleans())
    def damage(self, data: st.DataObject, gone: bool) -> None:
        """A disk loses or changes an object."""
        backup_id = data.draw(st.sampled_from(sorted(self.stored)))
        key = data.draw(st.sampled_from(sorted(self.stored[backup_id])))
        self.damaged.add(backup_id)
        if gone:
            self.repository.delete(key)
        else:
            self.repository.put(key, b"rotten")

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), death=DEATHS)
    def hold(self, data: st.DataObject, death: tuple[int, bool] | None) -> None:
        """A person's word."""
        backup_id = data.draw(st.sampled_from(sorted(self.stored)))
        with self.dying(death) as repository:
            hold(repository, catalog.find(self.repository, backup_id), until=None, reason="", by="me", wait_seconds=0)
        if death is None:
            self.held.add(backup_id)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """And its end."""
        backup_id = data.draw(st.sampled_from(sorted(self.held)))
        assert release(self.repository, catalog.find(self.repository, backup_id))
        self.held.discard(backup_id)

    @rule(policy=st.sampled_from(POLICIES), death=DEATHS)
    def expire(self, policy: RetentionPolicy, death: tuple[int, bool] | None) -> None:
        """What it said goes, or is whole; what it kept stays; nothing is left of it if nobody killed it."""
        said = propose(self.repository, "shop", policy, "UTC", now=NOW)
        last_verified = max((one for one, good in self.trusted.items() if good), default=None)
        gone = {one.backup.backup_id for one in said.expired}
        assert last_verified not in gone
        assert not gone & self.held
        assert max(self.stored, default=None) not in gone
        with self.dying(death) as repository:
            expire(said, repository)
        left = self.visible()
        assert left >= self.stored.keys() - gone
        if death is None:
            assert left == self.stored.keys() - gone
        self.forget(self.stored.keys() - left)

    @precondition(lambda self: len(self.stored) > 1)
    @rule(data=st.data(), at=st.integers(1, 8))
    def expire_while_somebody_holds(self, data: st.DataObject, at: int) -> None:
        """Whatever an expiry does at that moment: who holds is told that the backup is gone, or it stays."""
        backup_id = data.draw(st.sampled_from(sorted(self.stored)))
        record = catalog.find(self.repository, backup_id)

        def meanwhile() -> None:
            with suppress(BackupMissing):
                hold(self.repository, record, until=None, reason="", by="me", wait_seconds=0)
                self.held.add(backup_id)

        repository = CrashingRepository(self.repository, meets_at=at, meanwhile=meanwhile)
        expire(propose(self.repository, "shop", POLICIES[0], "UTC", now=NOW), repository)
        assert not self.held - self.visible()
        self.forget(self.stored.keys() - self.visible())

    @precondition(lambda self: self.open)
    @rule(data=st.data(), death=DEATHS)
    def tear_down(self, data: st.DataObject, death: tuple[int, bool] | None) -> None:
        """Of a copy that died; also twice."""
        snapshot = data.draw(st.sampled_from(self.open))
        with self.dying(death) as repository:
            close_attempt(self.plan, snapshot, repository, "it died")
        if death is None:
            assert list(self.repository.list(backup.parts_prefix("shop", snapshot.backup_id))) == []

    @rule()
    def maintain_twice(self) -> None:
        """After an expiry that nobody killed, the next has nothing to do, and changes nothing."""
        for last in (False, True):
            before = self.contents()
            done = expire(propose(self.repository, "shop", POLICIES[-1], "UTC", now=NOW), self.repository)
            assert not done.expired and not done.failures
            if last:
                assert not done.swept
                assert self.contents() == before
        assert list(self.repository.list(expiring_prefix("shop"))) == [
            info
            for info in self.repository.list(expiring_prefix("shop"))
            if any(info.key == expiring_key("shop", one) for one in self.stored)
        ], "marks of what is gone"

    # --- what must be true whatever happened

    @invariant()
    def what_is_visible_is_what_was_stored(self) -> None:
        """No more, no less, to the byte, but for what a disk did."""
        assert self.visible() == self.stored.keys()
        for backup_id, parts in self.stored.items():
            if backup_id not in self.damaged:
                assert all(self.read(key) == content for key, content in parts.items())

    @invariant()
    def every_way_of_looking_agrees(self) -> None:
        """The listing, with what it remembers, and a look at everything."""
        listed = list_backups(self.repository, "shop")
        assert not listed.unreadable
        assert listed == list_backups(self.repository, "shop", fresh=True)
        assert {one.backup_id for one in listed.backups} == self.stored.keys()
        assert {one.backup_id for one in listed.backups if one.hold} >= self.held

    @invariant()
    def a_restore_takes_none_that_is_known_to_be_damaged(self) -> None:
        """Unless there is no other."""
        good = {one for one in self.stored if self.trusted.get(one, True)}
        if good:
            assert choose(self.repository, plan_name="shop").record.backup_id == max(good)

    # --- helpers

    @contextmanager
    def dying(self, death: tuple[int, bool] | None) -> Iterator[Repository]:
        """A repository for somebody who may die."""
        number, half = death or (None, False)
        with suppress(Died):
            yield CrashingRepository(self.repository, number, half)

    def visible(self) -> set[str]:
        """Ids of what a reader takes for a backup."""
        return {backup_id for _, backup_id in catalog.ids(self.repository, None)}

    def forget(self, gone: set[str]) -> None:
        """They have expired."""
        for backup_id in gone:
            del self.stored[backup_id]
            self.trusted.pop(backup_id, None)
        self.damaged -= gone
        self.held -= gone

    def read(self, key: str) -> bytes:
        """One object."""
        with self.repository.reader(key) as content:
            return content.read()

    def contents(self) -> dict[str, str]:
        """All objects but what listings remember, with what tells whether they have changed."""
        return {info.key: info.tag for info in self.repository.list("") if not info.key.startswith("catalog/")}


class FolderMachine(RepositoryMachine):
    """The same in a folder."""

    def create(self) -> Repository:
        """A new one."""
        self._folder = tempfile.TemporaryDirectory()
        return LocalRepository(Path(self._folder.name) / "backups")

    def teardown(self) -> None:
        """Remove it."""
        self._folder.cleanup()


def store_whole(repository: Repository, snapshot: Snapshot) -> BackupRecord:
    """The parts of a backup, and then its record."""
    parts = []
    for kind, name, path in (*PARTS, ("wal", WAL, f"wal/{WAL}")):
        key = f"{backup.parts_prefix('shop', snapshot.backup_id)}{path}"
        stored = repository.put(key, f"{snapshot.backup_id} {path}\n".encode() * 3)
        parts.append(StoredPart(kind, name, stored.key, stored.size, stored.sha256, stored.size))
    record = whole_record(snapshot, tuple(parts))
    repository.put(backup.record_key("shop", snapshot.backup_id), backup.dump(record), if_absent=True)
    return record


def explore(machine: Callable[[], RuleBasedStateMachine], examples: int, steps: int) -> None:
    """Look for a way to break it."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=not FULL,
        ),
    )


def test_in_memory() -> None:
    """Nothing that is kept is lost, nothing is visible that is not whole, the last verified backup never expires, an
    expiry twice is one, and every crash is recovered from. FAULTS=full looks harder."""
    explore(RepositoryMachine, *((1000, 60) if FULL else (40, 30)))


def test_in_a_folder() -> None:
    """So it is on a disk."""
    explore(FolderMachine, *((200, 40) if FULL else (6, 25)))
