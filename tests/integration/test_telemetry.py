"""What a copy tells of itself while it runs and afterwards; and that a long pause does not cut it off."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from airflow_backup_guard import cli
from airflow_backup_guard.core import OffPeakCalendar, outlook
from airflow_backup_guard.core.control import Action, Order
from airflow_backup_guard.engine import catalog, control, telemetry
from airflow_backup_guard.engine.progress import ProgressLog
from airflow_backup_guard.operators.live import STATE_KEY, LiveView
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from tests.integration.guarded import CopyInFlight, plan_for, wait_until


class Store:
    """Where Airflow keeps the state of a task; the acceptance tests look at its own."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def set(self, key: str, value: dict[str, Any]) -> None:
        assert key == STATE_KEY
        self.states.append(value)


def order(action: Action) -> Order:
    """From somebody."""
    return Order(1, action, by="alice@db1", reason="a test", at=datetime.now(timezone.utc))


def test_a_copy_survives_a_pause_longer_than_the_servers_patience(
    new_server: Callable[..., LocalServer], role_dsn: Callable[..., str], tmp_path: Path
) -> None:
    """A server that gives up on clients after a second of silence keeps one that trickles for eight."""
    server = new_server(settings={"tcp_user_timeout": "1s", "wal_sender_timeout": "2s"})
    server.sql("CREATE TABLE filler AS SELECT n, repeat('x', 500) FROM generate_series(1, 60000) n")
    plan = plan_for(tmp_path / "backups", max_rate="20MB/s", min_rate="64kB/s")
    with CopyInFlight(plan, role_dsn(server)) as copying:
        control.give(copying.repository, copying.snapshot, order(Action.PAUSE))
        wait_until(lambda: copying.last is not None and copying.last.pace.state.value == "paused", 30)
        time.sleep(8)
        assert copying.error is None
        control.give(copying.repository, copying.snapshot, order(Action.RESUME))
        copying.end(300)
    assert copying.record is not None, copying.error
    assert copying.record.impact.seconds_paused > 7


def test_telemetry_is_stored_while_the_copy_runs(
    guard_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In pieces, the first of which are there before the end; all of it in order; and the command draws it."""
    monkeypatch.setattr(telemetry, "_LINES_PER_PIECE", 2)
    plan = plan_for(tmp_path / "backups", max_rate="8MB/s", min_rate="8MB/s")
    with CopyInFlight(plan, guard_dsn) as copying:
        pieces = f"backups/shop/{copying.snapshot.backup_id}/telemetry/"
        wait_until(lambda: len(list(copying.repository.list(pieces))) > 1, 30)
        assert copying.record is None
        copying.end()
    record = copying.record
    assert record is not None, copying.error
    lines = catalog.telemetry(copying.repository, record)
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    read = [line["bytes_read"] for line in lines]
    assert read == sorted(read)
    assert {line["phase"] for line in lines} == {"before", "during", "after"}
    impact = record.impact
    assert sum(impact.seconds_at.values()) == pytest.approx(record.seconds, abs=1)
    assert set(impact.seconds_at) <= {"normal", "high", "unknown", "critical"}
    picture = tmp_path / "copy.svg"
    arguments = ["show", record.backup_id, "--repository", plan.repository, "--picture", str(picture)]
    assert cli.main(arguments) == cli.GOOD, capsys.readouterr().err
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")  # our own


def test_what_runs_is_shown_and_what_comes_late_is_said_once(
    guard_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the task has where the copy is and why; a window that will not be met is a warning."""
    monkeypatch.setattr(outlook, "_LEAST", timedelta(seconds=3))
    monkeypatch.setattr(outlook, "_LASTING", timedelta(seconds=3))
    now = datetime.now(timezone.utc)
    end = now + timedelta(minutes=3)
    window = OffPeakCalendar.parse(f"daily {now - timedelta(hours=1):%H:%M}-{end:%H:%M}", tz="UTC")
    plan = plan_for(tmp_path / "backups", max_rate="64kB/s", min_rate="64kB/s", calendar=window)
    store = Store()
    said: list[str] = []
    warned: list[str] = []
    live, log = LiveView("shop", "an-id", store), ProgressLog(said.append, warned.append)
    with CopyInFlight(plan, guard_dsn) as copying:

        def enough() -> bool:
            if copying.last is not None and copying.last.total:
                live(copying.last)
                log(copying.last)
            return bool(warned) and len(store.states) > 1

        wait_until(enough, 90)
        copying.stop.request("seen enough")
        copying.end()
    (warning,) = warned
    assert "will not be done within its window" in warning
    assert "goes on at its floor" in warning
    state = store.states[-1]
    assert state["done"] > 0
    assert state["allowed_rate"] == 64_000
    assert state["level"] == "normal"
    assert state["signals"]["commit_latency"] > 0
    assert state["finish"] > state["window_end"]
    assert state["late"] == "floor"
    assert 1 < len(state["recent"]) <= 300
    assert any("done about" in line for line in said)


def test_tune_proposes_limits_that_a_plan_takes(guard_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It watches for as long as it was told, and says that so short a time is a guess."""
    assert cli.main(["tune", "--dsn", guard_dsn, "--for", "3s"]) == cli.GOOD
    out = capsys.readouterr().out
    assert "[limits]" in out
    assert "commit_latency = [" in out
    assert "a guess" in out


def test_tune_says_why_nothing_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """A database that cannot be reached is an error, and no proposal."""
    assert cli.main(["tune", "--dsn", "host=127.0.0.1 port=1 user=x", "--for", "2s"]) == cli.BAD
    assert "Nothing could be measured" in capsys.readouterr().err


def test_a_copy_behind_a_starved_gate_stays_at_its_floor(
    guard_dsn: str, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a gate that opened because the RPO could not wait any longer, the floor is all that is allowed."""
    from airflow_backup_guard.core.backup import dump_plain
    from airflow_backup_guard.engine.snapshot import take_snapshot
    from airflow_backup_guard.operators import ThrottledCopyOperator

    monkeypatch.setenv("AIRFLOW_CONN_SHOP", f"postgres://guard:guard@127.0.0.1:{server.port}/postgres")
    plan = plan_for(tmp_path / "backups", min_rate="5MB/s")
    repository = open_repository(plan.repository)
    snapshot = take_snapshot(plan, guard_dsn, repository)
    copying = ThrottledCopyOperator(task_id="copy", plan=plan, snapshot=dump_plain(snapshot), gate={"at_floor": True})
    priorities = []

    def execute() -> str:
        done = copying.execute({})
        priorities.append(os.getpriority(os.PRIO_PROCESS, 0))
        return str(done["backup_id"])

    with ThreadPoolExecutor(1) as pool:  # Linux keeps the priority for each thread, and that of the tests is to stay
        backup_id = pool.submit(execute).result()
    assert priorities[0] >= 10, "a copy puts itself behind other processes"
    lines = catalog.telemetry(repository, catalog.find(repository, backup_id))
    assert {line["rate"] for line in lines} == {5_000_000}
    # Below its ceiling it would be throttled all the time.
    assert "running" in {line["state"] for line in lines}
