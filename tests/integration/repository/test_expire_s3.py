"""Expiry and listings in buckets as there are: with versions, with locks, with uploads that nobody ends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.expiry import Expiry
from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.s3 import S3Repository
from tests.integration.repository.conftest import Place
from tests.stored import snapshot_at, store_attempt, store_backup, store_parts, store_verification

NOW = datetime.now(timezone.utc).replace(microsecond=0)
DAY = timedelta(days=1)
ONE = RetentionPolicy(keep_last=1)


def run(repository: Repository) -> Expiry:
    """Propose, and do it."""
    return expire(propose(repository, "shop", ONE, "UTC"), repository)


def there(repository: Repository, record: BackupRecord) -> bool:
    """Whether a backup is visible with all its parts."""
    keys = {info.key for info in repository.list("")}
    return {backup.record_key("shop", record.backup_id), *(part.key for part in record.parts)} <= keys


@pytest.fixture
def client(s3_endpoint: str, connect: Callable[..., Any]) -> Any:
    """A client of the S3 API."""
    return connect(s3_endpoint)


@pytest.fixture
def locking(client: Any, request: pytest.FixtureRequest) -> S3Repository:
    """A repository in a bucket with Object Lock."""
    name = f"locking-{abs(hash(request.node.name))}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return S3Repository(client, name, "some/prefix")


@pytest.mark.parametrize("by", ["retention", "legal hold"])
def test_what_is_locked_stays_visible_and_whole(locking: S3Repository, client: Any, by: str) -> None:
    """A single locked part is enough, and the reason says until when; once that is over, the backup expires."""
    free, locked, newest = (store_backup(locking, NOW - number * DAY) for number in (2, 1, 0))
    at = {"Bucket": locking._bucket, "Key": f"some/prefix/{locked.parts[1].key}"}
    until = NOW + 30 * DAY
    if by == "retention":
        client.put_object_retention(**at, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until})
    else:
        client.put_object_legal_hold(**at, LegalHold={"Status": "ON"})
    done = run(locking)
    assert [one.backup.backup_id for one in done.expired] == [free.backup_id]
    assert there(locking, locked) and there(locking, newest)
    expected = f"until {until:%Y-%m-%d %H:%M} UTC" if by == "retention" else "by a legal hold"
    assert done.kept[0].reasons == (f"locked in the repository {expected}",)
    assert list(locking.list("expiring/")) == []
    if by == "legal hold":
        client.put_object_legal_hold(**at, LegalHold={"Status": "OFF"})
        assert [one.backup.backup_id for one in run(locking).expired] == [locked.backup_id]


def test_with_versions_a_removal_hides(s3_place: Place, client: Any, bucket: str) -> None:
    """What expires is gone for everybody here, and its versions are left for the bucket's lifecycle rules."""
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old, newest = (store_backup(s3_place.repository, NOW - number * DAY) for number in (1, 0))
    assert len(run(s3_place.repository).expired) == 1
    assert [one.backup_id for one in list_backups(s3_place.repository).backups] == [newest.backup_id]
    assert not [info for info in s3_place.repository.list("") if old.backup_id in info.key]
    versions = client.list_object_versions(Bucket=bucket)
    assert {f"some/prefix/{part.key}" for part in old.parts} <= {one["Key"] for one in versions["Versions"]}


def test_uploads_of_dead_copies_are_aborted(place: Place) -> None:
    """Of an attempt without a sign of life, not of one that stored something in the last week."""
    dead, living = snapshot_at(NOW, 1), snapshot_at(NOW, 2, max_duration="60d")
    for snapshot in (dead, living):
        store_attempt(place.repository, snapshot)
        writer = place.repository.writer(f"{backup.parts_prefix('shop', snapshot.backup_id)}base.tar.zst")
        writer.write(bytes(21 << 20))
    proposed = propose(place.repository, "shop", ONE, "UTC", now=NOW + 30 * DAY)
    assert [(one.backup_id, one.objects, one.unfinished) for one in proposed.left_over] == [(dead.backup_id, 0, 1)]
    expire(proposed, place.repository)
    (left,) = place.repository.unfinished_writes("")
    assert living.backup_id in left.key


def test_a_thousand_can_be_listed_with_four_requests(s3_place: Place, client: Any) -> None:
    """Once they are remembered: three listings and one object. What is new takes a request or two more."""
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda n: store_backup(s3_place.repository, NOW - n * DAY, segments=0), range(30)))
    first = list_backups(s3_place.repository)
    asked: list[str] = []
    client = s3_place.repository._client  # type: ignore[attr-defined]
    client.meta.events.register("before-send.s3", lambda event_name, **_: asked.append(event_name.rpartition(".")[2]))
    assert list_backups(s3_place.repository) == first
    assert sorted(asked) == ["GetObject", "ListObjectsV2", "ListObjectsV2", "ListObjectsV2"]
    store_verification(s3_place.repository, records[3], Verdict.DAMAGED)
    asked.clear()
    assert list_backups(s3_place.repository) != first
    assert len(asked) == 6


def test_many_at_once_do_no_harm(place: Place) -> None:
    """Three expiries, listings and new backups at the same time: what is kept is whole, and nothing else is left."""
    repository = place.repository
    for number in range(10):
        store_backup(repository, NOW - number * DAY, segments=4)
    new = [NOW + timedelta(seconds=number) for number in range(4)]
    with ThreadPoolExecutor(8) as pool:
        expiring = [pool.submit(run, repository) for _ in range(3)]
        making = [pool.submit(store_backup, repository, moment, None) for moment in new]
        listing = [pool.submit(list_backups, repository) for _ in range(4)]
    for future in (*expiring, *making, *listing):
        future.result()
    last = run(repository)
    assert not last.failures and not last.unreadable and not last.left_over
    kept = {one.backup.backup_id for one in last.kept}
    assert {one.backup_id for one in catalog.backups(repository, "shop")} == kept
    for backup_id in kept:
        assert there(repository, catalog.find(repository, backup_id))
    assert all(info.key.split("/")[2] in kept for info in repository.list("backups/"))


def test_a_damaged_repository_can_be_listed(place: Place) -> None:
    """Foreign objects are passed over; each damaged record is named; none hides the others."""
    repository = place.repository
    records = [store_backup(repository, NOW - number * DAY) for number in range(3)]
    for key in ("records/README.md", "records/shop/notes.json", "records/shop/old/x.json", "foreign/object"):
        repository.put(key, b"\xff")
    repository.put(backup.record_key("shop", records[1].backup_id), b'{"format": 99}')
    repository.put(backup.verification_key("shop", records[2].backup_id), b"\x00")
    store_parts(repository, snapshot_at(NOW - 9 * DAY))
    found = list_backups(repository)
    assert [one.backup_id for one in found.backups] == [records[2].backup_id, records[0].backup_id]
    assert [one.key for one in found.unreadable] == [
        backup.verification_key("shop", records[2].backup_id),
        backup.record_key("shop", records[1].backup_id),
    ]
