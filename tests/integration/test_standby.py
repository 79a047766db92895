"""A standby as the source of a backup: what is measured of it, and that its backup is whole and comes up by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from airflow_backup_guard.core import LoadLimits
from airflow_backup_guard.core.load import SIGNALS, LoadLevel, LoadSample, assess
from airflow_backup_guard.core.manifest import parse_manifest
from airflow_backup_guard.core.signals import OF_PRIMARIES, OF_STANDBYS
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.gate import watch_load
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.snapshot import check, take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.postgres.paired_probe import PairedProbe
from airflow_backup_guard.postgres.probe import LoadProbe
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.codec import DecodedReader
from tests.integration.guarded import BASELINE_SECONDS, CopyInFlight, assert_nothing_left, back_up, plan_for, wait_until
from tests.integration.test_check import found
from tests.integration.test_probe import has, lacks, run, sql, until

RoleDsn = Callable[..., str]
StandbyOf = Callable[[LocalServer], LocalServer]
NOBODY = "host=127.0.0.1 port=1 user=guard dbname=postgres"


@pytest.fixture
def primary(new_server: Callable[..., LocalServer]) -> LocalServer:
    """A primary for this test only."""
    return new_server()


async def replayed(primary: LocalServer, standby: LocalServer) -> None:
    """Wait until the standby has replayed all that the primary has written by now."""
    lsn = await sql(primary, "SELECT pg_current_wal_insert_lsn()")
    while await sql(standby, f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") != "t":
        await asyncio.sleep(0.05)


# What is measured


def test_a_standby_is_measured_by_its_reads_and_its_replay(
    any_server: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn
) -> None:
    """On every version: what it has is known, what only a primary has is missing with a plain reason, and no more."""
    standby = standby_of(any_server)

    async def watch() -> LoadSample:
        async with LoadProbe(role_dsn(standby)) as probe:
            first = await probe.sample()
            assert {*first.values, *first.unavailable} == set(SIGNALS)
            await sql(any_server, "CREATE TABLE seen AS SELECT n FROM generate_series(1, 50000) n")
            try:
                return await until(probe, has("wal_rate", 100_000))
            finally:
                await sql(any_server, "DROP TABLE seen")

    sample = run(watch())
    assert sample.absent == OF_PRIMARIES
    assert set(sample.unavailable) == OF_PRIMARIES | {"replication_lag", "block_read_time"}
    assert sample.unavailable["commit_latency"] == "a standby commits nothing"
    assert sample.unavailable["tuple_rate"] == "the server is a standby"
    assert 0 < sample.values["read_latency"] < 5
    assert 0 <= sample.values["replay_lag"] < 30
    everything = LoadLimits(tuple_rate="1/s", full_page_images="1/s", requested_checkpoints="1/min")
    assert assess(sample, everything).level is not LoadLevel.UNKNOWN


def test_replay_that_stands_still_shows(primary: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn) -> None:
    """A lag grows from when replay stopped, and is gone when it has caught up."""
    standby = standby_of(primary)

    async def watch() -> None:
        async with LoadProbe(role_dsn(standby)) as probe:
            await until(probe, lambda sample: sample.values.get("replay_lag") == 0)
            await sql(standby, "SELECT pg_wal_replay_pause()")
            await sql(primary, "CREATE TABLE waits AS SELECT 1 AS n")
            await until(probe, has("replay_lag", 2))
            await sql(standby, "SELECT pg_wal_replay_resume()")
            await until(probe, lambda sample: sample.values.get("replay_lag") == 0)

    run(watch())


def test_a_standby_whose_primary_is_gone_lags(primary: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn) -> None:
    """All that it has received is replayed, and that says nothing: nobody sends."""
    standby = standby_of(primary)

    async def watch() -> None:
        async with LoadProbe(role_dsn(standby)) as probe:
            await until(probe, lambda sample: sample.values.get("replay_lag") == 0)
            await asyncio.to_thread(primary.stop)
            await until(probe, has("replay_lag", 2))

    run(watch())


def test_a_promotion_under_an_open_probe_is_noticed(
    primary: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn
) -> None:
    """The same session times reads until then, and commits from then on."""
    standby = standby_of(primary)

    async def watch() -> LoadSample:
        async with LoadProbe(role_dsn(standby)) as probe:
            await until(probe, has("read_latency"))
            session = await sql(standby, "SELECT pid FROM pg_stat_activity WHERE application_name = 'backup_guard'")
            await sql(standby, "SELECT pg_promote()")
            sample = await until(probe, has("commit_latency"))
            assert session == await sql(
                standby, "SELECT pid FROM pg_stat_activity WHERE application_name = 'backup_guard'"
            )
            assert lacks("read_latency", "the server is a primary")(sample)
            assert lacks("replay_lag", "the server is a primary")(sample)
            return await until(probe, has("tuple_rate"))

    assert run(watch()).absent == OF_STANDBYS


# A load connection


def test_a_load_connection_is_measured_beside_the_standby(
    primary: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn
) -> None:
    """Commits and the plan's own queries are the primary's; reads and replay the standby's."""
    standby = standby_of(primary)
    limits = LoadLimits(custom={"is a standby": {"sql": "SELECT pg_is_in_recovery()::int", "max": 5}})

    async def watch() -> LoadSample:
        async with PairedProbe(role_dsn(standby), role_dsn(primary), custom=limits.custom) as probe:
            return await until(probe, lambda sample: {"tuple_rate", "custom.is a standby"} <= set(sample.values))

    sample = run(watch())
    assert {"commit_latency", "wal_rate", "read_latency", "replay_lag"} <= set(sample.values)
    assert sample.values["custom.is a standby"] == 0
    assert "replication_lag" in sample.values, "the primary knows how far its standby is"
    assert sample.absent == frozenset()
    assert assess(sample, limits).level is LoadLevel.NORMAL


def test_a_load_connection_that_nobody_answers_keeps_the_gate_closed(
    primary: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """However quiet the standby is; the reason names the server. The check warns of it."""
    standby = standby_of(primary)
    plan = plan_for(tmp_path / "backups", load_connection="primary", quiet_for="1s")

    async def first(load_dsn: str) -> Any:
        async with aclosing(watch_load(plan, role_dsn(standby), load_dsn)) as readings:
            async for reading in readings:
                if reading.opened or reading.assessment.level is not LoadLevel.NORMAL:
                    return reading
        raise AssertionError

    reading = run(first(NOBODY))
    assert not reading.opened
    assert reading.assessment.level is LoadLevel.UNKNOWN
    assert "load connection: PostgreSQL at 127.0.0.1:1" in str(reading)
    assert run(first(role_dsn(primary))).opened
    repository = open_repository(plan.repository)
    checks = {
        dsn: found(check(plan, role_dsn(standby), repository, load_dsn=dsn).checks, "load connection")
        for dsn in (NOBODY, role_dsn(primary), role_dsn(primary, "plain"))
    }
    assert [one.status.value for one in checks.values()] == ["warning", "ok", "warning"]
    assert "Its load is unknown: PostgreSQL at 127.0.0.1:1" in checks[NOBODY].detail
    assert "it leads to a primary" in checks[role_dsn(primary)].detail
    assert "not a member of pg_monitor" in checks[role_dsn(primary, "plain")].detail


def test_a_load_connection_into_another_cluster_is_told(
    primary: LocalServer, server: LocalServer, role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """It may be meant, or a mistake."""
    plan = plan_for(tmp_path / "backups", load_connection="other")
    checks = check(plan, role_dsn(primary), open_repository(plan.repository), load_dsn=role_dsn(server)).checks
    assert "another cluster" in found(checks, "load connection").detail


# The backup


def test_a_standby_is_backed_up_verified_and_restored(
    any_server: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn, tmp_path: Path, cluster_folder: Path
) -> None:
    """On every version: the restore is a primary at once, and has what was replayed before the snapshot."""
    standby = standby_of(any_server)
    plan = plan_for(tmp_path / "backups", load_connection="primary")
    repository = open_repository(plan.repository)
    source, load = role_dsn(standby), role_dsn(any_server)
    any_server.sql("CREATE TABLE kept AS SELECT n FROM generate_series(1, 5001) n")
    try:
        run(replayed(any_server, standby))
        assert found(check(plan, source, repository, load_dsn=load).checks, "source").detail == (
            "the server is a standby"
        )
        snapshot = take_snapshot(plan, source, repository, load_dsn=load)
        assert snapshot.standby
        record = copy(
            plan,
            snapshot,
            source,
            repository,
            stop=Stop(),
            baseline_seconds=BASELINE_SECONDS,
            load_dsn=load,
        )
        assert record.end_lsn >= snapshot.lsn
        assert record.impact.during.samples > 0
        result = verify(record, repository)
        assert result.verdict is Verdict.VERIFIED, result.problems
        restore(record, repository, cluster_folder / "restored")
        with LocalServer(cluster_folder / "restored") as restored:
            assert restored.sql("SELECT pg_is_in_recovery()") == "f"
            assert restored.sql("SELECT count(*) FROM kept") == "5001"
            restored.sql("INSERT INTO kept VALUES (0)")
    finally:
        any_server.sql("DROP TABLE kept")


def test_wal_is_kept_up_to_the_snapshot_where_the_server_asks_for_less(
    primary: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn, tmp_path: Path, cluster_folder: Path
) -> None:
    """For the server a backup is consistent that ends before WAL which no file knows of."""
    standby = standby_of(primary)
    for statement in ("CHECKPOINT", "SELECT pg_logical_emit_message(false, 'x', 'in no file')"):
        primary.sql(statement)
        run(replayed(primary, standby))
    plan = plan_for(tmp_path / "backups")
    record = back_up(plan, role_dsn(standby))
    repository = open_repository(plan.repository)
    (part,) = record.parts_of("manifest")
    with DecodedReader(repository.reader(part.key), part.key) as content:
        (asked,) = parse_manifest(content.read()).wal_ranges
    assert asked.end < record.end_lsn == record.snapshot.lsn
    result = verify(record, repository)
    assert result.verdict is Verdict.VERIFIED, result.problems
    restore(record, repository, cluster_folder / "restored")
    with LocalServer(cluster_folder / "restored") as restored:
        assert restored.sql("SELECT pg_is_in_recovery()") == "f"


def test_reads_that_hang_pause_the_copy(
    primary: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """On a standby they stand in for commits, without a load connection and without a word in the plan."""
    primary.sql("CREATE TABLE filler AS SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n")
    standby = standby_of(primary)
    plan = plan_for(tmp_path / "backups", max_rate="10MB/s", min_rate="200kB/s")
    with CopyInFlight(plan, role_dsn(standby)) as copying:
        wait_until(lambda: copying.last is not None and copying.last.pace.rate > plan.min_rate, 60)
        assert copying.last is not None
        # Whoever holds this lock on the primary is replayed, and then reads of the catalogue wait on the standby.
        primary.sql(
            "BEGIN; LOCK TABLE pg_attribute IN ACCESS EXCLUSIVE MODE; SELECT pg_switch_wal();"
            "SELECT pg_sleep(4); ROLLBACK"
        )
        copying.end(300)
    assert copying.record is not None, copying.error
    assert any("read latency" in pause.reason for pause in copying.record.impact.pauses)
    assert copying.record.impact.seconds_paused > 0


def test_a_promotion_under_a_copy_fails_it_and_leaves_nothing(
    primary: LocalServer, standby_of: StandbyOf, role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """What it copies has two histories then; the error is one that a retry from the snapshot can mend."""
    standby = standby_of(primary)
    plan = plan_for(tmp_path / "backups", max_rate="2MB/s", min_rate="2MB/s")
    with CopyInFlight(plan, role_dsn(standby)) as copying:
        standby.sql("SELECT pg_promote()")
        copying.end(60)
    assert copying.record is None
    assert copying.error is not None
    assert_nothing_left(standby, copying.repository, wait_until)
