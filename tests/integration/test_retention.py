"""``backup-guard expire``, ``hold`` and ``release`` as people and scripts use them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupMissing
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from tests.integration.guarded import CopyInFlight, plan_for
from tests.stored import store_backup

NOW = datetime.now(timezone.utc).replace(microsecond=0)
PLAN = """\
name = "shop"
repository = "{repository}"
[calendar]
windows = "daily 01:00-05:00"
tz = "Asia/Tokyo"
[retention]
{retention}
"""
Guard = Callable[..., tuple[int, str, str]]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An empty repository that the commands use by default."""
    for name in ("BACKUP_GUARD_DSN", "BACKUP_GUARD_LOAD_DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "400")  # so that nothing is broken into lines
    monkeypatch.setenv("BACKUP_GUARD_REPOSITORY", (tmp_path / "backups").as_uri())
    return open_repository((tmp_path / "backups").as_uri())


@pytest.fixture
def guard(capsys: pytest.CaptureFixture[str]) -> Guard:
    """``guard("list")``: exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        written = capsys.readouterr()
        return status, written.out, written.err

    return run


def document(guard: Guard, *arguments: str, status: int = 0) -> Any:
    """The JSON that a command answers with."""
    found, out, _ = guard(*arguments, "--json")
    assert found == status, out
    return json.loads(out)


def fill(repository: Repository, count: int = 5, **plan: Any) -> list[BackupRecord]:
    """A verified backup a day, the newest first."""
    return [store_backup(repository, NOW - timedelta(days=number), **plan) for number in range(count)]


def test_it_shows_then_does_what_it_said(guard: Guard, repository: Repository) -> None:
    """Nothing goes without ``--yes``; the command that it proposes is the one that removes what was shown."""
    records = fill(repository)
    before = [info.key for info in repository.list("")]
    status, out, _ = guard("expire", "--keep-last", "2", "--min-age", "36h")
    assert status == 0
    assert "keeps 2 last, and all younger than 1d 12h" in out
    assert "Expire, 3 backups of" in out
    assert f"{records[2].backup_id}  verified  older than 1d 12h; 2 newer ones are kept" in out
    assert f"{records[0].backup_id}  verified  younger than 1d 12h; the newest; among the last 2" in out
    assert [info.key for info in repository.list("")] == before
    proposed = out.splitlines()[-1]
    status, out, _ = guard(*shlex.split(proposed)[1:])
    assert status == 0
    assert "Expired, 3 backups of" in out
    assert [one.backup_id for one in catalog.backups(repository)] == [records[1].backup_id, records[0].backup_id]
    assert {info.key.split("/")[2] for info in repository.list("backups/")} == {
        record.backup_id for record in records[:2]
    }
    assert "There is nothing to remove." in guard("expire", "--keep-last", "2")[1]


def test_the_rules_of_a_plan_file_and_of_the_newest_backup(
    guard: Guard, repository: Repository, tmp_path: Path
) -> None:
    """Options come first, then the file, then what the newest backup was made under; each says what it is."""
    fill(repository, retention={"keep_daily": 2})
    plan = tmp_path / "shop.toml"
    plan.write_text(PLAN.format(repository=repository.url, retention="keep_last = 3"))
    found = document(guard, "expire")
    assert (found["retention"], found["tz"], found["done"]) == ({"keep_daily": 2}, "UTC", False)
    found = document(guard, "expire", "--plan", str(plan))
    assert (found["retention"], found["tz"]) == ({"keep_last": 3}, "Asia/Tokyo")
    assert [one["action"] for one in found["backups"]] == ["expire", "expire", "keep", "keep", "keep"]
    assert all(one["reasons"] for one in found["backups"])
    found = document(guard, "expire", "--plan", str(plan), "--keep-last", "1")
    assert (found["retention"], found["tz"]) == ({"keep_last": 1}, "Asia/Tokyo")
    plan.write_text(PLAN.format(repository=repository.url, retention="keep_hourly = 3"))
    status, _, error = guard("expire", "--plan", str(plan))
    assert (status, "line 7, retention.keep_hourly" in error) == (2, True)


def test_without_rules_or_backups_nothing_expires(guard: Guard, repository: Repository) -> None:
    """It says why."""
    assert "has no backup" in guard("expire", "--yes")[1]
    fill(repository, 2)
    assert document(guard, "expire", "--yes")["backups"][0]["reasons"] == ["the plan has no retention"]
    store_backup(repository, NOW, name="other")
    status, _, error = guard("expire", "--keep-last", "1", "--yes")
    assert (status, "other, shop" in error) == (2, True)
    assert len(document(guard, "expire", "--keep-last", "1", "--yes", "--plan-name", "shop")["backups"]) == 2
    assert len(document(guard, "list")["backups"]) == 2


def test_a_hold_keeps_a_backup_and_shows(guard: Guard, repository: Repository) -> None:
    """In the answer, in the list, in ``show`` and as the reason; once it is released, the backup expires."""
    held = fill(repository, 3)[2].backup_id
    status, out, _ = guard("hold", held, "--until", "2999-01-01", "--reason", "case 4711", "--by", "alice@db1")
    said = "held until 2999-01-01 by alice@db1: case 4711"
    assert (status, said in " ".join(out.split())) == (0, True)
    assert "2999-01-01" in guard("list")[1]
    assert document(guard, "list")["backups"][0]["hold"]["reason"] == "case 4711"
    assert said in guard("show", held)[1]
    assert document(guard, "show", held)["hold"]["until"] == "2999-01-01"
    assert document(guard, "expire", "--keep-last", "1", "--yes")["backups"][0]["reasons"] == [said]
    assert document(guard, "release", held)["was_held"] is True
    assert document(guard, "release", held)["was_held"] is False
    assert "HELD UNTIL" not in guard("list")[1]
    assert [one["action"] for one in document(guard, "expire", "--keep-last", "1", "--yes")["backups"]] == [
        "expire",
        "keep",
    ]
    assert guard("hold", held)[0] == 1


def test_what_cannot_be_read_is_named_and_stays(guard: Guard, repository: Repository) -> None:
    """The exit status is 1, and the rest is done all the same."""
    records = fill(repository, 4)
    repository.put(backup.record_key("shop", records[1].backup_id), b'{"format": 99}')
    repository.delete(backup.record_key("shop", records[2].backup_id))
    found = document(guard, "expire", "--keep-last", "1", "--yes", status=1)
    assert "format 99" in found["unreadable"][0]["message"]
    assert [one["action"] for one in found["left_over"]] == ["keep"]
    there = {info.key.split("/")[2] for info in repository.list("backups/")}
    assert there == {record.backup_id for record in records[:3]}
    out = guard("expire", "--keep-last", "1")[1]
    assert "Left alone: see what it is" in out
    assert "format 99" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["expire", "--keep-last", "many"],
        ["expire", "--keep-last", "-1"],
        ["expire", "--min-age", "7d"],
        ["expire", "--keep-last", "1", "--min-age", "7"],
        ["expire", "--abandoned-after", "1min"],
        ["hold"],
        ["hold", "latest", "--until", "soon"],
        ["hold", "latest", "--until", "2027-02-30"],
        ["release"],
    ],
    ids=" ".join,
)
def test_wrong_use(guard: Guard, repository: Repository, arguments: list[str]) -> None:
    """Exit status 2 and a remedy; nothing is touched."""
    status, out, error = guard(*arguments)
    assert (status, out) == (2, "")
    assert len(error.splitlines()) == 2
    assert list(repository.list("")) == []


def test_help_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command says what it does, with an example, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("expire", "hold", "release"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        said = capsys.readouterr().out
        assert "example:\n" in said
        assert max(map(len, said.splitlines())) < 80


def test_a_backup_that_expires_while_it_is_read_says_so(repository: Repository, tmp_path: Path) -> None:
    """A restore and a verification that began before end with words, and leave nothing behind."""
    record = fill(repository, 2)[1]
    assert main(["expire", "--keep-last", "1", "--yes"]) == 0
    with pytest.raises(BackupMissing, match="while it was being read"):
        verify(record, repository)
    assert list(repository.list(f"{backup.VERIFICATIONS}shop/{record.backup_id}")) == []
    manifest = backup.StoredPart("manifest", "backup_manifest", "backups/shop/gone.zst", 1, "", 1)
    object.__setattr__(record, "parts", (*record.parts, manifest))
    with pytest.raises(BackupMissing, match="while it was being read"):
        restore(record, repository, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_copy_that_runs_is_none_of_its_business(tmp_path: Path, guard_dsn: str, repository: Repository) -> None:
    """An expiry in mid-copy removes an old backup, and nothing of the copy, which becomes a backup that verifies."""
    plan = plan_for(tmp_path / "backups", max_rate="12MB/s", min_rate="12MB/s")
    fill(repository, 2)
    with CopyInFlight(plan, guard_dsn, repository) as copying:
        assert main(["expire", "--keep-last", "1", "--yes"]) == 0
        copying.end()
    assert copying.record is not None, copying.error
    assert verify(copying.record, repository).verdict is Verdict.VERIFIED
    assert len(list(repository.list("records/"))) == 2
    assert main(["expire", "--keep-last", "1", "--yes"]) == 0
    assert [one.backup_id for one in catalog.backups(repository)] == [copying.record.backup_id]


def test_a_verdict_changes_what_is_kept(guard: Guard, repository: Repository) -> None:
    """A new backup that is not verified yet does not cost the last verified one its place."""
    store_backup(repository, NOW - timedelta(days=1), Verdict.VERIFIED)
    store_backup(repository, NOW, None)
    found = document(guard, "expire", "--keep-last", "1", "--yes")
    assert [one["reasons"] for one in found["backups"]] == [["the newest verified"], ["the newest"]]
