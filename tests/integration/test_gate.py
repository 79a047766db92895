"""Gates on a real database: they share its probe, each decides by its own plan, and none disturbs another."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_backup_guard.core import BackupPlan, LoadLimits
from airflow_backup_guard.core.gate import GateReading
from airflow_backup_guard.core.load import LoadLevel
from airflow_backup_guard.engine import shared_probe
from airflow_backup_guard.engine.gate import look, watch_load
from airflow_backup_guard.engine.shared_probe import shared_load
from airflow_backup_guard.postgres.probe import LoadProbe
from airflow_backup_guard.postgres.server import LocalServer
from tests.integration.guarded import ALWAYS

RoleDsn = Callable[..., str]
OWN = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backup_guard'"


def run(test: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that must not hang."""
    return asyncio.run(asyncio.wait_for(test, 60))


def plan(quiet_for: str = "1s", **limits: Any) -> BackupPlan:
    """Open once that long below limits that are generous unless given."""
    return BackupPlan(
        name="shop",
        connection="shop",
        repository="file:///srv/backups",
        calendar=ALWAYS,
        quiet_for=quiet_for,
        limits=LoadLimits(**{"commit_latency": "10s", **limits}),
    )


async def opening(made: BackupPlan, dsn: str) -> GateReading:
    """The reading with which a gate opens."""
    async with aclosing(watch_load(made, dsn)) as readings:
        async for reading in readings:
            if reading.opened:
                return reading
    raise AssertionError


async def ended(server: LocalServer) -> None:
    """Wait until the server has none of our sessions."""
    deadline = time.monotonic() + 10
    while await asyncio.to_thread(server.sql, OWN) != "0":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moments at which a probe measured."""
    moments: list[float] = []
    sample = LoadProbe.sample

    async def counting(probe: LoadProbe) -> Any:
        moments.append(time.monotonic())
        return await sample(probe)

    monkeypatch.setattr(LoadProbe, "sample", counting)
    return moments


def test_many_gates_are_one_session_and_one_sample_a_second(
    server: LocalServer, guard_dsn: str, counted: list[float]
) -> None:
    """Forty gates with forty limits ask no more than one does, and all open."""

    async def test() -> None:
        gates = [asyncio.create_task(opening(plan("3s", wal_rate=f"{n + 500}MB/s"), guard_dsn)) for n in range(40)]
        await asyncio.sleep(2)
        assert await asyncio.to_thread(server.sql, OWN) == "1"
        readings = await asyncio.gather(*gates)
        assert all(reading.opened for reading in readings)
        await ended(server)

    run(test())
    spacings = [after - before for before, after in pairwise(counted)]
    assert len(counted) >= 4
    assert min(spacings) >= shared_probe.SAMPLE_SECONDS * 0.99


def test_each_gate_opens_when_its_own_plan_says(guard_dsn: str) -> None:
    """Different spans of quiet on one probe, and a limit that only one of them has."""

    async def test() -> None:
        began = time.monotonic()
        quick = asyncio.create_task(opening(plan("1s"), guard_dsn))
        slow = asyncio.create_task(opening(plan("4s"), guard_dsn))
        never = asyncio.create_task(opening(plan("1s", commit_latency="0.001ms"), guard_dsn))
        quick_reading = await quick
        quick_seconds = time.monotonic() - began
        assert not slow.done()
        slow_reading = await slow
        assert time.monotonic() - began >= quick_seconds + 2
        assert not never.done()
        never.cancel()
        assert quick_reading.quiet.lasted.total_seconds() >= 1
        assert slow_reading.quiet.lasted.total_seconds() >= 4

    run(test())


def test_a_gate_that_comes_late_counts_its_own_quiet(guard_dsn: str) -> None:
    """What others saw before it came is no quiet of its own, though it may be its baseline."""

    async def test() -> None:
        async with shared_load(guard_dsn) as load:
            for _ in range(3):
                await load.sample()
            began = time.monotonic()
            reading = await opening(plan("2s", commit_latency="1000x"), guard_dsn)
            assert time.monotonic() - began >= 2
            assert reading.assessment.level is LoadLevel.NORMAL

    run(test())


def test_queries_of_one_plan_are_not_those_of_another(server: LocalServer, guard_dsn: str) -> None:
    """The same name with other queries is another signal; one that fails keeps its own gate closed only."""

    def custom(sql: str) -> BackupPlan:
        return plan(custom={"queue": {"sql": sql, "max": "5"}})

    async def test() -> None:
        loud = asyncio.create_task(opening(custom("SELECT 9"), guard_dsn))
        broken = asyncio.create_task(opening(custom("SELECT 1/0"), guard_dsn))
        gates = [asyncio.create_task(opening(custom("SELECT 1"), guard_dsn)) for _ in range(5)]
        await asyncio.sleep(1.5)
        assert await asyncio.to_thread(server.sql, OWN) == "4"
        for reading in await asyncio.gather(*gates):
            found = {finding.signal: finding.value for finding in reading.assessment.findings}
            assert found["custom.queue"] == 1
        assert not loud.done()
        assert not broken.done()
        await asyncio.sleep(2.5)
        assert await asyncio.to_thread(server.sql, OWN) == "3"
        for gate in (loud, broken):
            gate.cancel()
        await asyncio.wait({loud, broken})
        await ended(server)

    run(test())


def test_a_gate_that_is_cancelled_leaves_the_others_alone(server: LocalServer, guard_dsn: str) -> None:
    """Also the one that came first; and the last one takes the session with it."""

    async def test() -> None:
        gates = [asyncio.create_task(opening(plan("600s"), guard_dsn)) for _ in range(3)]
        survivor = asyncio.create_task(opening(plan("4s"), guard_dsn))
        await asyncio.sleep(1.5)
        for gate in gates:
            gate.cancel()
        await asyncio.wait(gates)
        assert all(gate.cancelled() for gate in gates)
        assert await asyncio.to_thread(server.sql, OWN) == "1"
        assert (await survivor).opened
        await ended(server)
        assert not shared_probe._databases[asyncio.get_running_loop()]

    run(test())


def test_all_cancelled_at_once_leave_nothing(server: LocalServer, guard_dsn: str) -> None:
    """As a triggerer does it when it ends: every task of the loop, the probe's own among them."""

    async def test() -> None:
        for _ in range(20):
            asyncio.create_task(opening(plan("600s"), guard_dsn))  # noqa: RUF006
        await asyncio.sleep(1.5)

    run(test())
    run(ended(server))


def test_gates_may_come_and_go(server: LocalServer, guard_dsn: str) -> None:
    """The first begins a new probe after the last has left, again and again."""

    async def test() -> None:
        for _ in range(3):
            gate = asyncio.create_task(opening(plan("600s"), guard_dsn))
            await asyncio.sleep(0.3)
            gate.cancel()
            assert (await opening(plan("0s"), guard_dsn)).opened
        await ended(server)

    run(test())


def test_a_server_that_restarts_closes_the_gates_until_it_is_back(new_server: Callable[..., LocalServer]) -> None:
    """Unknown is not quiet; afterwards all of them open without anybody's help."""
    server = new_server()
    dsn = server.dsn()

    async def test() -> None:
        levels: list[set[LoadLevel]] = [set(), set()]

        async def watch(number: int) -> bool:
            async with aclosing(watch_load(plan("6s"), dsn)) as readings:
                async for reading in readings:
                    levels[number].add(reading.assessment.level)
                    if reading.opened:
                        return True
            return False

        gates = [asyncio.create_task(watch(number)) for number in range(2)]
        await asyncio.sleep(2.5)
        await asyncio.to_thread(server.stop, "immediate")
        await asyncio.sleep(2.5)
        await asyncio.to_thread(server.start)
        assert await asyncio.gather(*gates) == [True, True]
        assert levels == [{LoadLevel.NORMAL, LoadLevel.UNKNOWN}] * 2

    run(test())


def test_an_error_of_our_own_is_unknown_and_passes(guard_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that breaks where nobody expects it must not leave a thousand gates waiting for a dead task."""
    sample, broken = LoadProbe.sample, [True, True, True]

    async def breaking(probe: LoadProbe) -> Any:
        if broken:
            broken.pop()
            raise RuntimeError("nobody expected this")
        return await sample(probe)

    monkeypatch.setattr(LoadProbe, "sample", breaking)

    async def test() -> None:
        levels = []
        async with aclosing(watch_load(plan("1s"), guard_dsn)) as readings:
            async for reading in readings:
                levels.append(reading.assessment.level)
                if reading.opened:
                    break
        assert levels[:2] == [LoadLevel.UNKNOWN] * 2
        assert levels[-1] is LoadLevel.NORMAL

    run(test())


def test_one_look_ends_at_the_first_loud_sample(server: LocalServer, guard_dsn: str) -> None:
    """A task that pokes takes its worker no longer than needed, and leaves no session."""
    began = time.monotonic()
    reading = run(look(plan("600s", commit_latency="0.001ms"), guard_dsn))
    assert not reading.opened
    assert time.monotonic() - began < 20
    run(ended(server))


def test_other_databases_are_other_probes(server: LocalServer, role_dsn: RoleDsn) -> None:
    """Each connection string has its own."""

    async def test() -> None:
        async with shared_load(role_dsn(server)) as one, shared_load(role_dsn(server, "watchdog")) as other:
            assert one is not other
            await asyncio.gather(one.sample(), other.sample())
            assert await asyncio.to_thread(server.sql, OWN) == "2"
            async with shared_load(role_dsn(server)) as again:
                assert again is one
        await ended(server)

    run(test())


def test_load_closes_and_its_end_opens(server: LocalServer, guard_dsn: str) -> None:
    """A session at work keeps a gate on active sessions closed, however long, and its end opens it."""

    async def test() -> None:
        busy = await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True)
        working = asyncio.create_task(busy.execute("SELECT pg_sleep(600)"))
        await asyncio.sleep(0.2)
        gate = asyncio.create_task(opening(plan("1s", active_sessions="0.5"), guard_dsn))
        await asyncio.sleep(4)
        assert not gate.done()
        await busy.cancel_safe()
        await asyncio.wait({working})
        assert isinstance(working.exception(), psycopg.errors.QueryCanceled)
        reading = await gate
        assert reading.assessment.level is LoadLevel.NORMAL
        await busy.close()

    run(test())


def test_the_plan_of_the_page_is_one() -> None:
    """What docs/gates.md shows can be written."""
    page = Path(__file__).resolve().parents[2] / "docs" / "gates.md"
    match = re.search(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert match is not None
    names: dict[str, Any] = {}
    exec(match[1], names)
    assert names["plan"].when_starved == "go_at_floor"
