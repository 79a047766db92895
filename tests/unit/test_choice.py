"""Which backup a restore takes when nobody names one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine.choice import choose, parse_moment
from airflow_backup_guard.errors import BackupMissing, InvalidPlan
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.stored import store_backup

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)  # what a stored backup takes


def test_the_newest_is_taken_though_only_an_older_one_is_verified() -> None:
    """A newer one loses less, and a restore checks every byte; that it was never verified is said."""
    repository = MemoryRepository()
    store_backup(repository, NOON)
    newest = store_backup(repository, NOON + timedelta(days=1), verdict=None)
    choice = choose(repository)
    assert choice.record == newest
    assert choice.warnings == (f"backup {newest.backup_id} was never verified",)


def test_a_damaged_one_is_passed_over_and_named() -> None:
    """Unless it is asked for by its id, and then it is said, too."""
    repository = MemoryRepository()
    good = store_backup(repository, NOON)
    damaged = store_backup(repository, NOON + timedelta(days=1), Verdict.DAMAGED)
    choice = choose(repository)
    assert choice.record == good
    (warning,) = choice.warnings
    assert warning.startswith(f"passed over: backup {damaged.backup_id} was found to be damaged on 20")
    named = choose(repository, damaged.backup_id)
    assert named.record == damaged
    assert "damaged" in named.warnings[0]


def test_a_record_that_cannot_be_read_is_passed_over_and_named() -> None:
    """Half of a record hides no older backup."""
    repository = MemoryRepository()
    good = store_backup(repository, NOON)
    key = backup.record_key("shop", backup.new_backup_id(NOON + timedelta(days=1), 7))
    repository.put(key, b'{"format": 1, "snapsh')
    choice = choose(repository)
    assert choice.record == good
    assert key in choice.warnings[0]


def test_before_counts_from_the_end_of_a_backup() -> None:
    """It restores to the moment at which it ended, so that one that began before and ended after is too new."""
    repository = MemoryRepository()
    first, second = store_backup(repository, NOON), store_backup(repository, NOON + timedelta(hours=1))
    at_end = NOON + timedelta(hours=1) + MINUTE
    assert choose(repository, before=at_end).record == second
    assert choose(repository, before=at_end - timedelta(seconds=1)).record == first
    with pytest.raises(BackupMissing, match="no backup that was done by 2026-11-23 12:00:59 UTC"):
        choose(repository, before=NOON + MINUTE - timedelta(seconds=1))


def test_where_all_are_damaged_none_is_taken() -> None:
    """The error names them."""
    repository = MemoryRepository()
    damaged = store_backup(repository, NOON, Verdict.DAMAGED)
    with pytest.raises(BackupMissing, match=f"Not counting passed over: backup {damaged.backup_id}"):
        choose(repository)


def test_of_several_plans_one_must_be_named() -> None:
    """The newest of another database is no substitute."""
    repository = MemoryRepository()
    store_backup(repository, NOON)
    other = store_backup(repository, NOON, suffix=1, name="other")
    with pytest.raises(BackupMissing, match="several plans"):
        choose(repository, before=NOON + MINUTE)
    assert choose(repository, plan_name="other").record == other


@pytest.mark.parametrize("text", ["2026-11-23 12:00+01:00", "2026-11-23T11:00:00Z", " 2026-11-23 11:00+00:00 "])
def test_a_moment_has_a_zone(text: str) -> None:
    """In whatever zone it is written, it is the same moment."""
    assert parse_moment(text, "--before") == NOON - timedelta(hours=1)


@pytest.mark.parametrize("text", ["2026-11-23 12:00", "2026-11-23", "yesterday", ""])
def test_a_moment_without_a_zone_is_refused(text: str) -> None:
    """Nobody should have to guess which noon was meant."""
    with pytest.raises(InvalidPlan, match="--before"):
        parse_moment(text, "--before")


def test_a_datetime_without_a_zone_is_refused() -> None:
    """As is its text."""
    with pytest.raises(InvalidPlan, match="before"):
        parse_moment(datetime(2026, 11, 23, 12, 0), "before")
