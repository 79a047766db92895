"""What the probe sees of real causes, on every major version, and what it says when it cannot see."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_backup_guard.core import LoadLimits
from airflow_backup_guard.core.load import SIGNALS, LoadSample
from airflow_backup_guard.core.signals import OF_STANDBYS
from airflow_backup_guard.postgres.probe import LoadProbe
from airflow_backup_guard.postgres.server import LocalServer

RoleDsn = Callable[..., str]
Condition = Callable[[LoadSample], bool]


def run(test: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that must not hang."""
    return asyncio.run(asyncio.wait_for(test, 60))


async def until(probe: LoadProbe, condition: Condition, seconds: float = 15) -> LoadSample:
    """The first sample of which that is true."""
    deadline = time.monotonic() + seconds
    while True:
        sample = await probe.sample()
        if condition(sample):
            return sample
        assert time.monotonic() < deadline, sample
        await asyncio.sleep(0.1)


def has(name: str, least: float = 0.0) -> Condition:
    """A signal is known, and at least this."""
    return lambda sample: sample.values.get(name, -1.0) >= least


def lacks(name: str, reason: str) -> Condition:
    """A signal is missing for this reason."""
    return lambda sample: name not in sample.values and reason in sample.unavailable.get(name, "")


async def sql(server: LocalServer, statements: str) -> str:
    """Run SQL as the superuser, beside the probe."""
    return await asyncio.to_thread(server.sql, statements)


def own_sessions(server: LocalServer) -> int:
    """How many sessions of probes the server has."""
    return int(server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backup_guard'"))


# What is measured


def test_everything_is_known_or_has_its_reason(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """On every version, all signals but those that this server cannot have; an application's writes show in them."""

    async def watch() -> LoadSample:
        async with LoadProbe(role_dsn(any_server)) as probe:
            first = await probe.sample()
            assert {*first.values, *first.unavailable} == set(SIGNALS)
            assert first.unavailable["wal_rate"] == "a rate needs two samples"
            await sql(any_server, "CREATE TABLE seen AS SELECT n FROM generate_series(1, 20000) n")
            try:
                return await until(probe, has("tuple_rate", 1000))
            finally:
                await sql(any_server, "DROP TABLE seen")

    sample = run(watch())
    assert sample.unavailable == {
        "replication_lag": "no standby",
        "block_read_time": "track_io_timing is off",
        "read_latency": "the server is a primary",
        "replay_lag": "the server is a primary",
    }
    assert {*sample.values, *sample.unavailable} == set(SIGNALS)
    assert 0 < sample.values["commit_latency"] < 5
    assert sample.values["wal_rate"] > 100_000
    assert sample.values["transaction_wal"] > 1000
    assert sample.values["commit_rate"] > 0


def test_the_statistics_are_asked_once_a_second(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """Between two rows of statistics, samples time commits and keep what is known, which is younger than a second."""

    async def watch() -> tuple[list[LoadSample], float]:
        async with LoadProbe(role_dsn(any_server)) as probe:
            await until(probe, has("wal_rate"))
            began = time.monotonic()
            return [await probe.sample() for _ in range(20)], time.monotonic() - began

    samples, seconds = run(watch())
    assert len({sample.values["commit_latency"] for sample in samples}) > 1
    others = {tuple(sorted({**sample.values, "commit_latency": 0.0}.items())) for sample in samples}
    assert len(others) <= 1 + seconds / 0.9


def test_a_session_that_waits_for_a_lock_shows(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """It waits and is active; the session that holds the lock and does nothing is neither, and we do not count."""

    async def watch() -> LoadSample:
        holder = await psycopg.AsyncConnection.connect(any_server.dsn())
        waiter = await psycopg.AsyncConnection.connect(any_server.dsn(), autocommit=True)
        async with holder, waiter, LoadProbe(role_dsn(any_server)) as probe:
            before = await probe.sample()
            assert before.values["lock_waits"] == 0
            await holder.execute("SELECT pg_advisory_xact_lock(1)")
            waiting = asyncio.ensure_future(waiter.execute("SELECT pg_advisory_xact_lock(1)"))
            sample = await until(probe, has("lock_waits", 1))
            await holder.rollback()
            await waiting
            return sample

    sample = run(watch())
    assert sample.values["lock_waits"] == 1
    assert sample.values["active_sessions"] == 1


def test_wal_that_a_slot_retains_shows(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """A slot whose reader is gone keeps all WAL since it was made."""

    async def watch() -> LoadSample:
        async with LoadProbe(role_dsn(any_server)) as probe:
            before = await probe.sample()
            assert before.values["retained_wal"] == 0
            await sql(any_server, "SELECT pg_create_physical_replication_slot('idle'), pg_switch_wal()")
            await sql(any_server, "SELECT pg_create_physical_replication_slot('forgotten', true)")
            try:
                await sql(any_server, "SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000))")
                return await until(probe, has("retained_wal", 3e6))
            finally:
                await sql(any_server, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")

    assert run(watch()).values["retained_wal"] < 40e6


def test_a_standby_that_falls_behind_shows(any_server: LocalServer, role_dsn: RoleDsn, cluster_folder: Path) -> None:
    """A receiver that takes WAL and confirms none of it lags by all that is written; our own stream is not one."""

    async def watch() -> None:
        async with LoadProbe(role_dsn(any_server)) as probe:
            ours = any_server.popen(
                "pg_receivewal",
                f"--directory={cluster_folder}",
                "--dbname=application_name=backup_guard",
            )
            try:
                await wait_for_receiver(any_server)
                assert lacks("replication_lag", "no standby")(await probe.sample())
            finally:
                ours.terminate()
                ours.wait()
            other = any_server.popen("pg_receivewal", f"--directory={cluster_folder}", "--status-interval=1")
            try:
                await wait_for_receiver(any_server)
                await until(probe, has("replication_lag"))
                other.send_signal(signal.SIGSTOP)
                await sql(any_server, "SELECT pg_logical_emit_message(true, 'x', repeat('x', 3000000))")
                await until(probe, has("replication_lag", 3e6))
            finally:
                other.kill()
                other.wait()
            await until(probe, lacks("replication_lag", "no standby"))

    run(watch())


async def wait_for_receiver(server: LocalServer) -> None:
    """Wait until somebody streams WAL."""
    while await sql(server, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "0":
        await asyncio.sleep(0.05)


def test_a_checkpoint_that_was_asked_for_shows(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """It counts for the last minute; pages that are written after it are written whole."""

    async def watch() -> LoadSample:
        async with LoadProbe(role_dsn(any_server)) as probe:
            await sql(any_server, "CREATE TABLE pages AS SELECT n, n AS m FROM generate_series(1, 50000) n; CHECKPOINT")
            before = await until(probe, has("requested_checkpoints"))
            await sql(any_server, "CHECKPOINT; UPDATE pages SET m = 1 WHERE n % 100 = 0")
            try:
                await until(probe, lambda sample: sample.values["full_page_images"] > 50)
                # The checkpointer counts a checkpoint only after the command that asked for it has returned.
                await until(probe, has("requested_checkpoints", before.values["requested_checkpoints"] + 1))
            finally:
                await sql(any_server, "DROP TABLE pages")

    run(watch())


def test_the_time_to_read_a_block_shows_where_it_is_tracked(
    new_server: Callable[..., LocalServer], major: int, role_dsn: RoleDsn
) -> None:
    """In seconds; zero while all that is read is in memory."""
    server = new_server(major=major, settings={"track_io_timing": "on", "shared_buffers": "1MB"})
    server.sql("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")

    async def watch() -> LoadSample:
        async with LoadProbe(role_dsn(server)) as probe:
            await until(probe, has("block_read_time"))
            await sql(server, "SELECT count(*) FROM big")
            return await until(probe, has("block_read_time", 1e-9))

    assert run(watch()).values["block_read_time"] < 0.1


@pytest.fixture(params=[15, 16, 17, 18], ids=lambda major: f"postgresql-{major}")
def major(request: pytest.FixtureRequest) -> int:
    """Each major version, for servers that a test changes."""
    return int(request.param)


# What cannot be measured


def test_without_pg_monitor_other_sessions_are_not_taken_for_quiet(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """PostgreSQL shows NULL and not an error; what any role may see is known all the same."""

    async def watch() -> LoadSample:
        async with LoadProbe(role_dsn(any_server, "plain")) as probe:
            return await until(probe, has("transaction_wal"))

    hidden = ("replication_lag", "io_waits", "lock_waits", "active_sessions")
    sample = run(watch())
    assert {name: sample.unavailable.get(name) for name in hidden} == dict.fromkeys(hidden, "needs pg_monitor")
    assert set(SIGNALS) - set(sample.values) == {*hidden, "block_read_time", *OF_STANDBYS}


def test_statistics_that_are_reset_are_no_low_load(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """The rates that rest on them are missing for one row, with the reason, and then they are back."""

    async def watch() -> None:
        async with LoadProbe(role_dsn(any_server)) as probe:
            await until(probe, has("commit_rate"))
            await sql(any_server, "SELECT pg_stat_reset(), pg_stat_reset_shared('wal')")
            sample = await until(probe, lacks("commit_rate", "the statistics were reset"))
            assert lacks("full_page_images", "the statistics were reset")(sample)
            assert "wal_rate" in sample.values
            await until(probe, has("commit_rate"))

    run(watch())


def test_a_restart_is_seen_and_survived(new_server: Callable[..., LocalServer], major: int, role_dsn: RoleDsn) -> None:
    """While the server is away, samples fail with the reason; then the probe is back, and rates begin anew."""
    server = new_server(major=major)

    async def watch() -> None:
        async with LoadProbe(role_dsn(server)) as probe:
            await until(probe, has("wal_rate"))
            await asyncio.to_thread(server.stop)
            failed = await probe.sample()
            assert failed.values == {}
            assert not probe.connected
            refused = await probe.sample()
            assert "refused" in refused.unavailable["commit_latency"]
            await asyncio.to_thread(server.start)
            back = await until(probe, has("commit_latency"))
            assert back.unavailable["wal_rate"] == "the server was restarted, or another one answers"
            await until(probe, has("wal_rate"))

    run(watch())


def test_a_session_that_is_ended_is_replaced(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """One failed sample that says who ended it; the rates go on, as the server is the same."""

    async def watch() -> None:
        async with LoadProbe(role_dsn(any_server)) as probe:
            await until(probe, has("wal_rate"))
            await sql(
                any_server,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backup_guard'",
            )
            failed = await probe.sample()
            assert "terminating connection due to administrator command" in failed.missing
            back = await probe.sample()
            assert "commit_latency" in back.values
            await until(probe, has("wal_rate"), seconds=2)

    run(watch())
    assert own_sessions(any_server) == 0


def test_a_commit_that_hangs_is_waited_for_in_one_session(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn
) -> None:
    """Samples fail with the time that has passed; when the commit ends, its latency is known; nobody piles up."""
    server = new_server()

    async def watch() -> LoadSample:
        async with LoadProbe(role_dsn(server), timeout=0.3) as probe:
            await until(probe, has("commit_latency"))
            assert probe.pending is None
            await sql(server, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            await asyncio.to_thread(server.reload)
            for _ in range(4):
                failed = await until(probe, lambda sample: "no answer for" in sample.missing)
                assert failed.values == {}
                assert await asyncio.to_thread(own_sessions, server) == 1
            assert probe.connected
            assert probe.pending is not None
            assert probe.pending[0] == "commit_latency"
            assert probe.pending[1] > 0.9
            await sql(server, "ALTER SYSTEM RESET synchronous_standby_names")
            await asyncio.to_thread(server.reload)
            return await until(probe, has("commit_latency"))

    assert run(watch()).values["commit_latency"] > 0.9


def test_whoever_leaves_while_a_commit_hangs_leaves_nothing_behind(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn
) -> None:
    """The server is told to give up the commit; otherwise its process would wait for the standby, maybe for ever."""
    server = new_server()
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.reload()

    async def watch() -> None:
        async with LoadProbe(role_dsn(server), timeout=0.3) as probe:
            await until(probe, lambda sample: probe.pending is not None)

    run(watch())
    deadline = time.monotonic() + 10
    while own_sessions(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_whoever_leaves_a_session_that_is_frozen_does_not_wait_for_it(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn
) -> None:
    """A server may not even answer that it was told to give up."""
    server = new_server()

    async def watch() -> float:
        async with LoadProbe(role_dsn(server), timeout=0.3) as probe:
            await until(probe, has("commit_latency"))
            pid = int(await sql(server, "SELECT pid FROM pg_stat_activity WHERE application_name = 'backup_guard'"))
            os.kill(pid, signal.SIGSTOP)
            try:
                await until(probe, lambda sample: "no answer for" in sample.missing)
                left = time.monotonic()
                await probe.__aexit__(None, None, None)
                return time.monotonic() - left
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    assert run(watch()) < 8


def test_a_server_that_cannot_be_reached_is_a_failed_sample(server: LocalServer, role_dsn: RoleDsn) -> None:
    """A wrong password, with the remedy; nothing is raised."""

    async def watch() -> LoadSample:
        async with LoadProbe(role_dsn(server, password="wrong")) as probe:
            return await probe.sample()

    sample = run(watch())
    assert sample.values == {}
    assert "password authentication failed" in sample.unavailable["commit_latency"]


# A plan's own signals


def asked(dsn: str, queries: dict[str, str], condition: Callable[[LoadProbe], Awaitable[LoadSample]]) -> LoadSample:
    """A sample with signals of these queries."""
    limits = LoadLimits(custom={name: {"sql": query, "max": 1} for name, query in queries.items()})

    async def watch() -> LoadSample:
        async with LoadProbe(dsn, custom=limits.custom) as probe:
            return await condition(probe)

    return run(watch())  # type: ignore[no-any-return]


async def answered(probe: LoadProbe) -> LoadSample:
    """The first sample in which all queries have answers."""
    return await until(probe, lambda sample: "not answered yet" not in sample.unavailable.values())


def test_a_plan_may_have_signals_of_its_own(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """Any number from zero up, of any type, however the query is written."""
    queries = {
        "integer": "SELECT count(*) FROM generate_series(1, 7);",
        "numeric": "WITH a AS (SELECT 1.5 AS b) SELECT b FROM a -- half as much again",
        "float": "VALUES (2.5::float8)",
        "percent": "SELECT 7 % 4",
    }
    sample = asked(role_dsn(any_server), queries, answered)
    found = {name: value for name, value in sample.values.items() if name.startswith("custom.")}
    assert found == {"custom.integer": 7.0, "custom.numeric": 1.5, "custom.float": 2.5, "custom.percent": 3.0}


def test_a_wrong_answer_is_unknown_and_says_why(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """Each by itself: one bad query takes nothing from the others, nor from ours, and no query changes anything."""
    any_server.sql("CREATE TABLE kept AS SELECT 1 AS n; GRANT ALL ON kept TO guard; CREATE SEQUENCE numbers")
    any_server.sql("GRANT ALL ON SEQUENCE numbers TO guard; GRANT USAGE ON SCHEMA public TO guard")
    reasons = {
        "SELECT count(*) FROM nothing": 'relation "nothing" does not exist',
        "SELECT 1 / 0": "division by zero",
        "SELECT NULL": "it returned NULL",
        "SELECT NULL::int": "it returned NULL",
        "SELECT 'many'": "it returned str, not a number",
        "SELECT true": "it returned bool, not a number",
        "SELECT generate_series(1, 1000000)": "it returned more than one row",
        "SELECT 1 WHERE false": "it returned no row",
        "SELECT 1, 2": "it returned 2 columns, not one",
        "SELECT 1; DELETE FROM kept": "syntax error",
        "SELECT 1) AS a; DELETE FROM kept; SELECT (1": "cannot insert multiple commands",
        "WITH gone AS (DELETE FROM kept RETURNING 1) SELECT 1": "WITH clause containing a data-modifying statement",
        "SELECT nextval('numbers')": "cannot execute nextval() in a read-only transaction",
        "SELECT count(*) FROM pg_sleep(5)": "it did not end within 250 ms",
    }
    queries = {f"query {number}": query for number, query in enumerate(reasons)}
    sample = asked(role_dsn(any_server), {**queries, "good": "SELECT 1"}, answered)
    try:
        for number, (query, reason) in enumerate(reasons.items()):
            assert reason in sample.unavailable[f"custom.query {number}"], query
        assert sample.values["custom.good"] == 1.0
        assert "commit_latency" in sample.values
        assert any_server.sql("SELECT count(*) FROM kept") == "1"
    finally:
        any_server.sql("DROP TABLE kept; DROP SEQUENCE numbers")


def test_a_slow_query_does_not_hold_up_the_probe(server: LocalServer, role_dsn: RoleDsn) -> None:
    """Commits are timed as often as ever while it runs."""

    async def condition(probe: LoadProbe) -> LoadSample:
        await answered(probe)
        began = time.monotonic()
        slowest = 0.0
        while time.monotonic() - began < 1.5:
            asked_at = time.monotonic()
            await probe.sample()
            slowest = max(slowest, time.monotonic() - asked_at)
            await asyncio.sleep(0.05)
        return LoadSample((await probe.sample()).taken_at, {"slowest": slowest})

    queries = {f"slow {number}": "SELECT count(*) FROM pg_sleep(5)" for number in range(4)}
    assert asked(role_dsn(server), queries, condition).values["slowest"] < 0.5


def test_answers_grow_old(new_server: Callable[..., LocalServer], role_dsn: RoleDsn) -> None:
    """What a query said before its session froze is not kept for ever."""
    server = new_server()

    async def condition(probe: LoadProbe) -> LoadSample:
        await until(probe, has("custom.one", 1.0))
        pid = int(await sql(server, "SELECT pid FROM pg_stat_activity WHERE query LIKE '%AS answer LIMIT 2%' LIMIT 1"))
        os.kill(pid, signal.SIGSTOP)
        try:
            return await until(probe, lacks("custom.one", "no answer for"))
        finally:
            os.kill(pid, signal.SIGCONT)

    assert "commit_latency" in asked(role_dsn(server), {"one": "SELECT 1"}, condition).values
