"""Which of Airflow's connections a plan leads to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import attrs
import pytest

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.postgres.connection import parse_conninfo
from airflow_backup_guard.repository.s3 import S3Repository, client_config

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


def test_an_aws_connection_behaves_as_without_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many connections, and the same patience, but for what the connection itself says of them."""
    extra = {"region_name": "eu-west-1", "config_kwargs": {"read_timeout": 7}}
    connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_OF_BACKUPS", json.dumps(connection))
    repository = BackupGuardHook(attrs.evolve(PLAN, repository="s3://of_backups@example-backups/shop")).repository()
    assert isinstance(repository, S3Repository)
    config, usual = repository.place[0].meta.config, client_config()
    assert config.read_timeout == 7 != usual.read_timeout
    for name in ("max_pool_connections", "connect_timeout", "retries", "tcp_keepalive", "response_checksum_validation"):
        assert getattr(config, name) == getattr(usual, name), name
