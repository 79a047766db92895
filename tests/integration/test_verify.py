"""Verification of real backups: its levels, what it does not read again, and what other checks would miss."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import boto3
import google_crc32c
import pyrage
import pytest
import zstandard
from moto.server import ThreadedMotoServer

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.check import CheckStatus
from airflow_backup_guard.core.page_checksums import PAGE_SIZE
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.core.verification import Level, ObjectState, Verdict, Verification
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import record_drill, verify
from airflow_backup_guard.errors import BackupDamaged, BackupStopped, InvalidPlan, RestoreRefused
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import open_decoded
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.s3 import S3Repository
from tests.integration.guarded import CopyInFlight, back_up, plan_for

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verification.md"
WEEK = timedelta(days=7)
NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, server: LocalServer, guard_dsn: str) -> tuple[Path, BackupRecord]:
    """A repository with one backup, of several segments of WAL."""
    folder = tmp_path_factory.mktemp("made") / "backups"
    plan = plan_for(folder, max_rate="30MB/s", min_rate="30MB/s")
    with CopyInFlight(plan, guard_dsn) as copying:
        for _ in range(3):
            server.sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 100000))")
            server.sql("SELECT pg_switch_wal()")
        copying.end()
    assert copying.record is not None, copying.error
    assert len(copying.record.parts_of("wal")) > 2
    return folder, copying.record


@pytest.fixture
def copied(made: tuple[Path, BackupRecord], tmp_path: Path) -> tuple[LocalRepository, BackupRecord]:
    """The same in a folder of the test's own."""
    shutil.copytree(made[0], tmp_path / "copied")
    return LocalRepository(tmp_path / "copied"), made[1]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Callable[[], S3Repository]]:
    """``bucket()``: a new repository behind a real S3 API."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    client = session.client("s3", endpoint_url=f"http://{host}:{port}")
    numbers = itertools.count()

    def make() -> S3Repository:
        name = f"backups-{next(numbers)}"
        client.create_bucket(Bucket=name)
        return S3Repository(client, name)

    yield make
    server.stop()


def content_of(repository: Repository, key: str) -> bytes:
    """An object's bytes as they are stored."""
    with repository.reader(key) as stored:
        return stored.read()


def flip(repository: Repository, key: str) -> None:
    """Put an object of the same size, with one other bit, in its place."""
    content = bytearray(content_of(repository, key))
    content[len(content) // 2] ^= 1
    repository.put(key, bytes(content))


def key_of(record: BackupRecord, kind: str) -> str:
    """The key of the first object of a kind."""
    return record.parts_of(kind)[0].key


def state_of(result: Verification, key: str) -> ObjectState:
    """The state of one object."""
    return next(found.state for found in result.objects if found.key == key)


def test_each_level_is_reached_and_none_is_lost(copied: tuple[LocalRepository, BackupRecord]) -> None:
    """A cheap look after a thorough one keeps what that one found; every level has its evidence."""
    repository, record = copied
    stored = verify(record, repository, level=Level.STORED)
    assert (stored.level, stored.verdict, stored.bytes_read) == (Level.STORED, Verdict.UNKNOWN, 0)
    readable = verify(record, repository, level=Level.READABLE)
    assert (readable.level, readable.verdict) == (Level.READABLE, Verdict.READABLE)
    assert readable.bytes_read == record.stored_size
    consistent = verify(record, repository)
    assert (consistent.level, consistent.verdict, consistent.problems) == (Level.CONSISTENT, Verdict.VERIFIED, [])
    details = {found.level: found.detail for found in consistent.evidence}
    assert f"{consistent.files} files" in details[Level.CONSISTENT]
    assert "pages have the right checksum" in details[Level.CONSISTENT]
    for level in (Level.STORED, Level.READABLE):
        again = verify(record, repository, level=level)
        assert (again.level, again.verdict) == (Level.CONSISTENT, Verdict.VERIFIED)
        assert again.read_at is not None and consistent.read_at is not None
        assert (again.read_at > consistent.read_at) is (level is Level.READABLE)
    assert catalog.last_verification(repository, record) == again


def test_what_was_read_lately_is_not_read_again_unless_it_changed(
    copied: tuple[LocalRepository, BackupRecord],
) -> None:
    """Nothing within the age; all of it without one, or beyond it; else what is new, and what that is held against."""
    repository, record = copied
    first = verify(record, repository, max_age=WEEK)
    assert first.bytes_read == record.stored_size
    again = verify(record, repository, max_age=WEEK)
    assert (again.bytes_read, again.verdict, again.files) == (0, Verdict.VERIFIED, first.files)
    assert again.read_at == first.read_at
    assert verify(record, repository, max_age=timedelta(0)).bytes_read == record.stored_size
    telemetry, base = record.parts_of("telemetry")[0], record.parts_of("archive")[0]
    repository.put(telemetry.key, content_of(repository, telemetry.key))
    assert verify(record, repository, max_age=WEEK).bytes_read == telemetry.size
    repository.put(base.key, content_of(repository, base.key))
    found = verify(record, repository, max_age=WEEK)
    assert found.bytes_read == base.size + record.parts_of("manifest")[0].size
    assert (found.verdict, found.problems) == (Verdict.VERIFIED, [])


def test_an_object_that_was_replaced_is_found_within_the_age(
    copied: tuple[LocalRepository, BackupRecord],
) -> None:
    """By one of the same size, even in place and with the old time of change; damage stays until it is put right."""
    repository, record = copied
    key = key_of(record, "wal")
    path = repository.root / key
    assert verify(record, repository).verdict is Verdict.VERIFIED
    right, status = path.read_bytes(), path.stat()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(bytes([right[100] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = verify(record, repository, max_age=WEEK)
    assert (found.verdict, state_of(found, key)) == (Verdict.DAMAGED, ObjectState.CHANGED)
    for level in Level.STORED, Level.READABLE, Level.CONSISTENT:
        assert state_of(verify(record, repository, level=level, max_age=WEEK), key) is ObjectState.CHANGED
    path.write_bytes(right)
    assert verify(record, repository, max_age=WEEK).verdict is Verdict.VERIFIED


def test_a_backup_whose_folder_was_deleted_is_found_without_reading(
    copied: tuple[LocalRepository, BackupRecord],
) -> None:
    """Its record alone makes no backup."""
    repository, record = copied
    assert verify(record, repository).verdict is Verdict.VERIFIED
    shutil.rmtree(repository.root / backup.parts_prefix("shop", record.backup_id))
    found = verify(record, repository, level=Level.STORED)
    assert (found.verdict, found.level, found.bytes_read) == (Verdict.DAMAGED, None, 0)
    assert {o.state for o in found.objects} == {ObjectState.MISSING}
    assert "nothing is left under backups/shop/" in found.problems[0]


def test_a_record_of_another_cluster_is_found(copied: tuple[LocalRepository, BackupRecord]) -> None:
    """By the identity that manifest, control file and WAL tell, also if it was verified before it was changed."""
    repository, record = copied
    assert verify(record, repository).verdict is Verdict.VERIFIED
    cluster = replace(record.snapshot.cluster, system_identifier="7412345678901234567")
    other = replace(record, snapshot=replace(record.snapshot, cluster=cluster))
    found = verify(other, repository, max_age=WEEK)
    assert found.verdict is Verdict.DAMAGED
    assert any(problem.startswith("record: records/shop/") for problem in found.problems)
    repository.put(backup.record_key("shop", record.backup_id), backup.dump(other))
    found = verify(other, repository, max_age=WEEK)
    assert [check.name for check in found.checks if check.status is CheckStatus.FAILED] == ["identity"]
    assert record.snapshot.cluster.system_identifier in found.problems[0]


def test_a_record_under_another_name_is_refused(copied: tuple[LocalRepository, BackupRecord]) -> None:
    """What somebody copied would count as a second backup, and is none."""
    repository, record = copied
    repository.put(backup.record_key("other", record.backup_id), backup.dump(record))
    with pytest.raises(BackupDamaged, match=r"records/other/.* is the record of backup .* of plan shop"):
        catalog.find(repository, "latest", "other")


def test_a_wal_segment_that_was_never_stored_is_named(copied: tuple[LocalRepository, BackupRecord]) -> None:
    """A record without it lists only objects that are there and right."""
    repository, record = copied
    gone = record.parts_of("wal")[1]
    holed = replace(record, parts=tuple(part for part in record.parts if part != gone))
    repository.put(backup.record_key("shop", record.backup_id), backup.dump(holed))
    found = verify(holed, repository)
    assert {o.state for o in found.objects} == {ObjectState.OK}
    assert found.level is None
    assert any(problem.startswith("WAL: ") and gone.name in problem for problem in found.problems)


def rewritten(
    repository: Repository, record: BackupRecord, changes: dict[str, Callable[[bytes], bytes]]
) -> BackupRecord:
    """The record after the content of objects, by kind, was changed and stored as if it had been so from the start."""
    parts = []
    for part in record.parts:
        if part.kind in changes:
            with open_decoded(repository, part.key) as content:
                data = changes.pop(part.kind)(content.read())
            stored = repository.put(part.key, zstandard.compress(data))
            part = replace(part, size=stored.size, sha256=stored.sha256, content_size=len(data))
        parts.append(part)
    other = replace(record, parts=tuple(parts))
    repository.put(backup.record_key("shop", record.backup_id), backup.dump(other))
    return other


def test_a_page_that_was_wrong_from_the_start_is_found(copied: tuple[LocalRepository, BackupRecord]) -> None:
    """Every digest is right, PostgreSQL's manifest included; only the page's own checksum is not."""
    repository, record = copied
    damaged: dict[str, Any] = {}

    def break_page(archive: bytes) -> bytes:
        header = archive.index(b"base/5/1259\0")
        start = header + 512 + PAGE_SIZE
        size = int(archive[header + 124 : header + 135], 8)
        changed = bytearray(archive)
        changed[start + 5000] ^= 1
        damaged["crc"] = google_crc32c.value(bytes(changed[header + 512 : header + 512 + size]))
        return bytes(changed)

    def tell_so(manifest: bytes) -> bytes:
        document = json.loads(manifest)
        entry = next(file for file in document["Files"] if file["Path"] == "base/5/1259")
        new = struct.pack("<I", damaged["crc"]).hex()
        body = manifest[: manifest.index(b'"Manifest-Checksum"')]
        line = next(line for line in body.splitlines() if b'"base/5/1259"' in line)
        body = body.replace(line, line.replace(entry["Checksum"].encode(), new.encode()))
        return body + b'"Manifest-Checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'

    first = rewritten(repository, record, {"archive": break_page})
    other = rewritten(repository, first, {"manifest": tell_so})
    found = verify(other, repository)
    assert found.verdict is Verdict.DAMAGED
    assert found.level is Level.READABLE
    (problem, check) = found.problems
    assert "base.tar.zst: inconsistent, base/5/1259 has a wrong page checksum in block 1" in problem
    assert check.startswith("page checksums: wrong in base/5/1259")


def test_wal_that_was_wrong_from_the_start_is_found(copied: tuple[LocalRepository, BackupRecord]) -> None:
    """Every digest is right; only a record's own CRC is not."""
    repository, record = copied

    def break_record(segment: bytes) -> bytes:
        at = segment.index(b"xxxxxxxxxxxxxxxx", record.start_lsn % (16 << 20))
        return segment[:at] + b"y" + segment[at + 1 :]

    found = verify(rewritten(repository, record, {"wal": break_record}), repository)
    assert found.verdict is Verdict.DAMAGED
    assert any("does not have the CRC" in problem and "/wal/" in problem for problem in found.problems)


def test_an_encrypted_backup_reaches_readable_and_keeps_what_an_identity_found(guard_dsn: str, tmp_path: Path) -> None:
    """Workers hold no key; once somebody with the key has looked, equal digests prove as much without it."""
    identity = pyrage.x25519.Identity.generate()
    plan = plan_for(tmp_path / "backups", recipients=[str(identity.to_public())])
    repository = open_repository(plan.repository)
    record = back_up(plan, guard_dsn)
    locked = verify(record, repository)
    assert (locked.verdict, locked.level) == (Verdict.READABLE, Level.READABLE)
    assert "no identity was given" in locked.evidence[2].detail
    assert verify(record, repository, max_age=WEEK).bytes_read == 0
    opened = verify(record, repository, max_age=WEEK, identities=[str(identity)])
    assert (opened.level, opened.bytes_read) == (Level.CONSISTENT, record.stored_size)
    with pytest.raises(RestoreRefused, match="none of the 1 identities given opens it"):
        verify(record, repository, identities=[str(pyrage.x25519.Identity.generate())])
    assert catalog.last_verification(repository, record) == opened, "a wrong key says nothing of the backup"
    assert verify(record, repository).level is Level.CONSISTENT
    flip(repository, key_of(record, "archive"))
    assert verify(record, repository).verdict is Verdict.DAMAGED


def test_a_drill_is_recorded_and_stays(copied: tuple[LocalRepository, BackupRecord]) -> None:
    """Beside what was read, and through verifications that follow."""
    repository, record = copied
    first = record_drill(record, repository, passed=True, detail="PostgreSQL 18 ran on it", at=NOON)
    assert first.level is Level.RESTORED
    for level in (Level.CONSISTENT, Level.STORED):
        assert verify(record, repository, level=level).level is Level.RESTORED
    flip(repository, key_of(record, "manifest"))
    assert verify(record, repository).level is Level.STORED


def test_s3_tells_what_was_replaced_without_reading(
    copied: tuple[LocalRepository, BackupRecord], bucket: Callable[[], S3Repository]
) -> None:
    """It keeps a SHA-256 of every object that was sent in one piece."""
    local, record = copied
    repository = bucket()
    for info in local.list(""):
        repository.put(info.key, content_of(local, info.key))
    sound = verify(record, repository, level=Level.STORED)
    assert sound.bytes_read == 0
    assert f"of {len(record.parts)} the repository's own SHA-256 agrees" in sound.evidence[0].detail
    assert verify(record, repository).verdict is Verdict.VERIFIED
    key = key_of(record, "archive")
    flip(repository, key)
    found = verify(record, repository, level=Level.STORED)
    assert (found.verdict, state_of(found, key), found.bytes_read) == (Verdict.DAMAGED, ObjectState.CHANGED, 0)
    repository.delete(key)
    assert state_of(verify(record, repository, max_age=WEEK), key) is ObjectState.MISSING


def test_reading_keeps_to_a_rate_and_to_a_stop(copied: tuple[LocalRepository, BackupRecord]) -> None:
    """The rate holds for all readers together; what is stopped stores nothing, and what was known stays."""
    repository, record = copied
    began = time.monotonic()
    verify(record, repository, level=Level.READABLE, max_rate=Rate(record.stored_size))
    # Half a megabyte is what each reader may be ahead.
    assert time.monotonic() - began > 1 - 4 * (1 << 19) / record.stored_size - 0.1
    known = catalog.last_verification(repository, record)
    stop = Stop()
    began = time.monotonic()
    with pytest.raises(BackupStopped, match="enough"):
        verify(
            record,
            repository,
            max_rate=Rate.parse("100kB/s"),
            stop=stop,
            on_progress=lambda done, total: stop.request("enough"),
        )
    assert time.monotonic() - began < 10
    assert catalog.last_verification(repository, record) == known


class Told:
    """What a task tells Airflow."""

    def __init__(self) -> None:
        self.pushed: dict[str, str] = {}

    def xcom_push(self, key: str, value: str) -> None:
        """As a task instance's."""
        self.pushed[key] = value


def test_the_operator_fails_unless_its_level_is_reached(copied: tuple[LocalRepository, BackupRecord]) -> None:
    """It returns the level; damage is not retried, and its reason goes to the report; what was read lately is known."""
    from airflow.sdk.exceptions import AirflowFailException
    from airflow.sdk.execution_time.context import OutletEventAccessors

    from airflow_backup_guard.operators import BackupVerifyOperator

    repository, record = copied
    told = Told()
    plan = plan_for(repository.root)

    def run(operator: BackupVerifyOperator) -> dict[str, Any]:
        context: Any = {"ti": told, "task": operator, "outlet_events": OutletEventAccessors()}
        return cast("dict[str, Any]", operator.execute(context))

    stored = run(BackupVerifyOperator(task_id="stored", plan=plan, level="stored"))
    assert (stored["level"], stored["bytes_read"]) == ("stored", 0)
    operator = BackupVerifyOperator(task_id="verify", plan=plan, backup=record.backup_id, max_rate="1GB/s")
    assert (run(operator)["level"], told.pushed) == ("consistent", {})
    assert run(operator)["bytes_read"] == 0
    full = BackupVerifyOperator(task_id="full", plan=plan, full=True, level="readable")
    assert run(full)["bytes_read"] == record.stored_size
    flip(repository, key_of(record, "manifest"))
    with pytest.raises(AirflowFailException, match=r"is damaged: .*backup_manifest\.zst: changed"):
        run(operator)
    assert "backup_manifest.zst" in told.pushed["problem"]
    for wrong in ({"level": "restored"}, {"max_age": "7"}, {"max_rate": "fast"}):
        with pytest.raises(InvalidPlan, match=next(iter(wrong))):
            BackupVerifyOperator(task_id="wrong", plan=plan, **wrong)


def words(text: str) -> list[str]:
    """What is said, without numbers and ids."""
    return re.findall(r"[A-Za-z]{3,}", re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{4}", "", text))


def test_the_page_is_true(
    copied: tuple[LocalRepository, BackupRecord], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its commands run, say what it shows, and its operator takes what it is given."""
    from airflow_backup_guard.operators import BackupVerifyOperator

    repository, _ = copied
    monkeypatch.setenv("BACKUP_GUARD_REPOSITORY", repository.url)
    monkeypatch.setenv("COLUMNS", "200")
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    commands, said, operator = (code for _, code in blocks)
    outputs = []
    for line in commands.splitlines():
        assert main(shlex.split(line)[1:]) == 0
        outputs.append(capsys.readouterr().out)
    shown, real = words(said), words(outputs[0])
    assert shown == real[: len(shown)]
    assert "consistent" in outputs[-1]
    names = {
        "BackupVerifyOperator": BackupVerifyOperator,
        "plan": plan_for(repository.root),
        "copy": type("Copy", (), {"output": "latest"}),
    }
    exec(operator, names)
    assert names["verify"].max_age == timedelta(days=30)  # type: ignore[attr-defined]
    for level in Level:
        assert f"| `{level.value}` |" in page
    for state in ("missing", "resized", "changed", "inconsistent"):
        assert f"`{ObjectState(state).value}`" in page
