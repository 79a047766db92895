"""Expiry over a repository in memory: what goes, what stays, what is swept, and that the two never mix."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.drill import drill_key
from airflow_backup_guard.core.expiry import Expiring, Expiry, expiring_key
from airflow_backup_guard.core.holds import hold_key
from airflow_backup_guard.core.retention import RetentionPolicy, check_abandoned_after
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.expire import expire, policy_of, propose
from airflow_backup_guard.engine.holds import hold, release
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.errors import (
    BackupMissing,
    InvalidPlan,
    ObjectMissing,
    RepositoryDenied,
    RepositoryUnavailable,
)
from airflow_backup_guard.repository.base import ObjectInfo, Repository
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.stored import snapshot_at, store_attempt, store_backup, store_parts, store_verification

NOW = datetime.now(timezone.utc).replace(microsecond=0)
ONE = RetentionPolicy(keep_last=1)
DAY = timedelta(days=1)
WEEKS = 60 * DAY  # when everything that these tests store is long since abandoned


def run(repository: Repository, policy: RetentionPolicy = ONE, **options: datetime) -> Expiry:
    """Propose, and do it."""
    return expire(propose(repository, "shop", policy, "UTC", **options), repository)


def keys(repository: Repository, prefix: str = "") -> list[str]:
    """Keys of all objects under a prefix."""
    return [info.key for info in repository.list(prefix)]


def assert_whole(repository: Repository, record: BackupRecord) -> None:
    """A backup is visible, and all of it is there."""
    assert catalog.find(repository, record.backup_id, record.plan_name) == record
    there = {info.key: info.size for info in repository.list("backups/")}
    assert all(there.get(part.key) == part.size for part in record.parts)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([ONE, RetentionPolicy(keep_daily=3, keep_weekly=2), RetentionPolicy()]))
def test_what_is_there_afterwards_is_what_is_kept(seed: int, policy: RetentionPolicy) -> None:
    """Of any catalog: every kept backup is whole, nothing of an expired one is left, other plans are not touched."""
    source = random.Random(seed)
    repository = MemoryRepository()
    made = {}
    for number in range(source.randint(0, 12)):
        record = store_backup(
            repository,
            NOW - timedelta(hours=source.randint(0, 2000)),
            source.choice([None, *Verdict]),
            number,
            source.randint(0, 4),
        )
        made[record.backup_id] = record
        if source.random() < 0.2:
            hold(repository, record, until=source.choice([None, NOW.date()]), reason="", by="me")
        if source.random() < 0.2:
            store_attempt(repository, record.snapshot)  # its copy was killed right after the record
    other = store_backup(repository, NOW - 900 * DAY, name="other")
    expiry = run(repository, policy, now=NOW)
    assert {one.backup.backup_id for one in expiry.decisions} == set(made)
    kept = {one.backup.backup_id for one in expiry.kept}
    for backup_id in kept:
        assert_whole(repository, made[backup_id])
    assert_whole(repository, other)
    for key in keys(repository):
        assert key.startswith("catalog/") or any(one in key for one in (*kept, other.backup_id)), key
    again = run(repository, policy, now=NOW)
    assert not again.expired
    assert {one.backup.backup_id for one in again.kept} == kept


def test_a_proposal_changes_nothing() -> None:
    """Not an object."""
    repository = MemoryRepository()
    for number in range(3):
        store_backup(repository, NOW - number * DAY)
    before = keys(repository)
    proposed = propose(repository, "shop", ONE, "UTC")
    assert (len(proposed.expired), len(proposed.kept), proposed.done) == (2, 1, False)
    assert keys(repository) == before


def test_a_record_without_its_parts_counts_as_damaged() -> None:
    """A store may perform a write long after all was cleaned up, and so show a backup of which nothing, or not all, is
    there. It costs no other its place, a later one expires it, and with no other it stays."""
    repository = MemoryRepository()
    alone = store_backup(repository, NOW - 3 * DAY, None)
    repository.delete(alone.parts[0].key)
    assert not run(repository).expired
    whole = store_backup(repository, NOW - 2 * DAY, None)
    ghost = store_backup(repository, NOW - DAY, None)
    repository.delete_all([part.key for part in ghost.parts])
    expiry = run(repository)
    ((gone),) = expiry.expired
    assert gone.backup.backup_id == alone.backup_id
    assert f"of its {Size(alone.stored_size)} are stored" in str(gone)
    assert {one.backup.backup_id: one.backup.verdict for one in expiry.kept} == {
        whole.backup_id: None,
        ghost.backup_id: Verdict.DAMAGED,
    }
    assert_whole(repository, whole)
    newest = store_backup(repository, NOW, None)
    assert [one.backup.backup_id for one in run(repository).kept] == [newest.backup_id]
    assert not [key for key in keys(repository) if ghost.backup_id in key]


def test_what_else_lies_in_its_folder_does_not_stand_for_what_is_missing() -> None:
    """An earlier try that could not be cleaned up may be larger than the part that is gone."""
    repository = MemoryRepository()
    whole = store_backup(repository, NOW - 2 * DAY, None)
    ghost = store_backup(repository, NOW - DAY, None)
    repository.delete(ghost.parts[0].key)
    repository.put(f"{backup.parts_prefix('shop', ghost.backup_id)}try-9/base.zst", bytes(ghost.stored_size))
    assert not run(repository).expired
    assert_whole(repository, whole)


def test_what_was_verified_stays_while_its_parts_are_out_of_reach() -> None:
    """A disk that is not mounted lists nothing, without an error. Once a verification says so, too, it is damaged."""
    repository = MemoryRepository()
    good = store_backup(repository, NOW - 3 * DAY, Verdict.VERIFIED)
    store_backup(repository, NOW - 2 * DAY, None)
    newest = store_backup(repository, NOW - DAY, None)
    parts = {key: repository.reader(key).read() for key in keys(repository) if key.startswith("backups/")}
    repository.delete_all(parts)
    (kept, *_) = propose(repository, "shop", ONE, "UTC", now=NOW).kept
    assert kept.backup.backup_id == good.backup_id
    assert f"{Size(0)} of its {Size(good.stored_size)} are stored, and it was found good" in str(kept)
    store_verification(repository, good, Verdict.DAMAGED)
    assert {one.backup.backup_id for one in propose(repository, "shop", ONE, "UTC", now=NOW).kept} == {newest.backup_id}


def test_a_backup_that_is_made_meanwhile_is_whole() -> None:
    """Parts are listed before records, so that a backup may seem to have none: they are looked for again."""

    class Slow(MemoryRepository):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            found = list(super().list(prefix))
            if prefix == "backups/shop/" and not any(super().list("records/")):
                store_backup(self, NOW - DAY, None)
            return iter(found)

    (kept,) = propose(Slow(), "shop", ONE, "UTC").kept
    assert kept.backup.verdict is None


def test_a_hold_between_proposal_and_deed_counts() -> None:
    """It is looked for right before the record goes, and what cannot be read is taken for a hold; one that is over
    is none."""
    repository = MemoryRepository()
    records = [store_backup(repository, NOW - number * DAY) for number in range(4)]
    proposed = propose(repository, "shop", ONE, "UTC")
    hold(repository, records[1], until=NOW.date() + 2 * DAY, reason="case 4711", by="alice@db1")
    repository.put(hold_key("shop", records[2].backup_id), b"{")
    hold(repository, records[3], until=NOW.date() - 2 * DAY, reason="", by="alice@db1")
    done = expire(proposed, repository)
    assert [one.backup.backup_id for one in done.expired] == [records[3].backup_id]
    for record in records[:3]:
        assert_whole(repository, record)
    assert keys(repository, "expiring/") == []
    assert "case 4711" in str(done.kept[1])
    assert "the hold cannot be read" in str(done.kept[0])
    seen = propose(repository, "shop", ONE, "UTC")
    assert len(seen.kept) == 3
    assert [one.key for one in seen.unreadable] == [hold_key("shop", records[2].backup_id)]
    assert release(repository, records[2]) and not release(repository, records[2])
    assert [one.backup.backup_id for one in run(repository).expired] == [records[2].backup_id]


def test_a_hold_that_comes_too_late_says_so() -> None:
    """It leaves nothing behind; one on a backup that an expiry has marked, and was killed, holds."""
    repository = MemoryRepository()
    record = store_backup(repository, NOW - DAY)
    mark = expiring_key("shop", record.backup_id)
    repository.put(mark, backup.dump(Expiring(backup.FORMAT, NOW)))
    hold(repository, record, until=None, reason="", by="me", wait_seconds=0)
    store_backup(repository, NOW)
    assert len(run(repository).kept) == 2
    assert keys(repository, "expiring/") == [mark]  # whoever put it may live
    repository.put(drill_key("shop", record.backup_id), b"{}")
    run(repository, now=NOW + 2 * DAY)
    assert keys(repository, "expiring/") == []
    repository.put(mark, backup.dump(Expiring(backup.FORMAT, NOW)))
    repository.delete(backup.record_key("shop", record.backup_id))
    with pytest.raises(BackupMissing, match="has expired"):
        hold(repository, record, until=date(2999, 1, 1), reason="", by="me", wait_seconds=0)
    assert keys(repository, "holds/") == []
    run(repository)
    assert keys(repository, "drills/") == []  # it goes with its backup


def test_an_expiry_that_was_cut_short_is_finished() -> None:
    """Without its record, what is left of a backup is removed by the next one; with it, it is decided anew."""
    repository = MemoryRepository()
    gone, visible = (store_backup(repository, NOW - number * DAY) for number in (9, 0))
    for record in (gone, visible):
        repository.put(expiring_key("shop", record.backup_id), backup.dump(Expiring(backup.FORMAT, NOW)))
    repository.delete(backup.record_key("shop", gone.backup_id))
    done = run(repository, RetentionPolicy())
    (swept,) = done.swept
    assert str(swept) == f"an expiry that was cut short: 3 objects, {Size(gone.stored_size)}"
    assert not [key for key in keys(repository) if gone.backup_id in key]
    assert_whole(repository, visible)


def test_a_copy_that_may_run_is_not_swept() -> None:
    """Only an attempt without a sign of life for long is; the attempt then says so. Its plan's max_duration counts."""
    repository = MemoryRepository()
    running, slow = snapshot_at(NOW, 1), snapshot_at(NOW, 2, max_duration="90d")
    for snapshot in (running, slow):
        store_attempt(repository, snapshot)
        store_parts(repository, snapshot)
    writer = repository.writer(f"{backup.parts_prefix('shop', running.backup_id)}16395.tar.zst")
    writer.write(b"unfinished")
    before = keys(repository)
    assert run(repository).left_over == ()
    assert run(repository, now=NOW + 6 * DAY).left_over == ()
    assert keys(repository) == before
    (left,) = run(repository, now=NOW + WEEKS).left_over
    assert (left.backup_id, left.objects, left.unfinished, left.known) == (running.backup_id, 3, 1, True)
    assert keys(repository, "backups/") == [key for key in before if slow.backup_id in key and "backups" in key]
    assert list(repository.unfinished_writes("")) == []
    with repository.reader(backup.attempt_key("shop", running.backup_id)) as stored:
        assert "no sign of life" in (backup.load(backup.Attempt, stored.read(), "it").outcome or "")
    assert run(repository, now=NOW + WEEKS).left_over == ()


def test_what_nobody_knows_stays() -> None:
    """Parts without record and attempt may be a backup whose record was lost; an attempt that is not ours says nothing.
    Both are named; what has no id of ours is not even looked at."""
    repository = MemoryRepository()
    lost, odd = store_backup(repository, NOW - 30 * DAY), snapshot_at(NOW - 20 * DAY)
    repository.delete(backup.record_key("shop", lost.backup_id))
    store_parts(repository, odd)
    repository.put(backup.attempt_key("shop", odd.backup_id), b"not JSON")
    for key in ("backups/shop/README.txt", "backups/shop/mine/base.tar", "records/shop/notes.json", "attempts/shop/x"):
        repository.put(key, b"")
    before = keys(repository)
    done = run(repository, now=NOW + WEEKS)
    assert [one.known for one in done.left_over] == [False, False]
    assert "neither a record nor an attempt" in str(done.left_over[0])
    assert "cannot be read" in str(done.left_over[1])
    assert keys(repository) == before
    assert done.freed == 0


def test_a_record_that_cannot_be_read_stays_and_is_named() -> None:
    """Neither damage, a newer format, nor the record of another backup lets anything of it expire."""
    repository = MemoryRepository()
    records = [store_backup(repository, NOW - number * DAY) for number in range(5)]
    stolen = store_backup(repository, NOW - 3 * DAY, suffix=9, name="other")
    repository.put(backup.record_key("shop", records[1].backup_id), b"{")
    repository.put(backup.record_key("shop", records[2].backup_id), b'{"format": 99}')
    repository.put(backup.record_key("shop", stolen.backup_id), backup.dump(stolen))
    done = run(repository, now=NOW + WEEKS)
    assert sorted(one.backup.backup_id for one in done.expired) == [records[4].backup_id, records[3].backup_id]
    assert [one.backup_id for one in done.unreadable] == sorted(
        [records[2].backup_id, records[1].backup_id, stolen.backup_id]
    )
    assert "is the record of backup" in str(done.unreadable)
    there = {info.key for info in repository.list("backups/")}
    assert there == {part.key for record in (*records[:3], stolen) for part in record.parts}


class Refusing(MemoryRepository):
    """Refuses to delete what has ``refused`` in its key."""

    refused = "records/"

    def delete(self, key: str) -> None:
        if self.refused and self.refused in key:
            raise RepositoryDenied(f"{key} is not allowed to us.", remedy="Allow s3:DeleteObject.")
        super().delete(key)


def test_what_cannot_be_removed_stays_visible_and_whole() -> None:
    """It is told, the others are still tried, and there is no mark; a later expiry removes it."""
    repository = Refusing()
    records = [store_backup(repository, NOW - number * DAY) for number in range(3)]
    done = run(repository)
    assert [one.backup_id for one in done.failures] == [records[2].backup_id, records[1].backup_id]
    assert not done.expired
    for record in records:
        assert_whole(repository, record)
    assert keys(repository, "expiring/") == []
    repository.refused = f"expiring/shop/{records[1].backup_id}"
    half = run(repository)
    assert [one.backup_id for one in half.failures] == [records[1].backup_id]
    assert [one.backup.backup_id for one in half.expired] == [records[2].backup_id, records[1].backup_id]
    repository.refused = ""
    assert len(run(repository).swept) == 1
    assert keys(repository, "expiring/") == []


class Faltering(MemoryRepository):
    """Deletes records, and loses the answer."""

    lost = True

    def delete(self, key: str) -> None:
        super().delete(key)
        if self.lost and key.startswith("records/"):
            raise RepositoryUnavailable(f"{key} cannot be reached.")


def test_a_lost_answer_leaves_a_mark() -> None:
    """So that the next expiry knows what the parts are that have no record any more, and removes them."""
    repository = Faltering()
    gone, newest = (store_backup(repository, NOW - number * DAY) for number in (1, 0))
    assert [one.backup_id for one in run(repository).failures] == [gone.backup_id]
    assert keys(repository, "expiring/") == [expiring_key("shop", gone.backup_id)]
    repository.lost = False
    assert [one.backup_id for one in run(repository).swept] == [gone.backup_id]
    assert not [key for key in keys(repository) if gone.backup_id in key]
    assert_whole(repository, newest)


def test_the_rules_are_those_of_the_newest_backup() -> None:
    """Where nobody gives others: its plan's, with its time zone; a plan of an older release has none."""
    repository = MemoryRepository()
    store_backup(repository, NOW - DAY)
    assert policy_of(repository, "shop") == (RetentionPolicy(), "UTC")
    store_backup(repository, NOW, retention={"keep_daily": 7, "min_age": "3d"}, calendar={"tz": "Asia/Tokyo"})
    assert policy_of(repository, "shop") == (RetentionPolicy(keep_daily=7, min_age=3 * DAY), "Asia/Tokyo")
    with pytest.raises(BackupMissing):
        policy_of(repository, "nothing")


def test_whoever_reads_a_backup_that_expires_is_told() -> None:
    """In words, in place of an object that is missing; damage of a backup that is there stays damage."""
    repository = MemoryRepository()
    record = store_backup(repository, NOW)
    with pytest.raises(ObjectMissing), catalog.gone_explained(repository, record):
        repository.reader("backups/shop/nothing")
    repository.delete(backup.record_key("shop", record.backup_id))
    with pytest.raises(BackupMissing, match="was removed from the repository while"):
        catalog.refuse_gone(repository, record)
    repository.put(expiring_key("shop", record.backup_id), b"")
    with pytest.raises(BackupMissing, match="has expired while"), catalog.gone_explained(repository, record):
        repository.reader("backups/shop/nothing")


def test_a_listing_remembers_only_what_has_not_changed() -> None:
    """What is new, verified anew, or gone shows at once; what is remembered of it is worth nothing to an expiry."""
    repository = MemoryRepository()
    records = [store_backup(repository, NOW - number * DAY, None) for number in range(20)]
    assert len(list_backups(repository).backups) == 20
    assert keys(repository, "catalog/") == ["catalog/shop.json"]
    repository.delete(backup.record_key("shop", records[1].backup_id))
    store_verification(repository, records[2], Verdict.DAMAGED)
    added = store_backup(repository, NOW + DAY)
    seen = {one.backup_id: one for one in list_backups(repository).backups}
    assert set(seen) == {record.backup_id for record in (*records[:1], *records[2:], added)}
    assert (seen[records[2].backup_id].verdict, seen[records[3].backup_id].verdict) == (Verdict.DAMAGED, None)
    # Whatever is in the memory, an expiry reads the objects; and what cannot be read there is read from them.
    with repository.reader("catalog/shop.json") as stored:
        lying = stored.read().replace(b'"verdict": null', b'"verdict": "verified"')
    repository.put("catalog/shop.json", lying)
    assert {one.trust for one in list_backups(repository, fresh=True).backups} == {0, 1, 2}
    for damaged in (b"{", b'{"format": 99}', b"[]", b""):
        repository.put("catalog/shop.json", damaged)
        assert {one.backup_id: one for one in list_backups(repository).backups} == seen


def test_how_long_is_abandoned() -> None:
    """An hour at least, so that no copy that has just begun is taken for dead."""
    assert check_abandoned_after("1h") == timedelta(hours=1)
    for value in ("59min", "0s", "soon"):
        with pytest.raises(InvalidPlan, match="abandoned_after"):
            check_abandoned_after(value)
