"""Whatever else is read that others may have written: it is understood or refused, in bounded time and memory."""

from __future__ import annotations

import argparse
import contextlib
import json
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pyrage
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_backup_guard.cli.settings import plan as plan_of_arguments
from airflow_backup_guard.core import BackupPlan, backup
from airflow_backup_guard.core.alert_log import Delivery
from airflow_backup_guard.core.audit.chain import verify_chain
from airflow_backup_guard.core.audit.document import PlanAudit
from airflow_backup_guard.core.backup import Attempt, BackupRecord
from airflow_backup_guard.core.catalog import Memory
from airflow_backup_guard.core.command import CommandReceipt
from airflow_backup_guard.core.control import Action, Order, Orders, orders_prefix
from airflow_backup_guard.core.drill import DrillResult
from airflow_backup_guard.core.expiry import Expiring
from airflow_backup_guard.core.holds import Hold
from airflow_backup_guard.core.manifest import parse_manifest
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.core.verification import Verification
from airflow_backup_guard.engine import control, ical
from airflow_backup_guard.engine.ical import read_source
from airflow_backup_guard.engine.response import Evidence, Outcome
from airflow_backup_guard.engine.wal_chain import WalBroken, WalChain
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, SourceUnavailable
from airflow_backup_guard.postgres.base_backup import BaseBackup, Message
from airflow_backup_guard.repository.codec import open_decoded
from airflow_backup_guard.repository.memory import MemoryRepository
from airflow_backup_guard.repository.read import read_lines
from tests.security.conftest import FUZZ
from tests.security.hostile import NOW, changed, mutated, sealed
from tests.stored import snapshot_at
from tests.unit.test_base_backup import Server

KINDS = [
    *[Attempt, BackupRecord, CommandReceipt, Delivery, DrillResult, Evidence, Expiring, Hold, Memory, Order, Outcome],
    *[PlanAudit, Verification],
]
DEEP = b"[" * 100_000
SECONDS = 30  # far more than anything here takes, on a machine that is busy


# JSON


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        DEEP,
        b'{"a":' * 100_000,
        b'{"format": 1e999}',
        b'{"format": NaN}',
        b"\xff",
        b'"\\ud800"',
    ],
    ids=lambda data: repr(data[:12]),
)
def test_a_document_that_is_none_of_ours_is_refused(kind: type[Any], data: bytes) -> None:
    """Every kind of document that we store, as damaged, with the name of the object."""
    with pytest.raises(BackupDamaged, match="the object"):
        backup.load(kind, data, "the object")


def test_a_manifest_of_endless_depth_is_refused() -> None:
    """Its checksum is right, as an attacker can compute it."""
    with pytest.raises(BackupDamaged, match="cannot be read"):
        parse_manifest(sealed({"Files": []}).replace(b"[]", DEEP))


@given(st.sampled_from(KINDS), changed({"format": 1, "action": "limit", "max_rate": "1MB/s", "by": "x", "plan": {}}))
@FUZZ
def test_documents_of_any_shape(kind: type[Any], document: Any) -> None:
    """They are read, or damaged; nothing else happens."""
    with contextlib.suppress(BackupDamaged):
        backup.load(kind, json.dumps(document).encode(), "the object")


ORDER = json.loads(backup.dump(Order(1, Action.LIMIT, "alice", "launch", NOW, "20MB/s")))


@given(st.lists(changed(ORDER).map(lambda order: json.dumps(order).encode()) | mutated(json.dumps(ORDER).encode())))
@FUZZ
def test_hostile_orders(orders: list[bytes]) -> None:
    """A copy obeys those that are orders, ignores the others, and can say in one printable line what it obeys."""
    repository, snapshot = MemoryRepository(), snapshot_at(NOW)
    for number, order in enumerate(orders):
        repository.put(f"{orders_prefix('shop', snapshot.backup_id)}{number:06}.json", order)
    found = control.orders_to(repository, snapshot)
    assert isinstance(found, Orders)
    for given_order in (found.pause, found.limit, found.stop):
        assert given_order is None or str(given_order).isprintable()


@given(mutated(b'{"time": 1, "rate": 2.5}\n{"time": 2, "rate": 3}\n'))
@FUZZ
def test_hostile_telemetry(lines: bytes) -> None:
    """Documents, or damage."""
    repository = MemoryRepository()
    repository.put("t.zst", zstandard.compress(lines))
    with suppress(BackupDamaged):
        assert all(isinstance(line, dict) for line in read_lines(repository, "t.zst"))


def test_an_audit_by_a_number_out_of_reach_is_told_at_once() -> None:
    """Whoever put it there does not make the proof of the chain last for ever; what is missing before it is told."""
    began = time.monotonic()
    result = verify_chain("shop", {f"{'9' * 100}.json": b"{}"})
    assert "were removed" in result.problems[0]
    assert "cannot be read" in result.problems[1] and len(result.problems) == 2
    assert time.monotonic() - began < SECONDS


# Plans

PLAN = {
    "name": "shop",
    "connection": "shop",
    "repository": "file:///srv/backups",
    "calendar": {"windows": "Mon-Fri 01:00-05:00", "tz": "UTC", "blackouts": ["2026-12-24/2027-01-02"]},
    "limits": {"commit_latency": ["25ms", "100ms"], "wal_rate": "40MB/s"},
    "max_rate": "50MB/s",
    "rpo": "26h",
    "retention": {"keep_daily": 7},
    "recipients": [],
    "watchdog": {"policy": "terminate", "grace": "2min", "allow": [{"user": "x", "client": "10.0.0.0/8"}]},
    "drill": {"timeout": "1h"},
    "alerts": {},
}


@given(changed(PLAN))
@FUZZ
def test_hostile_plans(values: Any) -> None:
    """A plan from a record or a file is a plan, or is refused with the field's name."""
    try:
        plan = BackupPlan.from_dict(values)
    except BackupGuardError:
        return
    assert BackupPlan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize("text", [b"a = " + DEEP, b"a = 1e999", b"\xff", b"name = 1979-05-27", b"[name]\n[name]"])
def test_hostile_plan_files(text: bytes, tmp_path: Path) -> None:
    """They are refused by name, however deep."""
    path = tmp_path / "plan.toml"
    path.write_bytes(text)
    with pytest.raises(BackupGuardError):
        plan_of_arguments(argparse.Namespace(plan=path))


# zstd and age


def frame(window: int, *blocks: bytes) -> bytes:
    """A frame that asks for a window of 2^``window`` bytes, without a checksum."""
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(window - 10) << 3]) + b"".join(blocks)


def run(length: int, *, last: bool) -> bytes:
    """A block of so many zeros, in four bytes."""
    return (length << 3 | 1 << 1 | last).to_bytes(3, "little") + b"\0"


BOMB = frame(20, *[run(1 << 17, last=False)] * 80_000, run(1 << 17, last=True))
"""Ten GB of zeros."""


def decoded(stored: bytes, key: str = "x.zst", identities: tuple[str, ...] = (), most: int | None = None) -> int:
    """How many bytes an object holds, read in pieces."""
    repository = MemoryRepository()
    repository.put(key, stored)
    with open_decoded(repository, key, identities, most=most) as content:
        return sum(len(piece) for piece in iter(lambda: content.read(1 << 16), b""))


def test_a_frame_that_asks_for_much_memory_is_refused() -> None:
    """More than the 8 MiB that our highest level takes; those of all our levels are read."""
    assert decoded(frame(23, run(100, last=True))) == 100
    for window in (24, 27, 31, 41):
        with pytest.raises(BackupDamaged, match="cannot be decoded"):
            decoded(frame(window, run(100, last=True)))
    assert decoded(zstandard.compress(b"x" * 9_000_000, 19)) == 9_000_000


def test_a_bomb_is_left_as_soon_as_it_holds_more_than_was_written() -> None:
    """Ten GB in 320 kB take no memory, and no time, where the record says how much there must be."""
    began = time.monotonic()
    with pytest.raises(BackupDamaged, match="holds more than was written"):
        decoded(BOMB, most=1_000_000)
    assert time.monotonic() - began < SECONDS


MEASURE = """
import resource, sys
from airflow_backup_guard.errors import BackupDamaged
from airflow_backup_guard.repository import read
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.security.test_hostile_input import BOMB
from tests.unit.test_base_backup import Server
repository = MemoryRepository()
repository.put("t.zst", BOMB)
read.LARGEST = 20 << 20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read.read_lines(repository, "t.zst")
except BackupDamaged:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_a_bomb_among_small_objects_takes_bounded_memory() -> None:
    """With a bound of 20 MiB less than 60, of ten GB."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 60


@given(mutated(zstandard.compress(b"some words, " * 3000)))
@FUZZ
def test_mutated_frames(stored: bytes) -> None:
    """They are damage, or what is said to be there; nothing else happens."""
    with suppress(BackupDamaged):
        assert decoded(stored, most=1 << 20) <= 1 << 20


IDENTITY = pyrage.x25519.Identity.generate()
ENCRYPTED = pyrage.encrypt(zstandard.compress(b"some words, " * 9000), [IDENTITY.to_public()])


@given(mutated(ENCRYPTED) | mutated(ENCRYPTED[:250]).map(lambda header: header + ENCRYPTED[250:]))
@FUZZ
def test_mutated_encrypted_objects(stored: bytes) -> None:
    """Header or content changed: it is refused, and no thread of it hangs."""
    if stored == ENCRYPTED:
        return
    with pytest.raises(BackupGuardError):
        decoded(stored, "x.zst.age", (str(IDENTITY),), most=1 << 20)


@pytest.mark.parametrize(
    "header",
    [
        b"age-encryption.org/v1\n" + b"-> X25519 " + b"A" * 5_000_000,
        b"age-encryption.org/v1\n" + b"-> x y\nAAAA\n" * 500_000,
        b"age-encryption.org/v1\n" + b"-> x " + b"y " * 3_000_000,
        b"x" * 5_000_000,
    ],
    ids=["long line", "many recipients", "many arguments", "none"],
)
def test_a_header_of_age_that_does_not_end_is_refused(header: bytes) -> None:
    """At once: what reads it takes a time that grows with the square of its length."""
    began = time.monotonic()
    with pytest.raises(BackupDamaged, match="header"):
        decoded(header, "x.zst.age", (str(IDENTITY),))
    assert time.monotonic() - began < SECONDS


def test_a_key_for_many_is_read() -> None:
    """A hundred recipients are no attack."""
    keys = [pyrage.x25519.Identity.generate().to_public() for _ in range(99)]
    stored = pyrage.encrypt(zstandard.compress(b"some words"), [*keys, IDENTITY.to_public()])
    assert decoded(stored, "x.zst.age", (str(IDENTITY),)) == 10


# WAL


@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(0, 1 << 32))
@FUZZ
def test_hostile_wal(pages: list[bytes], length: int) -> None:
    """Pages with any header and records of any claimed length: the chain is broken, or there is nothing to say."""
    chain = WalChain(18, 1, backup.LSN(1 << 24), backup.LSN((1 << 24) + 8192 * len(pages)), 1 << 24)
    address = 1 << 24
    try:
        for page in pages:
            header = struct.pack("<HHIQI", 0xD118, 0, 1, address, 0).ljust(24, b"\0")
            record = struct.pack("<IIQBB2xI", length & 0xFFFFFFFF, 0, 0, 0, 0, 0)
            chain.feed(address, (header + page[: len(page) // 2] + record + page).ljust(8192, b"\0"))
            address += 8192
        chain.finish()
    except WalBroken:
        pass


# The stream of a server


@pytest.mark.parametrize(
    "name", [b"../../records/shop/x", b"wal/000000010000000000000001", b"16386.tar", b"/x", b"", b"\xff", b"base.tar"]
)
def test_an_archive_that_the_server_made_up_is_refused(name: bytes) -> None:
    """Its name would become one in the repository; those of the base and of the tablespaces are taken, each once."""
    server = Server(b"nbase.tar\0\0", b"n16385.tar\0/srv/fast\0", b"n" + name + b"\0\0")
    given = {"label": "label", "checkpoint": "fast", "max_rate": Rate(1 << 20), "keep_going": lambda: None}
    stream = BaseBackup(cast("Any", server), **cast("Any", given))
    assert [cast("Message", stream.read(1)).name for _ in range(2)] == ["base.tar", "16385.tar"]
    with pytest.raises(SourceUnavailable, match="none of its own"):
        stream.read(1)


# Calendars

EVENT = b"""BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:x\r
BEGIN:VEVENT\r
UID:1\r
DTSTART:20260102T030405Z\r
DURATION:PT1H\r
RRULE:FREQ=WEEKLY;BYDAY=MO,TU;INTERVAL=2\r
SUMMARY:a launch\r
END:VEVENT\r
END:VCALENDAR\r
"""
DAY = datetime(2026, 1, 2, tzinfo=timezone.utc)


def read_calendar(text: bytes) -> str:
    """Why it cannot be read, or nothing."""
    with tempfile.NamedTemporaryFile(suffix=".ics") as file:
        file.write(text)
        file.flush()
        return read_source(Path(file.name).as_uri(), DAY, DAY + timedelta(days=60), "UTC").problem


def test_the_calendar_that_is_changed_here_can_be_read() -> None:
    """So that the tests below do not refuse it for another reason."""
    assert read_calendar(EVENT) == ""


@given(mutated(EVENT))
@example(EVENT.replace(b"VCALENDAR", b"\x1b[31mCALENDAR"))
@FUZZ
def test_mutated_calendars(text: bytes) -> None:
    """It is read, or one printable line says why not."""
    assert read_calendar(text).isprintable()


@pytest.mark.parametrize(
    "line",
    [
        "RRULE:FREQ=SECONDLY",
        "RRULE:FREQ=HOURLY;COUNT=100000000",
        "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "RRULE:FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "RRULE:FREQ=DAILY;BYHOUR=0,1,2,3,4,5,6,7;BYMINUTE=0,1,2,3,4,5,6,7,8,9;BYSECOND=0,1,2,3,4,5,6,7,8,9",
        "RRULE:FREQ=DAILY;INTERVAL=0",
        "RDATE:" + ",".join(["20260102T030405Z"] * 100_000),
        "DURATION:P99999999999W",
    ],
)
@pytest.mark.parametrize("start", ["20260102T030405Z", "00010102T030405Z"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ended where Python passes over it
def test_calendars_that_repeat_for_ever(line: str, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules without end, and rules that never match: it is read or refused soon, and no thread of it goes on."""
    monkeypatch.setattr(ical, "_PATIENCE", 0.5)
    text = EVENT.replace(b"RRULE:FREQ=WEEKLY;BYDAY=MO,TU;INTERVAL=2", line.encode())
    began = time.monotonic()
    read_calendar(text.replace(b"20260102T030405Z", start.encode(), 1))
    assert time.monotonic() - began < SECONDS
    assert "ical" not in [thread.name for thread in threading.enumerate()]
