"""Backups as values: ids, keys, records that survive being stored, and quantiles."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import (
    Attempt,
    BackupRecord,
    Cluster,
    Database,
    Impact,
    Latency,
    Pause,
    Snapshot,
    StoredPart,
    Tablespace,
    is_backup_id,
    new_backup_id,
)
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.verification import ObjectState, ObjectVerdict, Verdict, Verification
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import BackupDamaged

NOON = datetime(2024, 6, 1, 12, tzinfo=timezone(timedelta(hours=-7)))
BACKUP_ID = "20240601T190000Z-00af"

# Ids and keys


def test_an_id_tells_its_time_in_utc() -> None:
    """Whatever the time zone of the moment."""
    assert new_backup_id(NOON, 0xAF) == BACKUP_ID
    assert new_backup_id(NOON, 0x12300AF) == BACKUP_ID


MOMENTS = st.datetimes(
    datetime(2000, 1, 1),
    datetime(9000, 1, 1),
    timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=-7)), timezone(timedelta(hours=14))]),
)


@given(MOMENTS, MOMENTS, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_ids_sort_by_time(one: datetime, other: datetime, suffix: int, other_suffix: int) -> None:
    """A list of names is a history, to the second."""
    earlier, later = sorted([one, other])
    first, second = new_backup_id(earlier, suffix), new_backup_id(later, other_suffix)
    assert first[:16] <= second[:16]
    if later - earlier >= timedelta(seconds=1):
        assert first < second
    assert is_backup_id(first)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "20240601T190000Z",
        BACKUP_ID.upper(),
        f"{BACKUP_ID}\n",
        f" {BACKUP_ID}",
        f"../{BACKUP_ID}",
        "20240601T190000Z-00ag",
        "٢٠٢٤0601T190000Z-00af",
    ],
)
def test_what_is_no_id_is_told(text: str) -> None:
    """Whatever else may lie in a repository."""
    assert is_backup_id(BACKUP_ID)
    assert not is_backup_id(text)


def test_where_things_lie() -> None:
    """These keys are a stored format: to change them is to lose sight of the backups there are."""
    assert backup.record_key("shop", BACKUP_ID) == f"records/shop/{BACKUP_ID}.json"
    assert backup.attempt_key("shop", BACKUP_ID) == f"attempts/shop/{BACKUP_ID}.json"
    assert backup.attempts_prefix("shop") == "attempts/shop/"
    assert backup.parts_prefix("shop", BACKUP_ID) == f"backups/shop/{BACKUP_ID}/"
    assert backup.verification_key("shop", BACKUP_ID) == f"verifications/shop/{BACKUP_ID}.json"
    assert backup.RECORDS == "records/"


# Records

TEXTS = st.text(max_size=20)
NUMBERS = st.integers(0, 2**63 - 1)
SECONDS = st.floats(0, 1e9)
LSNS = st.integers(0, 2**64 - 1).map(LSN)
SEGMENT_SIZES = st.sampled_from([1 << bits for bits in range(20, 31)])
LOCATIONS = TEXTS.filter(lambda text: "\0" not in text)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=5,
)


def several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """A tuple of a few."""
    return st.lists(values, max_size=3).map(tuple)


SNAPSHOTS = st.builds(
    Snapshot,
    backup_id=st.builds(new_backup_id, MOMENTS, NUMBERS),
    plan=st.builds(lambda name, other: {"name": name, "other": other}, TEXTS, PLAIN),
    cluster=st.builds(Cluster, TEXTS, NUMBERS, NUMBERS, SEGMENT_SIZES, st.booleans()),
    lsn=LSNS,
    taken_at=MOMENTS,
    size=NUMBERS,
    databases=several(st.builds(Database, TEXTS, NUMBERS)),
    tablespaces=several(st.builds(Tablespace, NUMBERS, TEXTS, LOCATIONS, NUMBERS)),
    warnings=several(TEXTS),
)
KINDS = ("manifest", "telemetry", "output")
QUANTILE = st.none() | SECONDS
LATENCIES = st.builds(Latency, NUMBERS, QUANTILE, QUANTILE, QUANTILE)
IMPACTS = st.builds(
    Impact, LATENCIES, LATENCIES, LATENCIES, SECONDS, SECONDS, several(st.builds(Pause, MOMENTS, SECONDS, TEXTS))
)


def record(start: LSN, length: int, **values: Any) -> BackupRecord:
    """A record of that much WAL."""
    return BackupRecord(start_lsn=start, end_lsn=LSN(min(start + length, 2**64 - 1)), **values)


RECORDS = st.builds(
    record,
    format=st.just(backup.FORMAT),
    snapshot=SNAPSHOTS,
    tablespaces=st.just(()),
    timeline=NUMBERS,
    start=LSNS,
    length=st.integers(0, 2**32),
    started_at=MOMENTS,
    checkpoint_seconds=SECONDS,
    ended_at=MOMENTS,
    parts=several(st.builds(StoredPart, st.sampled_from(KINDS), TEXTS, TEXTS, NUMBERS, TEXTS, NUMBERS)),
    impact=IMPACTS,
    written_by=TEXTS,
)


@given(RECORDS)
def test_a_record_survives_being_stored(record: BackupRecord) -> None:
    """As bytes in a repository and as plain values in XCom, down to its types."""
    stored = backup.load(BackupRecord, backup.dump(record), "records/x.json")
    assert stored == record
    assert type(stored.start_lsn) is type(stored.snapshot.lsn) is LSN
    assert stored.started_at.tzinfo is not None
    plain = json.loads(json.dumps(backup.dump_plain(record), allow_nan=False))
    assert backup.load_plain(BackupRecord, plain) == record
    assert json.loads(backup.dump(record)) == plain


@given(SNAPSHOTS, st.none() | TEXTS)
def test_an_attempt_survives_being_stored(snapshot: Snapshot, outcome: str | None) -> None:
    """So does the snapshot by itself, which goes from task to task."""
    attempt = Attempt(backup.FORMAT, snapshot, outcome)
    assert backup.load(Attempt, backup.dump(attempt), "attempts/x.json") == attempt
    assert backup.load_plain(Snapshot, json.loads(json.dumps(backup.dump_plain(snapshot)))) == snapshot


def test_a_verification_survives_being_stored() -> None:
    """States and verdicts come back as what they were, not as texts."""
    verification = Verification(
        format=backup.FORMAT,
        backup_id=BACKUP_ID,
        verdict=Verdict.DAMAGED,
        verified_at=NOON,
        seconds=1.5,
        bytes_read=5,
        files=2,
        objects=(ObjectVerdict("a", ObjectState.OK), ObjectVerdict("b", ObjectState.RESIZED, "1 byte")),
        checks=(Check("WAL", CheckStatus.FAILED, "a gap", "use another", transient=True),),
    )
    again = backup.load(Verification, backup.dump(verification), "verifications/x.json")
    assert again == verification
    assert again.objects[1].state is ObjectState.RESIZED


RECORD = BackupRecord(
    format=1,
    snapshot=Snapshot(
        backup_id=BACKUP_ID,
        plan={"name": "shop"},
        cluster=Cluster("7412345678901234567", 180006, 3, 16 << 20, True),
        lsn=LSN.parse("16/B374D848"),
        taken_at=NOON,
        size=8_000_000,
        databases=(Database("shop", 7_000_000),),
        tablespaces=(Tablespace(16385, "fast", "/srv/fast", 0),),
    ),
    tablespaces=(),
    timeline=3,
    start_lsn=LSN.parse("16/B4000028"),
    end_lsn=LSN.parse("16/B4000100"),
    started_at=NOON,
    checkpoint_seconds=30.0,
    ended_at=NOON + timedelta(seconds=90),
    parts=(
        StoredPart("wal", "0000000300000016000000B5", "k1", 10, "00", 16),
        StoredPart("archive", "base", "k2", 300, "11", 1000),
        StoredPart("archive", "16385", "k3", 200, "22", 500),
        StoredPart("wal", "0000000300000016000000B4", "k4", 20, "33", 16),
    ),
    impact=Impact(Latency(0), Latency(1, 0.1, 0.1, 0.1), Latency(0)),
    written_by="airflow-backup-guard 0.1.0",
)


def test_a_stored_record_can_be_read_by_people() -> None:
    """LSNs as PostgreSQL writes them, times with their zone, one value a line."""
    text = backup.dump(RECORD).decode()
    assert '\n  "start_lsn": "16/B4000028",\n' in text
    assert '"taken_at": "2024-06-01T12:00:00-07:00"' in text


def test_what_a_record_says() -> None:
    """Sizes, times and parts are added up, not stored twice."""
    assert (RECORD.backup_id, RECORD.plan_name, RECORD.snapshot.cluster.major) == (BACKUP_ID, "shop", 18)
    assert (RECORD.database_size, RECORD.stored_size, RECORD.seconds) == (1500, 530, 90.0)
    assert [part.name for part in RECORD.parts_of("wal")] == ["0000000300000016000000B4", "0000000300000016000000B5"]
    assert RECORD.parts_of("manifest") == []


def test_the_rate_is_that_of_reading() -> None:
    """The wait for the checkpoint is not part of it, and a copy of no time has a rate all the same."""
    assert RECORD.rate == 1500 / 60
    assert replace(RECORD, ended_at=RECORD.started_at).rate > 0


@pytest.mark.parametrize("version", [2, 99, "2", None])
def test_another_format_is_refused(version: Any) -> None:
    """It is not read as if it were the one that is known; the message tells which releases to use."""
    data = json.dumps({**backup.dump_plain(RECORD), "format": version}).encode()
    with pytest.raises(BackupDamaged, match=f"records/x.json has format {version}, and this release knows.*up to 1"):
        backup.load(BackupRecord, data, "records/x.json")


def changed(path: str, value: Any) -> bytes:
    """The stored record with one value replaced."""
    values = backup.dump_plain(RECORD)
    *folders, name = path.split(".")
    inner = values
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"not JSON",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"format": 1}',
        b'{"kind": "Deployment", "format": 1, "snapshot": {}}',
        backup.dump(RECORD)[:-1],
        backup.dump(RECORD)[:200],
        changed("start_lsn", 5),
        changed("start_lsn", None),
        changed("start_lsn", "16-B4000028"),
        changed("snapshot.lsn", ["16/B374D848"]),
        changed("started_at", "noon"),
        changed("parts", {}),
        changed("snapshot.cluster", "shop"),
        changed("snapshot.size", "much"),
    ],
)
def test_foreign_content_is_refused(data: bytes) -> None:
    """As damage that names the object, never as an error of a library."""
    with pytest.raises(BackupDamaged, match=r"records/x\.json cannot be read: .+\. Is it one of ours\?"):
        backup.load(BackupRecord, data, "records/x.json")


@given(st.binary() | PLAIN.map(lambda value: json.dumps(value).encode()))
def test_any_other_content_is_refused(data: bytes) -> None:
    """Whatever somebody may have put where a record should be."""
    with pytest.raises(BackupDamaged, match=r"records/x.json"):
        backup.load(BackupRecord, data, "records/x.json")


def test_values_that_are_new_in_a_release_may_be_missing() -> None:
    """What has a default need not be there, so records of the same format from before are still read."""
    values = backup.dump_plain(RECORD)
    del values["snapshot"]["warnings"], values["impact"]["pauses"]
    assert backup.load(BackupRecord, json.dumps(values).encode(), "x") == RECORD


# Quantiles


@pytest.mark.parametrize(
    ("values", "p50", "p95", "p99"),
    [
        ([0.5], 0.5, 0.5, 0.5),
        ([2.0, 1.0], 1.0, 2.0, 2.0),
        ([3.0, 1.0, 2.0], 2.0, 3.0, 3.0),
        ([float(n) for n in range(100, 0, -1)], 50.0, 95.0, 99.0),
        ([float(n) for n in range(1, 21)], 10.0, 19.0, 20.0),
        ([float(n) for n in range(1, 1001)], 500.0, 950.0, 990.0),
    ],
)
def test_quantiles_by_nearest_rank(values: list[float], p50: float, p95: float, p99: float) -> None:
    """The least value that at least that share of all values does not exceed."""
    assert Latency.of(values) == Latency(len(values), p50, p95, p99)


def test_no_samples_have_no_quantiles() -> None:
    """Not zero, which would be the best of all latencies."""
    assert Latency.of([]) == Latency(0, None, None, None)


@given(st.lists(SECONDS, min_size=1, max_size=300))
def test_quantiles_are_values_that_enough_others_do_not_exceed(values: list[float]) -> None:
    """By definition, and in order."""
    latency = Latency.of(values)
    for percent, quantile in ((50, latency.p50), (95, latency.p95), (99, latency.p99)):
        assert quantile in values
        assert sum(value <= quantile for value in values) >= ceil(percent * len(values) / 100)
        assert sum(value < quantile for value in values) < percent * len(values) / 100
    assert latency.samples == len(values)


def test_the_order_of_samples_does_not_matter() -> None:
    """And the list that is given stays as it is."""
    values = [3.0, 1.0, 2.0]
    assert Latency.of(values) == Latency.of([1.0, 2.0, 3.0])
    assert values == [3.0, 1.0, 2.0]


def test_records_are_values() -> None:
    """Equal content is an equal record, and a changed copy is another one."""
    assert replace(RECORD) == RECORD
    assert replace(RECORD, timeline=4) != RECORD
