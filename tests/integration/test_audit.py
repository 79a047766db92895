"""Audits of real servers, real backups and a real S3 API: what is bad is found, and after the remedies nothing is."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import boto3
import pytest
from moto.server import ThreadedMotoServer

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import (
    AcceptedRisk,
    AlertChannel,
    AlertRules,
    BackupPlan,
    LoadLimits,
    OffPeakCalendar,
    RetentionPolicy,
    backup,
)
from airflow_backup_guard.core.alerts import test_alert as alert_of_a_test
from airflow_backup_guard.core.audit.values import Change, Verdict
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.drill import DrillResult, drill_key
from airflow_backup_guard.engine.alerting import AlertSender
from airflow_backup_guard.engine.audit import Audited, Subject, audit, chain
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.drill import drill
from airflow_backup_guard.engine.runbook import keep_runbook
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import RepositoryUnavailable, SourceUnavailable
from airflow_backup_guard.postgres.audit import look
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from tests.integration.guarded import BASELINE_SECONDS, back_up, plan_for
from tests.stored import store_backup

ACCESS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class Heard:
    """A notifier that always reaches its people."""

    def __call__(self, context: dict[str, Any]) -> None:
        assert context["alert_title"]


CHANNELS = AlertRules(channels=[AlertChannel(name="chat", notifier=f"{__name__}.Heard")])


def window(begin: datetime, hours: int = 3) -> OffPeakCalendar:
    """One window a day, that begins with this hour."""
    return OffPeakCalendar.parse(f"daily {begin:%H}:00-{begin + timedelta(hours=hours):%H}:00", tz="UTC")


def open_checks(audited: Audited) -> dict[str, Verdict]:
    """What failed or is unknown, by id."""
    return {one.check: one.verdict for one in audited.audit.findings if one.verdict.is_open}


def audited(plan: BackupPlan, repository: Repository, dsn: str | None, **options: Any) -> Audited:
    """One plan's audit."""
    (made,) = audit([Subject(plan, lambda: repository, lambda: dsn)], **options)
    return made


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """A client of an S3 API, and a bucket there that is as it should be, but open to everybody."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**ACCESS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    bucket = f"backups-{uuid.uuid4()}"  # all servers of a process have the same buckets
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True, ACL="public-read")
    client.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    )
    client.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "uploads",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                }
            ]
        },
    )
    yield client, bucket
    server.stop()


def test_a_bad_set_up_fails_each_right_check_and_passes_after_the_remedies(
    new_server: Callable[..., LocalServer], role_dsn: Callable[..., str], s3: tuple[Any, str], tmp_path: Path
) -> None:
    """A backup at noon, no drill, a superuser, a public bucket and no alerts are five findings, and no other check
    fails; once all is mended none is open, but that the plan was changed, which its owner accepts."""
    pyrage = pytest.importorskip("pyrage")
    client, bucket = s3
    identity = pyrage.x25519.Identity.generate()
    server = new_server(settings={"max_slot_wal_keep_size": "1GB"})
    now = datetime.now(timezone.utc)
    values: dict[str, Any] = {
        "repository": f"s3://{bucket}/postgres",
        "limits": LoadLimits(commit_latency=("5s", "20s"), wal_rate="1GB/s"),
        "rpo": "26h",
        "rto": "2h",
        "recipients": [str(identity.to_public())],
        "retention": RetentionPolicy(keep_daily=7),
    }
    bad = plan_for(tmp_path / "unused", calendar=window(now + timedelta(hours=6)), **values)
    repository = open_repository(bad.repository)
    snapshot = take_snapshot(bad, server.dsn(), repository, outside_window=True)
    options: dict[str, Any] = {"stop": Stop(), "baseline_seconds": BASELINE_SECONDS, "outside_window": True}
    record = copy(bad, snapshot, server.dsn(), repository, **options)
    verify(record, repository, identities=[str(identity)])
    assert keep_runbook(repository, bad.name, bad).good
    began = datetime.now(timezone.utc)
    first = audited(bad, repository, server.dsn())
    assert open_checks(first) == dict.fromkeys(("BG001", "BG005", "BG008", "BG011", "BG020"), Verdict.FAIL)
    assert "is open to everybody: READ" in next(one.said for one in first.audit.findings if one.check == "BG020")

    good = attrs.evolve(bad, calendar=window(now - timedelta(hours=1)), alerts=CHANNELS)
    client.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration=dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        ),
    )
    record = back_up(good, role_dsn(server), repository)
    verify(record, repository, identities=[str(identity)])
    assert drill(good, record, repository, identities=[str(identity)]).passed
    assert keep_runbook(repository, good.name, good).good
    with AlertSender(good, repository) as sender:
        sender.send(alert_of_a_test(good.name, good.alerts.channels, "a test", datetime.now(timezone.utc)))
    tomorrow = datetime.now(timezone.utc).date() + timedelta(days=1)
    looked_at = AcceptedRisk("BG028", "alice", tomorrow, "these are the remedies of the first audit")
    second = audited(good, repository, role_dsn(server), start=began, accepted=[looked_at])
    assert open_checks(second) == {"BG028": Verdict.FAIL} and second.good
    fixed = {one.check for one in second.audit.findings if one.change is Change.FIXED}
    assert fixed == {"BG001", "BG005", "BG008", "BG011", "BG020"}
    third = audited(good, repository, role_dsn(server), start=began)
    assert open_checks(third) == {} and third.good
    result = chain(repository, good.name, third.sha256)
    assert (result.problems, result.audits) == ((), 3)


def test_what_cannot_be_read_is_unknown_and_the_rest_is_audited(
    server: LocalServer, tmp_path: Path, role_dsn: Callable[..., str]
) -> None:
    """A database that does not answer, a connection that there is not, a damaged record, a role that sees too little,
    a repository that is away: each is a reason, none an error."""
    plan = plan_for(tmp_path / "backups")
    repository = open_repository(plan.repository)
    record = store_backup(repository, datetime.now(timezone.utc), name="shop")
    of_database = {f"BG{number:03}" for number in (10, 11, 12, 13, 15, 16, 17, 18)}
    away = open_checks(audited(plan, repository, "host=127.0.0.1 port=1 user=guard connect_timeout=2"))
    assert {check for check, verdict in away.items() if verdict is Verdict.UNKNOWN} >= of_database

    def no_connection() -> str:
        raise KeyError("the connection shop is not defined")

    (lost,) = audit([Subject(plan, lambda: repository, no_connection)])
    (said,) = [one.said for one in lost.audit.findings if one.check == "BG013"]
    assert "not defined" in said
    blind = open_checks(audited(plan, repository, role_dsn(server, "nomonitor")))
    assert (blind["BG010"], blind["BG012"]) == (Verdict.UNKNOWN, Verdict.FAIL)
    repository.put(f"records/shop/{record.backup_id}.json", b"{}")
    damaged = open_checks(audited(plan, repository, None))
    assert damaged["BG001"] is damaged["BG007"] is Verdict.UNKNOWN

    def unreachable() -> Repository:
        raise RepositoryUnavailable("The disk is not mounted.")

    other, fine = audit([Subject(plan, unreachable, lambda: None), Subject(plan, lambda: repository, lambda: None)])
    assert {check for check, verdict in open_checks(other).items() if verdict is Verdict.FAIL} == {"BG009"}
    assert "not mounted" in other.problem and not other.good and not other.key
    assert fine.key == "audits/shop/000005.json"


def test_a_proof_is_of_the_keys_of_now(tmp_path: Path) -> None:
    """That somebody had the key of an earlier recipient proves nothing of backups that are encrypted to another."""
    plan = plan_for(tmp_path / "backups")
    repository = open_repository(plan.repository)
    now = datetime.now(timezone.utc)

    def verdict() -> Verdict:
        made = audited(plan, repository, None)
        return next(one.verdict for one in made.audit.findings if one.check == "BG026")

    def drilled(record: BackupRecord) -> None:
        result = DrillResult(1, "shop", record.backup_id, now, now, "PostgreSQL 18", (), 1.0, 1.0, (), True)
        repository.put(drill_key("shop", record.backup_id), backup.dump(result))

    drilled(store_backup(repository, now - timedelta(days=2), recipients=["age1before", "age1other"]))
    drilled(store_backup(repository, now - timedelta(days=1), recipients=["age1other", "age1before"]))
    assert verdict() is Verdict.PASS
    newest = store_backup(repository, now, recipients=["age1now"])
    assert verdict() is Verdict.FAIL
    drilled(newest)
    assert verdict() is Verdict.PASS


def test_a_bucket_that_may_not_be_asked_is_unknown(s3: tuple[Any, str], tmp_path: Path) -> None:
    """With a bucket that is not there all is unknown but what the plan itself says, and it is not stored."""
    plan = plan_for(tmp_path / "unused", repository="s3://elsewhere/postgres")
    made = audited(plan, open_repository(plan.repository), None)
    passed_or_failed = {one.check for one in made.audit.findings if one.verdict is not Verdict.UNKNOWN}
    assert passed_or_failed == {"BG009"}
    assert "It is not stored" in made.problem


def test_the_server_tells_of_role_slots_and_connection(any_server: LocalServer, role_dsn: Callable[..., str]) -> None:
    """On every version: what a role may too much, by membership, too; an idle slot with the WAL it holds."""
    any_server.sql(
        "CREATE ROLE too_much LOGIN CREATEDB REPLICATION PASSWORD 'too_much' IN ROLE pg_monitor, pg_read_all_data;"
        "ALTER ROLE too_much SET datestyle = 'German';"
        "SELECT pg_create_physical_replication_slot('forgotten', true)"
    )
    try:
        found = look(role_dsn(any_server, "too_much"))
        assert found.surplus == ("CREATEDB", "pg_read_all_data")
        assert (found.superuser, found.may_end, found.tls, found.stays_on_host) == (False, False, "", True)
        (slot,) = [slot for slot in found.slots if slot.name == "forgotten"]
        assert not slot.active and slot.retained is not None
        if found.server_version < 170000:
            assert slot.inactive_since is None
        else:
            assert slot.inactive_since is not None and slot.inactive_since.utcoffset() is not None
        assert look(any_server.dsn()).superuser
        assert look(role_dsn(any_server)).surplus == ()
        with pytest.raises(SourceUnavailable):
            look("host=127.0.0.1 port=1 user=guard connect_timeout=2")
    finally:
        any_server.sql("SELECT pg_drop_replication_slot('forgotten'); DROP ROLE too_much")


def test_the_command_line_audits_and_proves_its_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No plan, a failing plan, an accepted risk, a changed and a removed audit: each with its exit status."""
    (tmp_path / "backups").mkdir()
    url = (tmp_path / "backups").as_uri()
    assert main(["audit", "--repository", url]) == 1
    assert "No plan was audited" in capsys.readouterr().out
    file = tmp_path / "shop.toml"
    file.write_text(f'name = "shop"\nrepository = "{url}"\n[calendar]\nwindows = "daily 01:00-05:00"\ntz = "UTC"\n')
    risks = tmp_path / "risks.toml"
    risks.write_text('[[accepted]]\ncheck = "BG009"\nowner = "alice"\nuntil = 2999-01-01\nreason = "tuning"\n')
    report = tmp_path / "audit.html"
    arguments = ["audit", "--plan", str(file), "--accept", str(risks), "--html", str(report), "--json"]
    assert main(arguments) == 1
    document = json.loads(capsys.readouterr().out)
    (found,) = document["audits"]
    assert not document["good"] and found["key"] == "audits/shop/000001.json"
    assert {one["check"] for one in found["findings"] if one["accepted"]} == {"BG009"}
    assert "<h2>shop</h2>" in report.read_text(encoding="utf-8")
    assert main(["audit", "--plan", str(file)]) == 1
    capsys.readouterr()
    of_chain = ["audit", "--verify-chain", "--repository", url]
    assert main(of_chain) == 0
    assert main([*of_chain, "--expect", found["sha256"]]) == 0
    assert main([*of_chain, "--expect", "0" * 64]) == 1
    stored = tmp_path / "backups" / "audits" / "shop" / "000001.json"
    content = stored.read_bytes()
    stored.write_bytes(content.replace(b'"fail"', b'"pass"'))
    assert main(of_chain) == 1
    stored.write_bytes(content)
    for name in stored.parent.glob("000001.*"):
        name.unlink()
    assert main(of_chain) == 1
    assert "Audit 1 was removed" in capsys.readouterr().out
    assert main(["audit", "--plan", str(file), "--dsn-of", "other=host=x"]) == 2
    assert main(["audit", "--plan", str(file), "--expect", "0"]) == 2


class Told:
    """Stands for a task instance: what a task tells Airflow beside its result."""

    log_url = ""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.values[key] = value


def test_a_task_without_plans_says_so_and_fails() -> None:
    """A fleet of none is no success."""
    from airflow.sdk.exceptions import AirflowFailException

    from airflow_backup_guard.operators import BackupAuditOperator

    told = Told()
    with pytest.raises(AirflowFailException, match="no plan was audited"):
        BackupAuditOperator(task_id="audit", plan=[]).execute({"ti": told})  # type: ignore[typeddict-item]
    assert "No plan was audited" in told.values["report"]
