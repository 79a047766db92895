"""How plans stand, from a real folder and a real S3 API, with what somebody broke or put there; and the command."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, backup
from airflow_backup_guard.core.drill import DrillResult, drill_key
from airflow_backup_guard.core.fleet import Protection
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import fleet, plan_details
from airflow_backup_guard.engine.fleet_cache import FleetCache
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from tests.integration.repository.conftest import Place
from tests.stored import snapshot_at, store_attempt, store_backup

NOW = datetime.now(timezone.utc)
HOUR = timedelta(hours=1)


def fill(repository: Repository) -> None:
    """A plan that stands well, one with a damaged backup, one with a broken record, one whose first copy runs."""
    values = {"rpo": "26h", "rto": "1h", "connection": "shop"}
    made = store_backup(repository, NOW - 5 * HOUR, name="shop", **values)
    drill = DrillResult(1, "shop", made.backup_id, NOW, NOW, "PostgreSQL 18", (), 44.0, 3600.0, (), True)
    repository.put(drill_key("shop", made.backup_id), backup.dump(drill))
    store_backup(repository, NOW - 50 * HOUR, name="books", **values)
    store_backup(repository, NOW - HOUR, Verdict.DAMAGED, name="books", **values)
    broken = store_backup(repository, NOW - HOUR, name="mail", **values)
    repository.put(backup.record_key("mail", broken.backup_id), b'{"format": 1}')
    store_attempt(repository, snapshot_at(NOW - HOUR, name="games", **values))
    for key in ("records/notes.txt", "records/shop/notes.txt", "drills/shop/notes.txt", "alerts/shop/notes.txt"):
        repository.put(key, b"of somebody else")


STANDS = {"games": "unprotected", "books": "late", "mail": "unknown", "shop": "protected"}


def test_every_kind_of_repository_tells_the_same(place: Place) -> None:
    """In memory, in a folder and over S3 each plan stands as it does, whatever is broken or foreign beside it."""
    repository = place.repository
    fill(repository)
    found = {one.plan_name: one for one in fleet.statuses(repository, "s3://backups/postgres")}
    assert {name: one.protection.value for name, one in found.items()} == STANDS
    assert [one.backup_id for one in found["games"].running] == [snapshot_at(NOW - HOUR).backup_id]
    assert (found["shop"].good, found["shop"].problems) == (True, ())
    assert len(found["books"].damaged) == 1
    assert not found["mail"].known


def test_the_command_tells_the_worst_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command has all plans by urgency, in text and as a document; the status is that of the worst."""
    fill(open_repository(tmp_path.as_uri()))
    assert main(["status", "--repository", tmp_path.as_uri(), "--json"]) == 1
    plans = json.loads(capsys.readouterr().out)["plans"]
    assert {one["plan_name"]: one["protection"] for one in plans} == STANDS
    assert [one["plan_name"] for one in plans] == list(STANDS)
    assert main(["status", "--repository", tmp_path.as_uri()]) == 1
    said = capsys.readouterr().out
    assert "Damaged: " in said
    assert "44.0s of 1h" in said
    assert main(["status", "--repository", tmp_path.as_uri(), "--plan-name", "shop"]) == 0
    assert main(["status", "--repository", (tmp_path / "none").as_uri()]) == 1
    assert "none was begun" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_of_its_plans_alone(tmp_path: Path) -> None:
    """Of two plans in the same list, one has a repository that is not there: it says so, and the other stands."""
    fill(open_repository(tmp_path.as_uri()))
    calendar = OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC")
    here, away = (
        BackupPlan(name="shop", connection="shop", repository=url, calendar=calendar, rpo="26h")
        for url in (tmp_path.as_uri(), "file:///nowhere/at/all")
    )
    cache = FleetCache(lambda plan: fleet.status(plan, open_repository(plan.repository)))
    found, lost = (seen.status for seen in cache.statuses([here, away], 30))
    assert found is not None
    assert found.protection is Protection.PROTECTED
    assert lost is not None
    assert "/nowhere/at" in lost.problems[0].message
    assert lost.window is not None
    ahead = plan_details.week_ahead(away, open_repository(away.repository))
    assert len(ahead.windows) >= 14
    assert len(ahead.problems) == 1
