"""What there is to see of a plan and of a backup, over a repository in memory; and the command that restores it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_backup_guard.cli.arguments import parser
from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, RetentionPolicy, backup
from airflow_backup_guard.core.drill import DrillResult, drill_key
from airflow_backup_guard.core.plan_details import restore_command
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import plan_details
from airflow_backup_guard.errors import BackupDamaged, ObjectMissing, RepositoryUnavailable
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.stored import audited, store_backup

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=timezone.utc)
DAY = timedelta(days=1)
PLAN = BackupPlan(
    name="shop",
    connection="shop",
    repository="s3://backups_conn@backups/postgres",
    calendar=OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC"),
    retention=RetentionPolicy(keep_daily=2),
)


def test_each_backup_says_why_it_is_kept() -> None:
    """The newest comes first; what the retention lets go says so, and a damaged one is told as damaged."""
    repository = MemoryRepository()
    made = [store_backup(repository, NOW - days * DAY) for days in (4, 3, 2)]
    bad = store_backup(repository, NOW - DAY, Verdict.DAMAGED)
    document = plan_details.details(PLAN, repository, NOW).to_dict()
    assert [one["backup_id"] for one in document["backups"]] == [one.backup_id for one in (bad, *reversed(made))]
    assert [one["keep"] for one in document["backups"]] == [True, True, True, False]
    assert document["backups"][0]["verdict"] == "damaged"
    assert document["backups"][1]["reasons"][0].startswith("the newest")
    assert document["retention"] == "keeps 2 daily, by the clock of UTC"


def test_a_broken_drill_hides_no_other() -> None:
    """Of two drills one cannot be read: it is a problem, and the other is there with its backup."""
    repository = MemoryRepository()
    first, second = (store_backup(repository, NOW - days * DAY) for days in (2, 1))
    found = DrillResult(1, "shop", first.backup_id, NOW, NOW, "PostgreSQL 18", (), 44.0, 3600, (), True)
    repository.put(drill_key("shop", first.backup_id), backup.dump(found))
    repository.put(drill_key("shop", second.backup_id), b"{}")
    details = plan_details.details(PLAN, repository, NOW)
    assert details.drills == (found,)
    assert [second.backup_id in one.message for one in details.problems] == [True]
    assert [one["drill_passed"] for one in details.to_dict()["backups"]] == [None, True]


def test_the_last_audit_is_told() -> None:
    """Its open findings, what nobody has accepted first, and where it is; one that cannot be read is a problem."""
    repository = MemoryRepository()
    assert plan_details.details(PLAN, repository, NOW).to_dict()["audit"] is None
    for number in (1, 2):
        made = replace(audited("shop"), number=number)
        repository.put(f"audits/shop/{number:06}.json", backup.dump(made))
    repository.put("audits/shop/000002.html", b"<script>")
    told = plan_details.details(PLAN, repository, NOW).to_dict()["audit"]
    assert (told["number"], told["good"], told["checks"]) == (2, False, 3)
    assert told["key"] == "audits/shop/000002.html"
    assert [(one["check"], one["state"]) for one in told["findings"]] == [
        ("BG001", "fail (critical)"),
        ("BG002", "unknown (critical), accepted"),
    ]
    assert "eve, until" in told["findings"][1]["accepted"]
    repository.put("audits/shop/000003.json", b"{")
    details = plan_details.details(PLAN, repository, NOW)
    assert (details.audit, len(details.problems)) == (None, 1)


def test_one_backup_has_its_evidence() -> None:
    """Record and verification are told; a broken verification is a problem, and a missing or broken record an error."""
    repository = MemoryRepository()
    made = store_backup(repository, NOW - DAY)
    details, problems = plan_details.backup_details(PLAN, repository, made.backup_id)
    document = details.to_dict()
    assert document["verification"]["verdict"] == "verified"
    assert (document["has_telemetry"], problems) == (False, [])
    repository.put(backup.verification_key("shop", made.backup_id), b"{")
    details, problems = plan_details.backup_details(PLAN, repository, made.backup_id)
    assert details.verification is None
    assert len(problems) == 1
    with pytest.raises(ObjectMissing):
        plan_details.backup_details(PLAN, repository, "20200101T000000Z-0000")
    repository.put(backup.record_key("shop", made.backup_id), b"{")
    with pytest.raises(BackupDamaged):
        plan_details.backup_details(PLAN, repository, made.backup_id)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://conn@bucket/a/b?kms_key=alias/backups", "s3://bucket/a/b?kms_key=alias/backups"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("file:///srv/my@backups of today", "file:///srv/my@backups of today"),
    ],
)
@pytest.mark.parametrize("encrypted", [True, False])
def test_the_restore_command_is_one(url: str, shown: str, encrypted: bool) -> None:
    """The command is parsed by ``backup-guard`` as it is shown, whatever is in the URL, and names what it must."""
    said = restore_command("shop", "20261123T090000Z-a98c", url, encrypted)
    program, *words = shlex.split(said)
    arguments = parser().parse_args(words)
    assert program == "backup-guard"
    assert (arguments.command, arguments.backup_id) == ("restore", "20261123T090000Z-a98c")
    assert (arguments.plan_name, arguments.repository) == ("shop", shown)
    assert (arguments.identity is not None) == encrypted


class Unreachable(MemoryRepository):
    """A repository that nothing reaches."""

    def list(self, prefix: str):  # type: ignore[no-untyped-def]  # it never returns
        """See :class:`~airflow_backup_guard.repository.base.Repository`."""
        raise RepositoryUnavailable("s3://backups cannot be reached.", remedy="See the network.")


def test_the_week_is_there_without_its_repository() -> None:
    """Windows need no repository: that it cannot be reached is told, and the calendar as well."""
    found = plan_details.week_ahead(PLAN, Unreachable(), NOW)
    assert [one.message for one in found.problems] == ["s3://backups cannot be reached."]
    assert found.hours is None
    assert len(found.windows) == 14
