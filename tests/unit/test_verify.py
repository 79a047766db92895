"""Verification of a tiny backup in memory: what is read, what is known from earlier, and what is found."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord, Cluster, Impact, Latency, Snapshot, StoredPart
from airflow_backup_guard.core.verification import Level, ObjectState, Verdict
from airflow_backup_guard.core.wal import LSN, segment_name
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import record_drill, verify
from airflow_backup_guard.errors import BackupStopped
from airflow_backup_guard.repository.codec import EncodingWriter
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.unit.test_wal_chain import SEGMENT, START, written

ID = "20240601T190000Z-00af"
NOON = datetime(2024, 6, 1, 12, tzinfo=timezone.utc)
WEEK = timedelta(days=7)
FILES = {"PG_VERSION": b"18\n", "global/pg_control": (1234).to_bytes(8, "little") + bytes(500)}


def archive() -> bytes:
    """A base archive with the fewest files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def manifest(end: LSN) -> bytes:
    """PostgreSQL's list of them."""
    files = [
        {
            "Path": name,
            "Size": len(data),
            "Checksum-Algorithm": "SHA256",
            "Checksum": hashlib.sha256(data).hexdigest(),
        }
        for name, data in FILES.items()
    ]
    ranges = [{"Timeline": 3, "Start-LSN": str(START), "End-LSN": str(end)}]
    body = json.dumps({"PostgreSQL-Backup-Manifest-Version": 1, "Files": files, "WAL-Ranges": ranges})[:-1] + ",\n"
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{body}"Manifest-Checksum": "{digest}"}}\n'.encode()


@pytest.fixture
def stored() -> tuple[MemoryRepository, BackupRecord]:
    """A repository, and the record of the one backup in it."""
    repository = MemoryRepository()
    writer = written([500] * 10)
    end = LSN(writer.lsn)
    segment = bytes(writer.data) + bytes(SEGMENT - len(writer.data))
    prefix = backup.parts_prefix("shop", ID)
    name = segment_name(3, START, SEGMENT)
    parts = []
    for kind, title, path, content in (
        ("archive", "base", "base.tar.zst", archive()),
        ("manifest", "backup_manifest", "backup_manifest.zst", manifest(end)),
        ("wal", name, f"wal/{name}.zst", segment),
        ("telemetry", "00001", "telemetry/00001.jsonl.zst", b"{}\n"),
    ):
        with EncodingWriter(repository.writer(prefix + path)) as encoding:
            encoding.write(content)
            done, size = encoding.commit()
        parts.append(StoredPart(kind, title, done.key, done.size, done.sha256, size))
    none = Latency(0)
    record = BackupRecord(
        format=1,
        snapshot=Snapshot(ID, {"name": "shop"}, Cluster("1234", 180006, 3, SEGMENT, True), START, NOON, 0, (), (), ()),
        tablespaces=(),
        timeline=3,
        start_lsn=START,
        end_lsn=end,
        started_at=NOON,
        checkpoint_seconds=0.0,
        ended_at=NOON,
        parts=tuple(parts),
        impact=Impact(none, none, none),
        written_by="a test",
    )
    repository.put(backup.record_key("shop", ID), backup.dump(record))
    return repository, record


def test_levels_are_reached_and_kept(stored: tuple[MemoryRepository, BackupRecord]) -> None:
    """Each reads what it needs; what is known stays known, and is not read again within its age."""
    repository, record = stored
    assert verify(record, repository, level=Level.STORED).level is Level.STORED
    assert verify(record, repository, level=Level.READABLE).level is Level.READABLE
    found = verify(record, repository)
    assert (found.level, found.problems, found.files) == (Level.CONSISTENT, [], 2)
    for level in (Level.STORED, Level.READABLE):
        assert verify(record, repository, level=level).level is Level.CONSISTENT
    assert verify(record, repository, max_age=WEEK).bytes_read == 0
    assert verify(record, repository).bytes_read == record.stored_size


def test_every_object_that_is_wrong_is_named(stored: tuple[MemoryRepository, BackupRecord]) -> None:
    """Within the age, too; and no other is."""
    repository, record = stored
    assert verify(record, repository).verdict is Verdict.VERIFIED
    for part in record.parts:
        content = repository.reader(part.key).read()
        for wrong, state in (
            (None, ObjectState.MISSING),
            (content[:-1], ObjectState.RESIZED),
            (content[:-1] + bytes([content[-1] ^ 1]), ObjectState.CHANGED),
        ):
            repository.delete(part.key)
            if wrong is not None:
                repository.put(part.key, wrong)
            found = verify(record, repository, max_age=WEEK)
            assert found.verdict is Verdict.DAMAGED
            assert {o.key: o.state for o in found.objects if o.state is not ObjectState.OK} == {part.key: state}
        repository.put(part.key, content)
        assert verify(record, repository, max_age=WEEK).verdict is Verdict.VERIFIED


def test_a_record_of_another_cluster_fails(stored: tuple[MemoryRepository, BackupRecord]) -> None:
    """What was known of the objects was known by the other record."""
    repository, record = stored
    assert verify(record, repository).verdict is Verdict.VERIFIED
    cluster = replace(record.snapshot.cluster, system_identifier="99")
    other = replace(record, snapshot=replace(record.snapshot, cluster=cluster))
    repository.put(backup.record_key("shop", ID), backup.dump(other))
    found = verify(other, repository, max_age=WEEK)
    assert found.problems == ["identity: system 99; not so: 1234"]


def test_a_stop_and_a_drill(stored: tuple[MemoryRepository, BackupRecord]) -> None:
    """One leaves what was known, the other adds to it."""
    repository, record = stored
    assert record_drill(record, repository, passed=True, detail="it ran", at=NOON).level is Level.RESTORED
    stop = Stop()
    with pytest.raises(BackupStopped, match="enough"):
        verify(record, repository, stop=stop, on_progress=lambda done, total: stop.request("enough"))
    assert verify(record, repository, level=Level.STORED).level is Level.RESTORED
