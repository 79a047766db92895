"""The rights that docs/privileges.md names are enough, and none is too much; taken away, what it says fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import boto3
import moto.settings
import psycopg
import pytest
from botocore.exceptions import ClientError

from airflow_backup_guard.core.check import CheckStatus
from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.core.watchdog import WatchdogPolicy
from airflow_backup_guard.engine import control
from airflow_backup_guard.engine.drill import drill
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.parts import clear_parts
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.snapshot import check
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.engine.watchdog import look
from airflow_backup_guard.errors import BackupGuardError, RepositoryDenied, SourceUnsuitable
from airflow_backup_guard.postgres.activity import end_processes
from airflow_backup_guard.postgres.probe import LoadProbe
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.s3 import S3Repository
from airflow_backup_guard.repository.s3_writer import part_size
from airflow_backup_guard.repository.settings import settings_of
from tests.integration.guarded import back_up, plan_for
from tests.integration.test_docs import TOP, block, blocks
from tests.s3_api import s3_api
from tests.stored import store_backup

PAGE = TOP / "docs" / "privileges.md"
PASSWORD = "least"
LONG = bytes(2 * part_size(1) + 1)  # an object of three parts
OTHER = "host all plain 127.0.0.1/32 scram-sha-256"


# The database


@pytest.fixture(scope="module")
def granting() -> Iterator[LocalServer]:
    """A server whose roles and pg_hba.conf are those of the page, and a role of somebody else."""
    settings = {"fsync": "off", "shared_buffers": "32MB"}
    with LocalServer.create(major=18, settings=settings) as server:
        server.sql(block(PAGE, "sql").replace("'…'", f"'{PASSWORD}'"))
        server.sql("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        server.set_hba(hba())
        yield server


def hba(*left_out: str) -> list[str]:
    """The page's lines for this machine, which has no TLS here, but for those about what is left out."""
    lines = block(PAGE, "text").replace("10.0.0.0/8", "127.0.0.1/32").replace("hostssl", "host").splitlines()
    assert len(lines) == 2
    return [OTHER, *(line for line in lines if not set(left_out) & set(line.split()))]


def dsn_of(server: LocalServer) -> str:
    """How the role of the page connects."""
    return server.dsn("postgres", "backup_guard", password=PASSWORD, tcp=True)


def failing(server: LocalServer, folder: Path) -> dict[str, str]:
    """What cannot be done now, and what is said about it, each with its remedy. Whatever raises fails wholly."""
    dsn = dsn_of(server)
    plan = plan_for(folder, watchdog=WatchdogPolicy(policy="terminate"))
    found: dict[str, str] = {}

    def told(what: str, *said: str) -> None:
        if text := " ".join(filter(None, said)):
            found[what] = text

    checks = check(plan, dsn, open_repository(plan.repository)).checks
    told("backup", *(f"{c}" for c in checks if c.status is CheckStatus.FAILED))
    told("warning", *(f"{c}" for c in checks if c.status is CheckStatus.WARNING and c.name == "watchdog"))
    try:
        told("watch", *asyncio.run(look(dsn)).blind)
    except BackupGuardError as error:
        told("watch", str(error))

    async def load() -> dict[str, str]:
        async with LoadProbe(dsn) as probe:
            for _ in range(3):
                sample = await probe.sample()
                await asyncio.sleep(0.3)
        return {name: sample.unavailable.get(name, "") for name in ("commit_latency", "active_sessions", "io_waits")}

    told("load", *asyncio.run(load()).values())
    other = server.dsn("postgres", "plain", password="plain", tcp=True)
    with psycopg.connect(other, autocommit=True) as session:
        row = session.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()").fetchone()
        assert row is not None
        try:
            told("end", "" if end_processes(dsn, [row[0]], [row[1]]) == (row[0],) else "its beginning is hidden")
        except SourceUnsuitable as error:
            told("end", str(error))
    return found


@contextmanager
def taken_away(server: LocalServer, right: str) -> Iterator[None]:
    """A server without one of the rights, which is given back at the end."""
    take, give = {
        "REPLICATION": ("ALTER ROLE backup_guard NOREPLICATION", "ALTER ROLE backup_guard REPLICATION"),
        "pg_monitor": ("REVOKE pg_monitor FROM backup_guard", "GRANT pg_monitor TO backup_guard"),
        "pg_signal_backend": ("REVOKE pg_signal_backend FROM backup_guard", "GRANT pg_signal_backend TO backup_guard"),
        "the line for `replication`": ("", ""),
        "the line for the database": ("", ""),
    }[right]
    if take:
        server.sql(take)
    else:
        server.set_hba(hba("replication" if "replication" in right else "postgres"))
    try:
        yield
    finally:
        if give:
            server.sql(give)
        else:
            server.set_hba(hba())


EXPECTED = {
    "REPLICATION": {"backup": "ALTER ROLE backup_guard REPLICATION"},
    "pg_monitor": {
        "backup": "GRANT pg_monitor TO backup_guard",
        "watch": "GRANT pg_monitor TO backup_guard",
        "load": "needs pg_monitor needs pg_monitor",
        "end": "its beginning is hidden",
    },
    "pg_signal_backend": {"warning": "GRANT pg_signal_backend TO backup_guard", "end": "Grant the privilege"},
    "the line for `replication`": {"backup": "host replication backup_guard"},
    "the line for the database": {
        **dict.fromkeys(("backup", "watch", "end"), "host postgres backup_guard"),
        "load": "no pg_hba.conf entry",
    },
}


def test_everything_works_with_the_rights_of_the_page(granting: LocalServer, tmp_path: Path) -> None:
    """Check, load, watch and end with that role, and a backup, which is verified, restored and drilled without any."""
    assert failing(granting, tmp_path / "backups") == {}
    plan = plan_for(tmp_path / "backups")
    repository = open_repository(plan.repository)
    record = back_up(plan, dsn_of(granting), repository)
    assert verify(record, repository).verdict is Verdict.VERIFIED
    restore(record, repository, tmp_path / "restored")
    assert drill(plan, record, repository).passed


@pytest.mark.parametrize("right", EXPECTED)
def test_without_a_right_what_the_page_says_fails_and_nothing_else(
    granting: LocalServer, tmp_path: Path, right: str
) -> None:
    """So none is superfluous; each failure names its remedy, and what cannot be seen is unknown, never quiet."""
    assert f"| {right if right.startswith('the') else f'`{right}`'} |" in PAGE.read_text()
    with taken_away(granting, right):
        found = failing(granting, tmp_path / "backups")
    assert found.keys() == EXPECTED[right].keys(), found
    for what, remedy in EXPECTED[right].items():
        assert remedy in found[what], (what, found[what])


# The bucket


ACTIONS = {
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "DeleteObjects": "s3:DeleteObject",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
}
"""What S3 calls the right to an operation, where that is not the operation's own name."""


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """An S3 API that enforces policies while ``enforced``."""
    with s3_api() as url:
        yield url


def client(url: str, service: str = "s3", key: str = "x", secret: str = "x") -> Any:
    """A client."""
    return boto3.client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret
    )


def policies() -> tuple[dict[str, Any], dict[str, Any]]:
    """The page's policy of a worker, and the statement for audits."""
    worker, audit = (json.loads(code) for _, code in blocks(PAGE, "json"))
    return worker, audit


def actions(*statements: dict[str, Any]) -> set[str]:
    """What these allow."""
    return {action for statement in statements for action in statement["Action"]}


def use(repository: S3Repository, folder: Path, dsn: str) -> None:
    """All that a repository is used for: check, backup, a copy that is dropped, verify, orders, restore, expire."""
    plan = plan_for(folder, repository="s3://backups/shop")
    record = back_up(plan, dsn, repository)
    with repository.writer("backups/shop/dropped/base.tar.zst") as writer:
        writer.write(LONG)
    writer = repository.writer("backups/shop/dead/base.tar.zst")
    writer.write(LONG)
    clear_parts(repository, "backups/shop/dead/")
    writer.abort()
    with repository.writer("backups/shop/long/base.tar.zst") as whole:
        whole.write(LONG)
        whole.commit()
    repository.delete("backups/shop/long/base.tar.zst")
    assert verify(record, repository).verdict is Verdict.VERIFIED
    control.clear(repository, "shop", record.backup_id)
    restore(record, repository, folder / "restored")
    old = store_backup(repository, record.snapshot.taken_at.replace(year=2025), segments=0)
    done = expire(propose(repository, "shop", RetentionPolicy(keep_last=1), "UTC"), repository)
    assert [one.backup.backup_id for one in done.expired] == [old.backup_id]


def test_the_policy_of_the_page_is_what_is_asked_for(s3_url: str, guard_dsn: str, tmp_path: Path) -> None:
    """The requests of all that a worker does are those that its policy allows, and the question for locks, which may be
    refused; those of an audit are those of its statement."""
    client(s3_url).create_bucket(Bucket="backups")
    asked: set[str] = set()
    worker = client(s3_url)
    worker.meta.events.register("before-send.s3", lambda event_name, **_: asked.add(event_name.rpartition(".")[2]))
    repository = S3Repository(worker, "backups", "shop")
    use(repository, tmp_path / "used", guard_dsn)
    policy, audit = policies()
    named = {ACTIONS.get(operation, f"s3:{operation}") for operation in asked}
    assert named == actions(*policy["Statement"]) | {"s3:GetBucketObjectLockConfiguration"}
    asked.clear()
    settings_of(repository, datetime.now(timezone.utc))
    assert {ACTIONS.get(operation, f"s3:{operation}") for operation in asked} == actions(audit)


@contextmanager
def enforced() -> Iterator[None]:
    """The API asks for rights, which it does not by default."""
    moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    try:
        yield
    finally:
        moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")


DOES: dict[str, Callable[[S3Repository], Any]] = {
    "s3:PutObject": lambda repository: repository.put("a", b"x"),
    "s3:GetObject": lambda repository: repository.reader("known").read(),
    "s3:ListBucket": lambda repository: list(repository.list("")),
    "s3:DeleteObject": lambda repository: repository.delete("known"),
    "s3:ListBucketMultipartUploads": lambda repository: list(repository.unfinished_writes("")),
    "s3:AbortMultipartUpload": lambda repository: repository.abort_writes("left"),
}


def test_each_action_of_the_policy_is_needed(s3_url: str) -> None:
    """With a service that enforces it: all works with the whole policy; without one action that which it is for is
    refused, with the list of what is needed, and the rest works; outside of its prefix nothing does."""
    admin, iam = client(s3_url), client(s3_url, "iam")
    admin.create_bucket(Bucket="backups")
    iam.create_user(UserName="worker")
    key = iam.create_access_key(UserName="worker")["AccessKey"]
    policy, _ = policies()
    assert DOES.keys() == actions(*policy["Statement"])
    worker = client(s3_url, "s3", key["AccessKeyId"], key["SecretAccessKey"])
    repository = S3Repository(worker, "backups", "shop")
    for missing in (None, *DOES):
        moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        admin.put_object(Bucket="backups", Key="shop/known", Body=b"x")
        admin.create_multipart_upload(Bucket="backups", Key="shop/left")
        statements = [{**one, "Action": [a for a in one["Action"] if a != missing]} for one in policy["Statement"]]
        document = json.dumps({**policy, "Statement": statements})
        iam.put_user_policy(UserName="worker", PolicyName="backup-guard", PolicyDocument=document)
        refused: dict[str, str] = {}
        with enforced():
            for action, does in DOES.items():
                try:
                    does(repository)
                except RepositoryDenied as error:
                    refused[action] = error.remedy
        # Uploads have to be found before they are ended.
        needs = {missing, "s3:AbortMultipartUpload"} if missing == "s3:ListBucketMultipartUploads" else {missing}
        assert refused.keys() == needs - {None}, missing
        assert all((missing or "").removeprefix("s3:") in remedy for remedy in refused.values())
    with enforced(), pytest.raises(RepositoryDenied):
        S3Repository(worker, "backups", "elsewhere").put("a", b"x")


# A stolen credential of the bucket


def test_with_object_lock_the_credential_of_a_worker_destroys_nothing(s3_url: str) -> None:
    """Whoever has the worker's key, and overwrites and deletes all that it reaches, hides backups: each version of each
    object is there still, as it was. Removing a version, and ending the versioning, are refused."""
    admin, iam = client(s3_url), client(s3_url, "iam")
    admin.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}
    admin.put_object_lock_configuration(
        Bucket="locked", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    record = store_backup(S3Repository(admin, "locked", "shop"), datetime.now(timezone.utc))
    before = {v["Key"]: v["VersionId"] for v in admin.list_object_versions(Bucket="locked")["Versions"]}
    content = {key: admin.get_object(Bucket="locked", Key=key)["Body"].read() for key in before}
    policy, _ = policies()
    iam.create_user(UserName="thief")
    key = iam.create_access_key(UserName="thief")["AccessKey"]
    iam.put_user_policy(
        UserName="thief",
        PolicyName="stolen",
        PolicyDocument=json.dumps(policy).replace("arn:aws:s3:::backups", "arn:aws:s3:::locked"),
    )
    thief = client(s3_url, "s3", key["AccessKeyId"], key["SecretAccessKey"])
    with enforced():
        for key_name, version in before.items():
            at = {"Bucket": "locked", "Key": key_name}
            thief.put_object(**at, Body=b"ransom")
            thief.delete_object(**at)
            with pytest.raises(ClientError, match="AccessDenied"):
                thief.delete_object(**at, VersionId=version)
        with pytest.raises(ClientError, match="AccessDenied"):
            thief.put_bucket_versioning(Bucket="locked", VersioningConfiguration={"Status": "Suspended"})
    # The lock holds even against one who has every right.
    with pytest.raises(ClientError, match="AccessDenied"):
        admin.delete_object(Bucket="locked", Key=next(iter(before)), VersionId=next(iter(before.values())))
    assert any(record.backup_id in key_name for key_name in before)
    for key_name, version in before.items():
        found = admin.get_object(Bucket="locked", Key=key_name, VersionId=version)["Body"].read()
        assert found == content[key_name]
