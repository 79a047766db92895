"""What PostgreSQL itself does to a copy: it dies, fails over, runs out of something, and changes under it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from airflow_backup_guard.cli import main
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import (
    BackupGuardError,
    PreflightFailed,
    SourceBusy,
    SourceUnavailable,
    SourceUnsuitable,
)
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from tests.conftest import SMALL, prepare
from tests.faults.halting import HaltingRepository
from tests.faults.left import assert_verified, ours_in, restored_sql, wait_for_nothing_of_ours, whole_backups
from tests.integration.conftest import standby_of as standby_of
from tests.integration.guarded import BASELINE_SECONDS, CopyInFlight, back_up, plan_for, wait_until

RoleDsn = Callable[..., str]
FULL = os.environ.get("FAULTS") == "full"
RELATIONS = 50_000 if FULL else 1500
SLOW = {"max_rate": "4MB/s", "min_rate": "4MB/s"}


@contextmanager
def cluster(*initdb_options: str, **settings: str) -> Iterator[LocalServer]:
    """A server of its own, with the roles of the tests."""
    with LocalServer.create(major=18, settings={**SMALL, **settings}, initdb_options=initdb_options) as server:
        yield prepare(server)


def retried(server: LocalServer, dsn: str, folder: Path, before: str, to: Path, sql: str) -> tuple[BackupRecord, str]:
    """After a fault: nothing is left, and the next backup is whole, verified, and answers ``sql`` once restored."""
    wait_for_nothing_of_ours(server, before)
    plan = plan_for(folder)
    repository = open_repository(plan.repository)
    assert whole_backups(repository) == []
    record = back_up(plan, dsn)
    assert_verified(whole_backups(repository), repository)
    wait_for_nothing_of_ours(server, before)
    return record, restored_sql(record, repository, to, sql)


@pytest.mark.parametrize("how", ["immediate", "kill -9"])
def test_a_server_that_dies_in_mid_copy(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path, cluster_folder: Path, how: str
) -> None:
    """The error says that it is gone; once it is back, a retry of the same copy succeeds."""
    server = new_server()
    server.sql("CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n")
    before = ours_in(server)
    plan = plan_for(tmp_path / "backups", **SLOW)
    with CopyInFlight(plan, role_dsn(server)) as copying:
        if how == "immediate":
            server.stop("immediate")
        else:
            os.kill(server.pid, signal.SIGKILL)
        copying.end()
    assert isinstance(copying.error, SourceUnavailable), copying.error
    server.start()
    dsn = role_dsn(server)
    record = copy(
        plan_for(tmp_path / "backups"), copying.snapshot, dsn, copying.repository, stop=Stop(), baseline_seconds=0.3
    )
    assert whole_backups(copying.repository) == [record]
    assert_verified([record], copying.repository)
    wait_for_nothing_of_ours(server, before)
    assert restored_sql(record, copying.repository, cluster_folder / "data", "SELECT count(*) FROM kept") == "1000"


def test_a_failover_in_mid_copy(
    new_server: Callable[..., LocalServer],
    standby_of: Callable[[LocalServer], LocalServer],
    role_dsn: RoleDsn,
    tmp_path: Path,
    cluster_folder: Path,
) -> None:
    """The primary dies and a standby is promoted, to which the same connection string leads: the copy fails, its retry
    is told of the other timeline, and a new snapshot has what was committed before it."""
    primary = new_server()
    standby = standby_of(primary)
    primary.sql("CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n")
    dsn = (
        f"host=127.0.0.1,127.0.0.1 port={primary.port},{standby.port} user=guard password=guard dbname=postgres "
        "target_session_attrs=read-write"
    )
    plan = plan_for(tmp_path / "backups", **SLOW)
    replayed = f"SELECT pg_last_wal_replay_lsn() >= '{primary.sql('SELECT pg_current_wal_lsn()')}'"
    wait_until(lambda: standby.sql(replayed) == "t", 30)
    with CopyInFlight(plan, dsn) as copying:
        os.kill(primary.pid, signal.SIGKILL)
        standby.sql("SELECT pg_promote()")
        before = ours_in(standby)
        copying.end()
    assert isinstance(copying.error, SourceUnavailable | SourceUnsuitable), copying.error
    with pytest.raises(SourceUnsuitable, match=r"on timeline 2, but the snapshot was taken .* on timeline 1"):
        copy(plan, copying.snapshot, dsn, copying.repository, stop=Stop(), baseline_seconds=BASELINE_SECONDS)
    record, found = retried(
        standby, dsn, tmp_path / "backups", before, cluster_folder / "data", "SELECT count(*) FROM kept"
    )
    assert (record.timeline, found) == (2, "1000")


def test_a_slot_that_the_server_gives_up(role_dsn: RoleDsn, tmp_path: Path, cluster_folder: Path) -> None:
    """The repository stands still, and more WAL is written than max_slot_wal_keep_size: the server recycles what the
    copy has not stored. It fails long before its end, says so, and lets go of all that the server kept for it."""
    settings = {"max_slot_wal_keep_size": "4MB", "min_wal_size": "2MB", "max_wal_size": "4MB"}
    with cluster("--wal-segsize=1", **settings) as server:
        server.sql("CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n")
        before = ours_in(server)
        plan = plan_for(tmp_path / "backups", **SLOW)
        repository = HaltingRepository(tmp_path / "backups", "/wal/")
        with CopyInFlight(plan, role_dsn(server), repository) as copying:
            server.sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000)), pg_switch_wal()")
            assert repository.halted.wait(60)
            for _ in range(6):
                server.sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000)), pg_switch_wal()")
                server.sql("CHECKPOINT")
            wait_until(lambda: server.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "0", 30)
            repository.go_on.set()
            copying.end()
        assert isinstance(copying.error, BackupGuardError) and copying.error.retryable, copying.error
        assert "max_slot_wal_keep_size is 4" in str(copying.error), copying.error
        query = "SELECT count(*) FROM kept"
        found = retried(server, role_dsn(server), tmp_path / "backups", before, cluster_folder / "data", query)[1]
        assert found == "1000"


def walsender(dsn: str) -> psycopg.Connection:
    """Takes one of max_wal_senders."""
    return psycopg.connect(f"{dsn} replication=true", autocommit=True)


def test_no_walsender_is_free(role_dsn: RoleDsn, tmp_path: Path, cluster_folder: Path) -> None:
    """Before: the check names max_wal_senders. In mid-copy: the WAL waits in the slot for as long as others have them
    all, and the copy ends well once one is free."""
    with cluster(max_wal_senders="2") as server:
        server.sql("CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n")
        dsn = role_dsn(server)
        before = ours_in(server)
        plan = plan_for(tmp_path / "backups", **dict.fromkeys(SLOW, "12MB/s"))
        repository = open_repository(plan.repository)
        with walsender(dsn), walsender(dsn), pytest.raises(PreflightFailed, match="max_wal_senders"):
            take_snapshot(plan, dsn, repository)
        snapshot = take_snapshot(plan, dsn, repository)
        with walsender(dsn), walsender(dsn), pytest.raises(SourceBusy, match="max_wal_senders"):
            copy(plan, snapshot, dsn, repository, stop=Stop(), baseline_seconds=BASELINE_SECONDS)
        with CopyInFlight(plan, dsn) as copying:
            with ExitStack() as taken:
                wait_until(lambda: _taken(taken, dsn), 30)
                wait_until(lambda: server.sql("SELECT count(*) FROM pg_stat_progress_basebackup") == "0", 60)
            copying.end()
        assert copying.record is not None, copying.error
        assert_verified([copying.record], repository)
        wait_for_nothing_of_ours(server, before)
        assert restored_sql(copying.record, repository, cluster_folder / "a", "SELECT count(*) FROM kept") == "1000"


def _taken(stack: ExitStack, dsn: str) -> bool:
    try:
        stack.enter_context(walsender(dsn))
    except psycopg.OperationalError:
        return False
    return True


def test_no_slot_is_free(role_dsn: RoleDsn, tmp_path: Path, cluster_folder: Path) -> None:
    """Before, or between snapshot and copy: max_replication_slots is named, and nothing is begun."""
    with cluster(max_replication_slots="1") as server:
        server.sql("CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n")
        dsn = role_dsn(server)
        before = ours_in(server)
        plan = plan_for(tmp_path / "backups")
        repository = open_repository(plan.repository)
        snapshot = take_snapshot(plan, dsn, repository)
        server.sql("SELECT pg_create_physical_replication_slot('another')")
        with pytest.raises(PreflightFailed, match="max_replication_slots"):
            take_snapshot(plan, dsn, repository)
        with pytest.raises(SourceBusy, match="max_replication_slots"):
            copy(plan, snapshot, dsn, repository, stop=Stop(), baseline_seconds=BASELINE_SECONDS)
        server.sql("SELECT pg_drop_replication_slot('another')")
        query = "SELECT count(*) FROM kept"
        assert retried(server, dsn, tmp_path / "backups", before, cluster_folder / "data", query)[1] == "1000"


CHURN = (
    "CREATE TABLE come (n int, t text); INSERT INTO come SELECT n, repeat('x', 400) FROM generate_series(1, 2000) n",
    "CREATE TABLESPACE passing LOCATION '{space}'",
    "CREATE TABLE elsewhere TABLESPACE passing AS SELECT n FROM generate_series(1, 500) n",
    "CREATE DATABASE passing",
    "INSERT INTO ledger SELECT (SELECT max(n) FROM ledger) + n FROM generate_series(1, 20000) n",
    "TRUNCATE emptied; INSERT INTO emptied SELECT n FROM generate_series(1, 30000) n",
    "DELETE FROM shrinking WHERE n % 3 = 0; VACUUM shrinking",
    "DROP TABLE elsewhere; DROP TABLESPACE passing",
    "VACUUM FULL ledger",
    "DROP DATABASE passing",
    "INSERT INTO unlogged SELECT n FROM generate_series(1, 1000) n",
    "DROP TABLE come",
)


def test_everything_changes_while_it_is_copied(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path, cluster_folder: Path
) -> None:
    """Many relations; tables, tablespaces and databases that come and go; growth, truncation, rewrites: all that was
    committed before the snapshot is restored, no row is there twice, and unlogged tables are empty, as after a crash.
    FAULTS=full has 50,000 relations."""
    server = new_server(settings={"max_locks_per_transaction": "512", "max_wal_size": "4GB"})
    space = cluster_folder / "passing"
    space.mkdir()
    account_for(server.data_directory).own(space)
    for first in range(0, RELATIONS, 500):
        server.sql(
            "DO $$ BEGIN FOR n IN "
            f"{first + 1}..{first + 500} LOOP EXECUTE format('CREATE TABLE many_%s AS SELECT %s AS n', n, n); "
            "END LOOP; END $$"
        )
    server.sql(
        "CREATE TABLE ledger (n int PRIMARY KEY); INSERT INTO ledger VALUES (1);"
        "CREATE TABLE emptied (n int); CREATE UNLOGGED TABLE unlogged (n int);"
        "CREATE TABLE shrinking AS SELECT n FROM generate_series(1, 200000) n"
    )
    before = ours_in(server)
    plan = plan_for(tmp_path / "backups", max_rate="15MB/s", min_rate="15MB/s")
    over = threading.Event()
    rounds: list[int] = []

    def churn() -> None:
        while not over.is_set():
            for statements in CHURN:
                for statement in statements.split(";"):
                    server.sql(statement.format(space=space))
            rounds.append(int(server.sql("SELECT max(n) FROM ledger")))

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        wait_until(lambda: rounds, 60)
        with CopyInFlight(plan, role_dsn(server)) as copying:
            committed = rounds[0]
            begun = len(rounds)
            copying.end(600)
    finally:
        over.set()
        churning.join(120)
    assert copying.record is not None, copying.error
    assert_verified([copying.record], copying.repository)
    wait_for_nothing_of_ours(server, before)
    answer = restored_sql(
        copying.record,
        copying.repository,
        cluster_folder / "data",
        "SELECT count(*), max(n), (SELECT count(*) FROM unlogged),"
        " (SELECT count(*) FROM pg_class WHERE relname LIKE 'many%') FROM ledger;"
        f" SELECT n FROM many_{RELATIONS}",
    )
    first, last = answer.splitlines()
    rows, highest, unlogged, relations = map(int, first.split("|"))
    assert rows == highest >= committed
    assert (unlogged, relations, int(last)) == (0, RELATIONS, RELATIONS)
    print(f"{RELATIONS} relations, {len(rounds) - begun} rounds of changes during the copy, {rows} rows in order")


ODD = ['it\'s "quoted" %s {0} \\ $1 -- ;', "new\nline ünïcødé 🐘", "x" * 63]


@pytest.mark.parametrize(
    "options",
    [("--wal-segsize=64", "--no-data-checksums"), *([()] if FULL else [])],
    ids=lambda options: "64MB, unchecked" if options else "usual",
)
def test_a_cluster_with_odd_names_and_encodings(
    role_dsn: RoleDsn,
    tmp_path: Path,
    cluster_folder: Path,
    options: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Databases in LATIN1 and SQL_ASCII, names of bytes that are no text at all, quotes and line breaks in names of
    databases, tablespaces and roles; WAL segments of 64 MB, and no checksums: backed up, shown, and restored."""
    with cluster(*options) as server:
        spaces = {}
        for number, name in enumerate(ODD):
            quoted = '"' + name.replace('"', '""') + '"'
            space = cluster_folder / f"space {number} \\ ü\n"
            space.mkdir()
            account_for(server.data_directory).own(space)
            spaces[name] = space
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute(f"CREATE ROLE {quoted}".encode())
                connection.execute(f"CREATE TABLESPACE {quoted} LOCATION '{space}'".encode())
                connection.execute(f"CREATE DATABASE {quoted}".encode())
                connection.execute(f"CREATE TABLE on_{number} TABLESPACE {quoted} AS SELECT 1 AS n".encode())
        server.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        server.sql("CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
        server.sql("CREATE TABLE \"tßble\" AS SELECT 'ü'::text AS t", "latin")
        with psycopg.connect(server.dsn("bytes"), autocommit=True, client_encoding="SQL_ASCII") as connection:
            connection.execute(b'CREATE TABLE "odd\xff\xfe" AS SELECT 1 AS n')
            connection.execute(b'CREATE DATABASE "base\xff\xfe"')
            connection.execute(b'CREATE ROLE "role\xff\xfe"')
        before = ours_in_any(server)
        plan = plan_for(tmp_path / "backups")
        repository = open_repository(plan.repository)
        record = back_up(plan, role_dsn(server))
        assert record.snapshot.cluster.wal_segment_size == (64 << 20 if options else 16 << 20)
        assert record.snapshot.cluster.data_checksums is not bool(options)
        assert {one.name for one in record.tablespaces} == set(ODD)
        assert_verified([record], repository)
        assert main(["show", "latest", "--repository", plan.repository]) == 0
        assert main(["list", "--json", "--repository", plan.repository]) == 0
        capsys.readouterr()
        wait_until(lambda: ours_in_any(server) == before)
        query = "SELECT count(*) FROM pg_class WHERE relname LIKE 'odd%'"
        assert restored_sql(record, repository, cluster_folder / "data", query, "bytes") == "1"


def ours_in_any(server: LocalServer) -> str:
    """As ``ours_in``, of a server whose names are no text."""
    return server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'backup_guard%'") + server.sql(
        "SELECT count(*) FROM pg_replication_slots"
    )
