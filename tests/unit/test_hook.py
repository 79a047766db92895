"""Which of Airflow's connections a plan leads to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import attrs
import pytest

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.postgres.connection import parse_conninfo

PLAN = BackupPlan(
    name="shop",
    connection="shop_standby",
    repository="file:///srv/backups",
    calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
)


def test_source_and_load_have_connections_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same in a task and in a trigger; a plan without a load connection has none."""
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_STANDBY", "postgres://guard:s@standby.example:5433/shop")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_PRIMARY", "postgres://guard:p@primary.example:5432/shop")
    assert BackupGuardHook(PLAN).load_dsn() is None
    assert asyncio.run(BackupGuardHook(PLAN).async_load_dsn()) is None
    hook = BackupGuardHook(attrs.evolve(PLAN, load_connection="shop_primary"))
    hosts = [hook.dsn(), hook.load_dsn(), asyncio.run(hook.async_dsn()), asyncio.run(hook.async_load_dsn())]
    assert [parse_conninfo(dsn or "")["host"] for dsn in hosts] == ["standby.example", "primary.example"] * 2
