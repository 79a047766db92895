"""Maintenance that dies at each of its changes in turn, or meets itself there: run again, it is as if nothing was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import pytest

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.load_history import LoadEntry
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.engine import load_history
from airflow_backup_guard.engine.attempt import close_attempt
from airflow_backup_guard.engine.audit import Subject, audit, chain
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.faults.crashing import CrashingRepository, Died
from tests.integration.guarded import ALWAYS
from tests.stored import snapshot_at, store_attempt, store_backup, store_parts

NOW = datetime.now(timezone.utc).replace(microsecond=0)
PLAN = BackupPlan(name="shop", connection="shop", repository="file:///srv/backups", calendar=ALWAYS)


def at_each_change(
    prepare: Callable[[], Repository], run: Callable[[Repository], object], check: Callable[[Repository], None]
) -> int:
    """Have ``run`` die before, within and after each of its changes, and meet a second run there; then it is run again
    on what is left, and ``check`` looks. Returns how many changes there are."""
    counting = CrashingRepository(prepare())
    run(counting)
    assert counting.changes > 0
    for number in range(1, counting.changes + 1):
        for half in (False, True):
            repository = prepare()
            with suppress(Died):
                run(CrashingRepository(repository, dies_at=number, half=half))
            for _ in range(2):
                run(repository)
                check(repository)
        repository = prepare()
        run(CrashingRepository(repository, meets_at=number, meanwhile=lambda met=repository: run(met)))  # type: ignore[misc]
        run(repository)
        check(repository)
    return counting.changes


def test_an_audit() -> None:
    """The chain of audits is never said to be broken by somebody, where one was only cut short, or two met."""

    def prepare() -> Repository:
        repository = MemoryRepository()
        store_backup(repository, NOW - timedelta(days=1))
        assert not make(repository)[0].problem
        return repository

    def make(repository: Repository) -> list[object]:
        return audit([Subject(PLAN, lambda: repository, lambda: None)])  # type: ignore[return-value]

    def check(repository: Repository) -> None:
        found = chain(repository, "shop")
        assert found.problems == ()
        assert found.newest >= 2

    assert at_each_change(prepare, make, check) >= 4


@pytest.mark.parametrize("keep_days", [180, 2])
def test_the_packing_of_recorded_load(keep_days: int) -> None:
    """No measurement of a day that is kept is lost, and none is there twice."""
    entries = [LoadEntry(NOW - timedelta(hours=5 * number), {"commit_rate": float(number)}, {}) for number in range(20)]
    days = sorted({entry.at.date() for entry in entries})[-keep_days:]

    def prepare() -> Repository:
        repository = MemoryRepository()
        for entry in entries:
            load_history.store(repository, "shop", entry)
        return repository

    def tidy(repository: Repository) -> None:
        for _ in range(6):
            load_history.tidy(repository, "shop", NOW.date(), keep_days=keep_days)

    def check(repository: Repository) -> None:
        found = load_history.read(repository, "shop")
        assert [entry for entry in found if entry.at.date() in days] == sorted(
            (entry for entry in entries if entry.at.date() in days), key=lambda entry: entry.at
        )
        assert {entry.at.date() for entry in found} == set(days)

    at_each_change(prepare, tidy, check)


def test_an_expiry() -> None:
    """What is kept is whole, what goes is gone with all that lay beside it."""

    def prepare() -> Repository:
        repository = MemoryRepository()
        for number in range(4):
            store_backup(repository, NOW - timedelta(days=number), suffix=number)
        dead = snapshot_at(NOW - timedelta(days=30), 77)
        store_attempt(repository, dead)
        store_parts(repository, dead)
        return repository

    def run(repository: Repository) -> None:
        later = NOW + timedelta(days=60)  # when the attempt is long since abandoned
        expire(propose(repository, "shop", RetentionPolicy(keep_last=2), "UTC", now=later), repository)

    def check(repository: Repository) -> None:
        keys = [info.key for info in repository.list("")]
        kept = sorted({key.split("/")[2] for key in keys if key.startswith("backups/")})
        assert [key for key in keys if key.startswith("expiring/")] == []
        assert kept == [key.split("/")[2].removesuffix(".json") for key in keys if key.startswith("records/")]
        assert len(kept) == 2

    at_each_change(prepare, run, check)


def test_a_teardown() -> None:
    """Nothing is left of an attempt but the word how it ended."""
    snapshot = snapshot_at(NOW)

    def prepare() -> Repository:
        repository = MemoryRepository()
        store_attempt(repository, snapshot)
        store_parts(repository, snapshot)
        return repository

    def check(repository: Repository) -> None:
        assert [info.key for info in repository.list("")] == [backup.attempt_key("shop", snapshot.backup_id)]

    at_each_change(prepare, lambda repository: close_attempt(PLAN, snapshot, repository, "it died"), check)
