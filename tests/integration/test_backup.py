"""Backups of real clusters: complete, verified, restored, on every major version."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pendulum
import psycopg
import pyrage
import pytest

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.core.pace import PaceState
from airflow_backup_guard.core.verification import ObjectState, Verdict
from airflow_backup_guard.engine import catalog, wal
from airflow_backup_guard.engine.attempt import close_attempt
from airflow_backup_guard.engine.copy import Progress, copy
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import (
    BackupStopped,
    BudgetSpent,
    ObjectMissing,
    PreflightFailed,
    PreflightNotYet,
    RepositoryUnavailable,
    RestoreRefused,
    SourceBusy,
    SourceUnavailable,
)
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.replication import ReplicationConnection
from airflow_backup_guard.postgres.server import LocalServer, available_majors
from airflow_backup_guard.repository import open_repository
from tests.integration.guarded import CopyInFlight, assert_nothing_left, back_up, plan_for, slots, wait_until

RoleDsn = Callable[..., str]


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    """A plan that copies as fast as it can."""
    return plan_for(tmp_path / "backups")


@pytest.fixture
def slow_plan(tmp_path: Path) -> BackupPlan:
    """A plan whose copy of an empty cluster takes some ten seconds, so that things can happen to it."""
    return plan_for(tmp_path / "backups", max_rate="2MB/s", min_rate="2MB/s")


def test_a_busy_cluster_with_tablespaces_is_backed_up_verified_and_restored(
    any_server: LocalServer, role_dsn: RoleDsn, plan: BackupPlan, cluster_folder: Path
) -> None:
    """All that was committed before the snapshot is there after a restore; PostgreSQL's own check agrees."""
    spaces = []
    for number in (1, 2):
        space = cluster_folder / f"space {number}"
        space.mkdir()
        account_for(any_server.data_directory).own(space)
        spaces.append(space)
        any_server.sql(f"CREATE TABLESPACE \"odd 'n {number}\" LOCATION '{space}'")
    try:
        any_server.sql(
            "CREATE TABLE plain AS SELECT n FROM generate_series(1, 5000) n;"
            'CREATE TABLE spaced TABLESPACE "odd \'n 1" AS SELECT n FROM generate_series(1, 7000) n;'
        )
        with CopyInFlight(plan, role_dsn(any_server)) as copying:
            any_server.sql("CREATE TABLE late AS SELECT n FROM generate_series(1, 100000) n")
            copying.end()
        assert copying.error is None
        record = copying.record
        assert record is not None
        repository = open_repository(plan.repository)
        assert [found.backup_id for found in catalog.backups(repository)] == [record.backup_id]
        assert list(repository.list("attempts/")) == []
        result = verify(record, repository)
        assert result.verdict is Verdict.VERIFIED, result.problems
        assert catalog.last_verification(repository, record) == result
        assert result.files > 900
        mapping = {str(space): cluster_folder / f"restored {space.name}" for space in spaces}
        restore(record, repository, cluster_folder / "data", tablespaces=mapping)
        with LocalServer(cluster_folder / "data") as restored:
            assert restored.sql("SELECT count(*) FROM plain") == "5000"
            assert restored.sql("SELECT count(*) FROM spaced") == "7000"
            assert restored.sql(
                "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname LIKE 'odd%1'"
            ) == str(mapping[str(spaces[0])])
    finally:
        any_server.sql("DROP TABLE IF EXISTS plain, spaced, late")
        for number in (1, 2):
            any_server.sql(f'DROP TABLESPACE "odd \'n {number}"')


def test_postgresqls_own_check_accepts_a_restored_backup(
    any_server: LocalServer, role_dsn: RoleDsn, plan: BackupPlan, cluster_folder: Path
) -> None:
    """pg_verifybackup of the same major version agrees, its parse of the WAL included."""
    record = back_up(plan, role_dsn(any_server))
    restore(record, open_repository(plan.repository), cluster_folder / "data")
    account = account_for(any_server.data_directory)
    for path in (cluster_folder / "data").rglob("*"):
        account.own(path)
    account.own(cluster_folder / "data")
    assert "successfully verified" in any_server.run("pg_verifybackup", str(cluster_folder / "data")).stdout


def test_a_stopped_copy_leaves_nothing(server: LocalServer, guard_dsn: str, slow_plan: BackupPlan) -> None:
    """The stop is obeyed within what Airflow grants; no session, slot or stored byte is left; the attempt says why."""
    with CopyInFlight(slow_plan, guard_dsn) as copying:
        began = time.monotonic()
        copying.stop.request("an operator pressed the button")
        copying.end()
        assert time.monotonic() - began < 5  # what Airflow grants between SIGTERM and SIGKILL
    assert isinstance(copying.error, BackupStopped)
    assert_nothing_left(server, copying.repository, wait_until)
    (attempt,) = copying.repository.list("attempts/")
    assert b"an operator pressed the button" in copying.repository.reader(attempt.key).read()


WRITE_WAL = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 16000000))"
CUT = "SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_replication WHERE state IN ('catchup', 'streaming')"
HOLDER = "SELECT active_pid FROM pg_replication_slots"


@pytest.mark.parametrize("victim", ["SELECT pid FROM pg_stat_replication WHERE state = 'backup'", HOLDER])
def test_a_cut_connection_fails_the_copy_and_leaves_nothing(
    server: LocalServer, guard_dsn: str, slow_plan: BackupPlan, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base backup or slot, the error is one that a retry can mend, which then succeeds."""
    monkeypatch.setattr(wal, "_ROUND_SECONDS", 0.5)
    with CopyInFlight(slow_plan, guard_dsn) as copying:
        assert server.sql(f"SELECT pg_terminate_backend(({victim}))") == "t"
        copying.end()
    assert isinstance(copying.error, SourceUnavailable)
    assert copying.error.retryable
    assert_nothing_left(server, copying.repository, wait_until)
    fast = plan_for(Path(copying.plan.repository.removeprefix("file://")))
    assert verify(back_up(fast, guard_dsn), copying.repository).verdict is Verdict.VERIFIED


def last_wal_sender(dsn: str) -> ReplicationConnection:
    """Take the one that a copy has between two rounds of fetching WAL."""
    while True:
        with suppress(SourceBusy):
            return ReplicationConnection(dsn, "others")


def test_wal_that_cannot_be_fetched_for_a_while_is_not_lost(
    new_server: Callable[..., LocalServer],
    role_dsn: RoleDsn,
    slow_plan: BackupPlan,
    cluster_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sessions that fetch it are cut, and others take all WAL senders, while the server writes and recycles WAL."""
    monkeypatch.setattr(wal, "_ROUND_SECONDS", 0.2)
    server = new_server(settings={"max_wal_senders": "2", "max_wal_size": "32MB", "min_wal_size": "32MB"})
    dsn = role_dsn(server)
    with CopyInFlight(slow_plan, dsn) as copying:
        # Once it is committed, so that it is flushed; a round takes a second for so much.
        wait_until(lambda: server.sql(WRITE_WAL) is not None and server.sql(CUT) == "t", 30)
        other = last_wal_sender(dsn)
        for _ in range(4):
            server.sql(f"{WRITE_WAL}; CHECKPOINT")
        server.sql("CREATE TABLE late AS SELECT 1 AS n")
        other.close()
        copying.end()
    assert copying.record is not None, copying.error
    assert verify(copying.record, copying.repository).verdict is Verdict.VERIFIED
    restore(copying.record, copying.repository, cluster_folder / "data")
    with LocalServer(cluster_folder / "data") as restored:
        assert restored.sql("SELECT n FROM late") == "1"


def test_a_copy_that_keeps_too_much_wal_ends(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the database comes first: the reason is told, and the server may recycle its WAL again."""
    monkeypatch.setattr(wal, "_ROUND_SECONDS", 0.2)
    server = new_server(settings={"max_wal_senders": "2"})
    dsn = role_dsn(server)
    plan = plan_for(tmp_path / "backups", max_rate="1MB/s", min_rate="1MB/s", max_retained_wal="64MB")
    with CopyInFlight(plan, dsn) as copying:
        other = last_wal_sender(dsn)
        for _ in range(6):
            server.sql(f"{WRITE_WAL}; CHECKPOINT")
        copying.end(10)
        other.close()
    assert isinstance(copying.error, BudgetSpent)
    assert "max_retained_wal" in str(copying.error)
    assert_nothing_left(server, copying.repository, wait_until)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the system does not tell how slow a connection is")
def test_little_is_read_ahead(guard_dsn: str) -> None:
    """What a slow copy makes the server send in vain is bounded; where a fast one needs more, the kernel decides."""

    def receive_buffers(rate: float) -> list[int]:
        with (
            closing(ReplicationConnection(guard_dsn, "test")) as connection,
            socket.socket(fileno=os.dup(connection._pgconn.socket)) as connected,
        ):
            before = connected.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            connection.read_ahead_little(rate)
            return [before, connected.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)]

    # Linux doubles it, for its own book-keeping; and it grows no more once it was set.
    assert receive_buffers(1e6)[1] == 2 << 17
    before, after = receive_buffers(1e15)
    assert before == after


def test_two_copies_of_one_cluster_never_run_at_once(
    server: LocalServer, guard_dsn: str, slow_plan: BackupPlan, tmp_path: Path
) -> None:
    """The second is refused at its snapshot, and at its copy if its snapshot came first, whatever its repository."""
    other_plan = plan_for(tmp_path / "elsewhere", name="other")
    earlier = take_snapshot(other_plan, guard_dsn, open_repository(other_plan.repository))
    with CopyInFlight(slow_plan, guard_dsn):
        with pytest.raises(PreflightNotYet, match="Another guarded backup of this cluster is running"):
            take_snapshot(other_plan, guard_dsn, open_repository(other_plan.repository))
        with pytest.raises(SourceBusy, match="Another guarded backup of this cluster is running"):
            copy(other_plan, earlier, guard_dsn, open_repository(other_plan.repository), stop=Stop())


def test_critical_load_pauses_the_copy_and_low_load_resumes_it(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """Commits that hang are critical while they hang: the copy pauses, trickles on, and resumes when they flow."""
    server = new_server()
    server.sql("CREATE TABLE filler AS SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n")
    plan = plan_for(tmp_path / "backups", max_rate="10MB/s", min_rate="200kB/s")
    with CopyInFlight(plan, role_dsn(server)) as copying:
        wait_until(lambda: copying.last is not None and copying.last.pace.rate > plan.min_rate, 90)
        # Commits now wait for a standby that does not exist.
        server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()")
        wait_until(lambda: copying.last is not None and copying.last.pace.state is PaceState.PAUSED, 90)
        paused_at = copying.last.done if copying.last else 0
        wait_until(lambda: copying.last is not None and copying.last.done > paused_at, 90)
        server.sql("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")
        wait_until(lambda: copying.last is not None and copying.last.pace.state is not PaceState.PAUSED, 90)
        copying.end(300)  # on a machine that is busy the law reads slowly, and rightly so
    assert copying.record is not None, copying.error
    pauses = copying.record.impact.pauses
    assert len(pauses) >= 1
    assert "commit latency" in pauses[0].reason
    assert copying.record.impact.seconds_paused > 0


def test_a_load_that_cannot_be_measured_slows_the_copy_to_its_floor(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """Without a probe the load is unknown, and unknown is not quiet; the reason is said."""
    server = new_server()
    server.sql("CREATE TABLE filler AS SELECT n, repeat('x', 500) FROM generate_series(1, 100000) n")
    plan = plan_for(tmp_path / "backups", max_rate="10MB/s", min_rate="200kB/s")
    ending = threading.Event()

    def kill_probes() -> None:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            while not ending.wait(0.02):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'backup_guard' AND backend_type = 'client backend'"
                )

    killer = threading.Thread(target=kill_probes, daemon=True)
    with CopyInFlight(plan, role_dsn(server)) as copying:
        wait_until(lambda: copying.last is not None and copying.last.pace.rate > plan.min_rate, 90)
        killer.start()
        wait_until(lambda: copying.last is not None and copying.last.pace.rate == plan.min_rate, 90)
        assert copying.last is not None
        assert "unknown" in copying.last.pace.reason
        ending.set()
        killer.join()
        wait_until(lambda: copying.last is not None and copying.last.pace.rate > plan.min_rate, 90)
        copying.stop.request("seen enough")
        copying.end()


def test_what_a_dead_copy_left_is_swept_by_the_next(server: LocalServer, guard_dsn: str, plan: BackupPlan) -> None:
    """Parts of an attempt whose worker died are gone after the next backup; a snapshot that waits is left alone."""
    repository = open_repository(plan.repository)
    dead = take_snapshot(plan, guard_dsn, repository)
    waiting = take_snapshot(plan, guard_dsn, repository)
    repository.put(f"backups/{plan.name}/{dead.backup_id}/base.tar.zst", b"half")
    record = back_up(plan, guard_dsn)
    assert {found.key.split("/")[2] for found in repository.list("backups/")} == {record.backup_id}
    attempts = {found.key: repository.reader(found.key).read() for found in repository.list("attempts/")}
    assert b"died" in attempts[f"attempts/{plan.name}/{dead.backup_id}.json"]
    assert b"died" not in attempts[f"attempts/{plan.name}/{waiting.backup_id}.json"]


def test_closing_an_attempt_twice_or_after_success_does_no_harm(guard_dsn: str, plan: BackupPlan) -> None:
    """The teardown of a run may come at any time and any number of times."""
    repository = open_repository(plan.repository)
    snapshot = take_snapshot(plan, guard_dsn, repository)
    assert close_attempt(plan, snapshot, repository, "over")
    assert close_attempt(plan, snapshot, repository, "over")
    record = back_up(plan, guard_dsn)
    assert not close_attempt(plan, record.snapshot, repository, "over")
    assert verify(record, repository).verdict is Verdict.VERIFIED


def test_every_kind_of_damage_is_found_and_named(guard_dsn: str, plan: BackupPlan) -> None:
    """A deleted, a truncated, a flipped and a swapped object each get their own state; the rest stays ok."""
    record = back_up(plan, guard_dsn)
    repository = open_repository(plan.repository)
    for part in record.parts:
        content = repository.reader(part.key).read()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        for damaged, state in (
            (None, ObjectState.MISSING),
            (content[:-1], ObjectState.RESIZED),
            (bytes(flipped), ObjectState.CHANGED),
            (content[::-1], ObjectState.CHANGED),
        ):
            if damaged is None:
                repository.delete(part.key)
            else:
                repository.put(part.key, damaged)
            result = verify(record, repository)
            assert result.verdict is Verdict.DAMAGED
            states = {verdict.key: verdict.state for verdict in result.objects}
            assert states[part.key] is state
            assert any(part.key in problem for problem in result.problems)
        repository.put(part.key, content)
    assert verify(record, repository).verdict is Verdict.VERIFIED


def test_a_restore_never_overwrites_and_leaves_nothing_of_a_damaged_backup(
    guard_dsn: str, plan: BackupPlan, tmp_path: Path
) -> None:
    """A folder with anything in it is refused untouched; a backup that turns out damaged is taken away again."""
    record = back_up(plan, guard_dsn)
    repository = open_repository(plan.repository)
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("data")
    with pytest.raises(RestoreRefused, match="not an empty folder"):
        restore(record, repository, full)
    assert (full / "precious").read_text() == "data"
    with pytest.raises(RestoreRefused, match="no tablespace at /nowhere"):
        restore(record, repository, tmp_path / "data", tablespaces={"/nowhere": tmp_path / "x"})
    base = next(part for part in record.parts if part.name == "base")
    content = bytearray(repository.reader(base.key).read())
    content[len(content) // 2] ^= 1
    repository.put(base.key, bytes(content))
    with pytest.raises(Exception, match=r"base\.tar\.zst"):
        restore(record, repository, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_backup_over_tls_is_whole(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, plan: BackupPlan, cluster_folder: Path
) -> None:
    """What TLS has decrypted but libpq not read yet shows on no socket, and must not stall or end the stream."""
    key, certificate = cluster_folder / "server.key", cluster_folder / "server.crt"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    for path in (key, certificate):
        path.chmod(0o600)
        account_for(cluster_folder).own(path)
    major = next((major for major in (18, 17, 15) if supports_tls(major)), None)
    if major is None:
        pytest.skip("no PostgreSQL here was built with TLS")
    settings = {"ssl": "on", "ssl_key_file": str(key), "ssl_cert_file": str(certificate)}
    server = new_server(major=major, settings=settings)
    record = back_up(plan, role_dsn(server, sslmode="require"))
    assert verify(record, open_repository(plan.repository)).verdict is Verdict.VERIFIED


def supports_tls(major: int) -> bool:
    """Whether the programs of this major version can speak TLS."""
    binaries = available_majors().get(major)
    if binaries is None:
        return False
    configured = subprocess.run([binaries / "pg_config", "--configure"], check=False, capture_output=True, text=True)
    return "ssl" in configured.stdout


def test_an_encrypted_backup_is_read_as_stored_without_its_identity_and_looked_into_with_it(
    guard_dsn: str, tmp_path: Path
) -> None:
    """Workers hold no private key: they can tell that every byte is there; whoever has the key, that it is right."""
    identity = pyrage.x25519.Identity.generate()
    plan = plan_for(tmp_path / "backups", recipients=[str(identity.to_public())])
    repository = open_repository(plan.repository)
    record = back_up(plan, guard_dsn)
    assert all(part.key.endswith(".age") for part in record.parts)
    assert verify(record, repository).verdict is Verdict.READABLE
    assert verify(record, repository, identities=[str(identity)]).verdict is Verdict.VERIFIED
    stranger = str(pyrage.x25519.Identity.generate())
    with pytest.raises(RestoreRefused, match="none of the 1 identities"):
        verify(record, repository, identities=[stranger])
    with pytest.raises(RestoreRefused, match="is encrypted"):
        restore(record, repository, tmp_path / "data")
    with pytest.raises(RestoreRefused, match="none of the 1 identities"):
        restore(record, repository, tmp_path / "data", identities=[stranger])
    assert not (tmp_path / "data").exists()
    restore(record, repository, tmp_path / "data", identities=[str(identity)])
    assert (tmp_path / "data" / "global" / "pg_control").exists()
    key = record.parts[0].key
    stored = repository.reader(key).read()
    repository.put(key, stored[:-1] + bytes([stored[-1] ^ 1]))
    assert verify(record, repository).verdict is Verdict.DAMAGED


def test_recipients_that_are_none_are_found_before_anything_begins(guard_dsn: str, tmp_path: Path) -> None:
    """A mistyped key must not show after the checkpoint and the baseline."""
    plan = plan_for(tmp_path / "backups", recipients=["age1mistyped"])
    with pytest.raises(PreflightFailed, match="age1mistyped"):
        take_snapshot(plan, guard_dsn, open_repository(plan.repository))


def test_a_copy_ends_when_its_plan_says_so(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """A load that never drops does not keep a copy paused for ever; nothing is left, and the reason is said."""
    server = new_server()
    plan = plan_for(tmp_path / "backups", max_rate="2MB/s", min_rate="100kB/s", max_pause="2s")
    with CopyInFlight(plan, role_dsn(server)) as copying:
        server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()")
        copying.end(30)
    assert isinstance(copying.error, BudgetSpent)
    assert "(max_pause)" in str(copying.error)
    server.sql("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")
    assert_nothing_left(server, copying.repository, wait_until)


def test_a_retry_does_not_tidy_up_after_a_copy_that_is_not_dead(
    server: LocalServer, guard_dsn: str, tmp_path: Path
) -> None:
    """Airflow takes a worker for dead that is only cut off: the retry is refused, and the first copy ends well."""
    plan = plan_for(tmp_path / "backups", max_rate="6MB/s", min_rate="6MB/s")
    with CopyInFlight(plan, guard_dsn) as copying:
        with pytest.raises(SourceBusy):
            copy(plan, copying.snapshot, guard_dsn, copying.repository, stop=Stop())
        copying.end()
    assert copying.record is not None, copying.error
    assert verify(copying.record, copying.repository).verdict is Verdict.VERIFIED


def test_a_backup_whose_parts_were_taken_away_never_becomes_visible(
    server: LocalServer, guard_dsn: str, slow_plan: BackupPlan
) -> None:
    """Somebody deletes a segment while the copy runs: it fails at its end, and no record points at what is gone."""
    with CopyInFlight(slow_plan, guard_dsn) as copying:
        server.sql("SELECT pg_switch_wal()")
        wait_until(lambda: any("/wal/" in found.key for found in copying.repository.list("backups/")), 30)
        for found in list(copying.repository.list("backups/")):
            copying.repository.delete(found.key)
        copying.end(90)
    assert isinstance(copying.error, ObjectMissing)
    assert_nothing_left(server, copying.repository, wait_until)


@pytest.mark.parametrize("phase", ["baseline", "checkpoint", "data", "after"])
def test_a_stop_in_any_phase_leaves_nothing(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path, phase: str
) -> None:
    """Also where the server would not notice by itself: a walsender that waits for its checkpoint is ended by name."""
    server = new_server()
    server.sql("CREATE TABLE filler AS SELECT n, repeat('x', 500) FROM generate_series(1, 30000) n")
    dsn = role_dsn(server)
    plan = plan_for(tmp_path / "backups", checkpoint="spread" if phase == "checkpoint" else "fast")
    repository = open_repository(plan.repository)
    snapshot = take_snapshot(plan, dsn, repository)
    stop, reached = Stop(), threading.Event()
    errors: list[Exception] = []

    def run() -> None:
        def progress(progress: Progress) -> None:
            if (phase == "checkpoint" and progress.total == 0) or (phase == "data" and progress.done):
                reached.set()

        try:
            seconds = 20 if phase in ("baseline", "after") else 0
            copy(plan, snapshot, dsn, repository, stop=stop, on_progress=progress, baseline_seconds=seconds)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if phase == "baseline":
        wait_until(lambda: slots(server) == 1)
    elif phase == "after":
        wait_until(lambda: any(found.key.endswith("backup_manifest.zst") for found in repository.list("backups/")), 60)
    else:
        assert reached.wait(30)
    stop.request("the test wants it")
    thread.join(15)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [BackupStopped]
    assert_nothing_left(server, repository, wait_until)


def test_a_tablespace_that_comes_after_the_snapshot_is_restored_too(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, plan: BackupPlan, cluster_folder: Path
) -> None:
    """What a backup holds is what the server said at its start, and not what the snapshot saw."""
    server = new_server()
    dsn = role_dsn(server)
    repository = open_repository(plan.repository)
    snapshot = take_snapshot(plan, dsn, repository)
    space = cluster_folder / "space"
    space.mkdir()
    account_for(server.data_directory).own(space)
    server.sql(f"CREATE TABLESPACE late LOCATION '{space}'")
    server.sql("CREATE TABLE spaced TABLESPACE late AS SELECT 1 AS n")
    record = copy(plan, snapshot, dsn, repository, stop=Stop(), baseline_seconds=0.5)
    assert [tablespace.location for tablespace in record.tablespaces] == [str(space)]
    assert verify(record, repository).verdict is Verdict.VERIFIED
    mapping = {str(space): cluster_folder / "restored space"}
    restore(record, repository, cluster_folder / "data", tablespaces=mapping)
    with LocalServer(cluster_folder / "data") as restored:
        assert restored.sql("SELECT n FROM spaced") == "1"


def test_a_closed_attempt_never_becomes_a_backup(server: LocalServer, guard_dsn: str, plan: BackupPlan) -> None:
    """A teardown in the last seconds of a copy that was taken for dead: no record without its parts."""
    repository = open_repository(plan.repository)
    snapshot = take_snapshot(plan, guard_dsn, repository)
    errors: list[Exception] = []

    def run() -> None:
        try:
            copy(plan, snapshot, guard_dsn, repository, stop=Stop(), baseline_seconds=4)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: any(found.key.endswith("backup_manifest.zst") for found in repository.list("backups/")), 60)
    close_attempt(plan, snapshot, repository, "taken for dead")
    thread.join(60)
    (error,) = errors
    # Whether it comes upon its closed attempt, or first upon the file it was writing, is a matter of milliseconds.
    assert isinstance(error, (ObjectMissing, RepositoryUnavailable))
    assert re.search("was closed while it ran|are gone from|was removed by somebody else", str(error))
    assert_nothing_left(server, repository, wait_until)


def test_a_copy_does_not_begin_outside_of_its_window(guard_dsn: str, tmp_path: Path) -> None:
    """The snapshot was taken in time, and the queue, a pool or a retry was late."""
    now = pendulum.now("UTC")
    closed = OffPeakCalendar.parse(f"daily {now.add(hours=6):%H:00}-{now.add(hours=7):%H:00}", tz="UTC")
    plan = plan_for(tmp_path / "backups", calendar=closed)
    repository = open_repository(plan.repository)
    snapshot = take_snapshot(plan, guard_dsn, repository, outside_window=True)
    with pytest.raises(PreflightNotYet, match="off-peak window"):
        copy(plan, snapshot, guard_dsn, repository, stop=Stop())


def test_an_attempt_that_cannot_be_read_does_not_stand_in_the_way(guard_dsn: str, plan: BackupPlan) -> None:
    """A newer release, or somebody's editor, left something there; the next backup is made all the same."""
    repository = open_repository(plan.repository)
    repository.put("attempts/shop/20260101T000000Z-abcd.json", b'{"format": 2}')
    assert verify(back_up(plan, guard_dsn), repository).verdict is Verdict.VERIFIED


def test_what_a_dead_copy_was_writing_is_swept(guard_dsn: str, tmp_path: Path) -> None:
    """A copy that was killed while it wrote its attempt or its record leaves nothing of either for long."""
    plan = plan_for(tmp_path / "backups")
    repository = open_repository(plan.repository)
    dead = take_snapshot(plan, guard_dsn, repository)
    for folder in ("attempts", "records"):
        (tmp_path / "backups" / folder / "shop").mkdir(parents=True, exist_ok=True)
        (tmp_path / "backups" / folder / "shop" / f".{dead.backup_id}.json.0123456789abcdef.unfinished").write_text("{")
    assert len(list(repository.unfinished_writes(""))) == 2
    back_up(plan, guard_dsn)
    assert list(repository.unfinished_writes("")) == []
