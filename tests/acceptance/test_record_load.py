"""The example DAGs of the load, run by Airflow itself in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_backup_guard.core.load_history import LOAD_SIGNALS
from airflow_backup_guard.engine.load_history import read, store
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import TOP, scrubbed_environment
from tests.load_weeks import DAY, record_weeks

Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, server: LocalServer) -> dict[str, str]:
    """A new Airflow with its database, the example's connection, and an empty repository."""
    home = tmp_path_factory.mktemp("airflow")
    settings = {
        **scrubbed_environment(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(TOP / "dags"),
        "AIRFLOW_CONN_SHOP_PRIMARY": f"postgres://guard:guard@127.0.0.1:{server.port}/postgres",
        "SHOP_BACKUP_REPOSITORY": (home / "backups").as_uri(),
        "SHOP_OFF_PEAK": "daily 01:00-05:00",
        "SHOP_TIME_ZONE": "UTC",
    }
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, env=settings, cwd=home, check=True, capture_output=True)
    return settings


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """``run("record_load")``: one run to its end; its state, and what its tasks returned."""

    def once(dag_id: str) -> dict[str, Any]:
        result = tmp_path / f"{dag_id}.json"
        command = [sys.executable, str(TOP / "demo" / "run_dag.py"), dag_id, str(TOP / "dags" / "record_load.py")]
        done = subprocess.run(
            [*command, str(result)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.exists(), done.stdout[-4000:] + done.stderr[-4000:]
        return {**json.loads(result.read_text()), "log": done.stdout + done.stderr}

    return once


def test_the_load_is_recorded_and_then_reported(run: Run, environment: dict[str, str]) -> None:
    """Before the first entry the report is skipped; an entry is kept; windows that are busy are told in the log."""
    repository = open_repository(environment["SHOP_BACKUP_REPOSITORY"])
    assert run("quiet_hours")["states"] == {"report": "skipped"}
    recorded = run("record_load")
    assert recorded["state"] == "success", recorded["log"][-4000:]
    (entry,) = read(repository, "shop")
    assert recorded["returned"]["record"] == entry.to_dict()
    assert set(LOAD_SIGNALS) <= set(entry.values)
    now = datetime.now(timezone.utc)
    for one in record_weeks(1.5, lambda local: DAY, tz="UTC", until=now):
        if one.at.hour == 1:
            store(repository, "shop", one)
    reported = run("quiet_hours")
    assert reported["state"] == "success", reported["log"][-4000:]
    document = reported["returned"]["report"]
    assert document["title"] == "Windows of shop are not quiet"
    assert "Your 01:00 window is not quiet" in reported["log"]
