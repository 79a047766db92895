"""Up to when there is a backup that can be trusted, by what the repository says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.recovery_point import last_duration, recovery_point
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from tests.integration.guarded import back_up, plan_for


@pytest.fixture(scope="module")
def backed_up(guard_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, BackupRecord]:
    """A repository with one backup, not verified yet."""
    plan = plan_for(tmp_path_factory.mktemp("backups"))
    return open_repository(plan.repository), back_up(plan, guard_dsn)


def later(repository: Repository, record: BackupRecord) -> BackupRecord:
    """One more backup, an hour after that one, and twice as long."""
    snapshot = record.snapshot
    taken_at = snapshot.taken_at + timedelta(hours=1)
    other = replace(
        record,
        snapshot=replace(snapshot, backup_id=backup.new_backup_id(taken_at, 1), taken_at=taken_at),
        ended_at=record.ended_at + timedelta(seconds=record.seconds),
    )
    repository.put(backup.record_key("shop", other.backup_id), backup.dump(other))
    return other


def test_only_what_was_verified_counts(backed_up: tuple[Repository, BackupRecord]) -> None:
    """None, then the verified one; a later one counts once it is verified, and not when it is damaged."""
    repository, record = backed_up
    assert recovery_point(repository, "shop") is None
    assert verify(record, repository).verdict is Verdict.VERIFIED
    assert recovery_point(repository, "shop") == record.snapshot.taken_at
    assert recovery_point(repository, "other") is None

    other = later(repository, record)
    assert recovery_point(repository, "shop") == record.snapshot.taken_at
    found = catalog.last_verification(repository, record)
    assert found is not None
    key = backup.verification_key("shop", other.backup_id)
    for verdict in Verdict:
        repository.put(key, backup.dump(replace(found, verdict=verdict)))
        trusted = verdict in (Verdict.VERIFIED, Verdict.READABLE)
        assert (recovery_point(repository, "shop") == other.snapshot.taken_at) == trusted
    repository.put(key, b"{ not ours")
    assert recovery_point(repository, "shop") == record.snapshot.taken_at


def test_how_long_the_last_took(backed_up: tuple[Repository, BackupRecord], tmp_path: Path) -> None:
    """Of the plan that is asked for."""
    repository, record = backed_up
    other = later(repository, record)
    assert last_duration(repository, "shop") == timedelta(seconds=other.seconds)
    assert last_duration(repository, "other") is None
    assert last_duration(open_repository(tmp_path.as_uri()), "shop") is None
