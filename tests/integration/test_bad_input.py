"""What is wrong with a database, a connection or a repository is said clearly, and nothing is left behind."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import boto3
import pendulum
import pytest

from airflow_backup_guard.core import OffPeakCalendar
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import snapshot as snapshot_module
from airflow_backup_guard.engine.snapshot import check, take_snapshot
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupStopped, PreflightFailed, PreflightNotYet, RepositoryFull
from airflow_backup_guard.postgres import check as postgres_check
from airflow_backup_guard.postgres.replication import ReplicationConnection
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.s3 import S3Repository
from airflow_backup_guard.repository.s3_writer import part_size
from tests.integration.guarded import CopyInFlight, assert_nothing_left, back_up, plan_for, sessions, slots, wait_until
from tests.s3_api import s3_api

RoleDsn = Callable[..., str]
PART = part_size(1)


@pytest.mark.parametrize(
    ("role", "keywords", "said", "remedy"),
    [
        ("guard", {"password": "wrong"}, "password authentication failed", "Correct the user or password"),
        ("nobody_there", {}, "password authentication failed", "Correct the user or password"),
        ("noreplication", {}, "has no REPLICATION privilege", "ALTER ROLE noreplication REPLICATION"),
        ("nomonitor", {}, "is not a member of pg_monitor", "GRANT pg_monitor TO nomonitor"),
        ("nohba", {}, "no pg_hba.conf entry for replication", "host replication nohba"),
        ("guard", {"dbname": "nowhere"}, 'database "nowhere" does not exist', "Correct the database"),
    ],
)
def test_a_role_that_cannot_back_up_is_told_why_and_how_to_mend_it(
    server: LocalServer, role_dsn: RoleDsn, tmp_path: Path, role: str, keywords: dict[str, str], said: str, remedy: str
) -> None:
    """Each refusal names what, whom and the remedy, is final for Airflow, and shows no password."""
    plan = plan_for(tmp_path / "backups")
    repository = open_repository(plan.repository)
    dbname = keywords.pop("dbname", "postgres")
    with pytest.raises(PreflightFailed) as caught:
        back_up(plan, role_dsn(server, role, dbname, **keywords), repository)
    assert said in str(caught.value)
    assert remedy in caught.value.remedy
    assert not caught.value.retryable
    assert "wrong" not in str(caught.value)
    assert_nothing_left(server, repository, wait_until)


def test_a_server_that_is_not_there_is_worth_a_retry(tmp_path: Path) -> None:
    """Nobody listens: it may be restarting, so Airflow's retries apply."""
    plan = plan_for(tmp_path / "backups")
    with pytest.raises(PreflightNotYet, match=r"127\.0\.0\.1:1: .*refused.*Check host, port") as caught:
        back_up(plan, "host=127.0.0.1 port=1 user=guard dbname=postgres")
    assert caught.value.retryable


def test_no_free_wal_sender_is_said_before_anything_begins(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """All WAL senders in use is something that passes: the check counts them, and the error is retryable."""
    server = new_server(settings={"max_wal_senders": "3"})
    dsn = role_dsn(server)
    plan = plan_for(tmp_path / "backups")
    with ExitStack() as stack:
        for _ in range(2):
            stack.callback(ReplicationConnection(dsn, "a standby").close)
        with pytest.raises(PreflightNotYet, match=r"WAL senders: 2 of 3 in use, 2 needed.*raise max_wal_senders"):
            back_up(plan, dsn)
        stack.callback(ReplicationConnection(dsn, "a standby").close)
        with pytest.raises(PreflightNotYet, match="WAL senders: 3 of 3 in use"):
            back_up(plan, dsn)
    assert_nothing_left(server, open_repository(plan.repository), wait_until)


def test_an_old_postgresql_is_refused(
    server: LocalServer, guard_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None older than 15 can be had here, so the oldest that is supported is set to one that is newer than this."""
    monkeypatch.setattr(postgres_check, "OLDEST_MAJOR", 99)
    with pytest.raises(PreflightFailed, match=r"PostgreSQL 18\.\d+ is too old.*Upgrade to PostgreSQL 99"):
        back_up(plan_for(tmp_path / "backups"), guard_dsn)


def test_somebody_elses_backup_is_seen(server: LocalServer, guard_dsn: str, tmp_path: Path) -> None:
    """Two backups at once are twice the load: the check says who, from where and since when."""
    slow = server.popen(
        "pg_basebackup",
        "--pgdata=-",
        "--format=tar",
        "--wal-method=none",
        "--max-rate=1M",
        "--checkpoint=fast",
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: server.sql("SELECT count(*) FROM pg_stat_progress_basebackup") == "1")
        with pytest.raises(PreflightNotYet, match="already loading this server: pg_basebackup by postgres from"):
            back_up(plan_for(tmp_path / "backups"), guard_dsn)
    finally:
        slow.kill()
        slow.wait()
    wait_until(lambda: server.sql("SELECT count(*) FROM pg_stat_replication") == "0")


def test_a_repository_without_its_parent_is_refused(server: LocalServer, guard_dsn: str, tmp_path: Path) -> None:
    """A disk that is not mounted must not be filled silently at its mount point's place."""
    plan = plan_for(tmp_path / "backups", repository=(tmp_path / "not mounted" / "backups").as_uri())
    with pytest.raises(PreflightNotYet, match="not mounted"):
        back_up(plan, guard_dsn)
    assert sessions(server) == 0


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """A real HTTP S3 API on loopback."""
    with s3_api() as url:
        yield url


def s3(url: str, bucket: str) -> S3Repository:
    """A repository in a bucket of the server at ``url``."""
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    return S3Repository(client, bucket, "backups")


def test_a_missing_bucket_and_an_unreachable_store_are_refused(guard_dsn: str, tmp_path: Path, s3_url: str) -> None:
    """Both are found by the check, before the database is asked for anything."""
    plan = plan_for(tmp_path / "backups", repository="s3://nowhere/backups")
    for repository, said in ((s3(s3_url, "nowhere"), "nowhere"), (s3("http://127.0.0.1:1", "any"), "127.0.0.1:1")):
        with pytest.raises(PreflightFailed, match=said) as caught:
            take_snapshot(plan, guard_dsn, repository)
        assert caught.value.remedy


def test_a_backup_into_s3_is_whole_and_a_stopped_one_leaves_no_upload(
    server: LocalServer, guard_dsn: str, tmp_path: Path, s3_url: str
) -> None:
    """The same promises hold in a bucket: visible and verified, or not one object and not one open upload."""
    repository = s3(s3_url, "bucket")
    client = repository._client
    client.create_bucket(Bucket="bucket")

    def uploads() -> list[str]:
        return [upload["Key"] for upload in client.list_multipart_uploads(Bucket="bucket").get("Uploads", ())]

    # More than two parts that no compressor makes shorter, so that an upload is under way when the copy is stopped.
    server.sql(
        "CREATE TABLE noise (bytes bytea STORAGE EXTERNAL);"
        f"INSERT INTO noise SELECT pg_read_binary_file('/dev/urandom', 0, {PART // 16}) FROM generate_series(1, 40)"
    )
    try:
        slow = plan_for(tmp_path / "backups", repository="s3://bucket/backups", max_rate="20MB/s", min_rate="20MB/s")
        with CopyInFlight(slow, guard_dsn, repository) as copying:
            wait_until(uploads, 60)
            assert copying.error is None and copying.record is None
            (begun,) = uploads()
            assert copying.snapshot.backup_id in begun
            copying.stop.request("the test wants it")
            copying.end()
        assert isinstance(copying.error, BackupStopped)
        assert_nothing_left(server, repository, wait_until)
        assert uploads() == []
        fast = plan_for(tmp_path / "backups", repository="s3://bucket/backups")
        record = back_up(fast, guard_dsn, repository)
    finally:
        server.sql("DROP TABLE noise")
    base = next(part for part in record.parts if part.name == "base")
    assert client.head_object(Bucket="bucket", Key=f"backups/{base.key}")["ETag"].endswith('-3"')  # of three parts
    assert verify(record, repository).verdict is Verdict.VERIFIED
    assert uploads() == []


def test_a_repository_that_fills_up_fails_the_copy_and_is_emptied(
    server: LocalServer, guard_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space left in mid-copy: the error says so, and what was stored is removed again."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small file system that this needs")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr!r}")
    try:
        server.sql("CREATE TABLE noise AS SELECT gen_random_uuid()::text AS t FROM generate_series(1, 300000)")
        plan = plan_for(folder / "backups", compression_level=1)
        repository = open_repository(plan.repository)
        found = check(plan, guard_dsn, repository)
        assert [c.status for c in found.checks if c.name == "repository space"] == [CheckStatus.FAILED]
        with pytest.raises(PreflightFailed, match=r"4\.2MB free for a database of"):
            take_snapshot(plan, guard_dsn, repository)
        # A check cannot know how much others will write meanwhile, so the copy must cope, too.
        monkeypatch.setattr(snapshot_module, "_space", lambda free, size: [])
        with pytest.raises(RepositoryFull):
            back_up(plan, guard_dsn, repository)
        assert_nothing_left(server, repository, wait_until)
        assert [path for path in folder.rglob("*") if path.is_file() and "attempts" not in str(path)] == []
    finally:
        server.sql("DROP TABLE IF EXISTS noise")
        subprocess.run(["umount", str(folder)], check=True)
    assert slots(server) == 0


def test_a_backup_outside_of_its_window_is_refused(guard_dsn: str, tmp_path: Path) -> None:
    """The snapshot asks the calendar itself: a task that was queued or retried for hours must not begin at noon."""
    now = pendulum.now("UTC")
    closed = f"daily {now.add(hours=6):%H:00}-{now.add(hours=7):%H:00}"
    plan = plan_for(tmp_path / "backups", calendar=OffPeakCalendar.parse(closed, tz="UTC"))
    repository = open_repository(plan.repository)
    with pytest.raises(PreflightNotYet, match=r"off-peak window: Closed: outside of daily.*The next window opens"):
        take_snapshot(plan, guard_dsn, repository)
    assert take_snapshot(plan, guard_dsn, repository, outside_window=True).plan_name == "shop"


def test_a_check_by_day_of_a_plan_for_the_night_says_when_it_opens(guard_dsn: str, tmp_path: Path) -> None:
    """All is ready, so it does not fail; but it does for a calendar that never opens, or of which that is not known."""
    now = pendulum.now("UTC")
    night = f"daily {now.add(hours=6):%H:00}-{now.add(hours=7):%H:00}"
    repository = open_repository((tmp_path / "backups").as_uri())

    def window(calendar: OffPeakCalendar) -> Check:
        readiness = check(plan_for(tmp_path / "backups", calendar=calendar), guard_dsn, repository)
        (found,) = [one for one in readiness.checks if one.name == "off-peak window"]
        assert readiness.failed == ([found] if found.status is CheckStatus.FAILED else [])
        return found

    open_tonight = window(OffPeakCalendar.parse(night, tz="UTC"))
    assert open_tonight.status is CheckStatus.OK
    assert re.fullmatch(r"opens .* UTC, in [56]h.*; closed now: outside of daily .*", open_tonight.detail)
    unread = OffPeakCalendar.parse(night, tz="UTC", blackouts=[(tmp_path / "gone.ics").as_uri()])
    assert window(unread).status is CheckStatus.FAILED


def test_in_place_tablespaces_are_refused(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """PostgreSQL 15 leaves their files out of a base backup, so that one would look whole and not be."""
    server = new_server(settings={"allow_in_place_tablespaces": "on"})
    server.sql("CREATE TABLESPACE inside LOCATION ''")
    with pytest.raises(PreflightFailed, match=r"In-place tablespaces.*inside"):
        take_snapshot(
            plan_for(tmp_path / "backups"), role_dsn(server), open_repository((tmp_path / "backups").as_uri())
        )
