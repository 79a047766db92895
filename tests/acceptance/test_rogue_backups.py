"""Rogue backups in a real Airflow: sensors see them, and an event starts the example's answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import Airflow

# Nobody reads what it writes: it lasts until it is ended.
BASE_BACKUP = ("pg_basebackup", "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast")


@contextmanager
def rogue_backup(airflow: Airflow, *options: str) -> Iterator[subprocess.Popen[Any]]:
    """A base backup that nobody guards."""
    process = airflow.server.popen(*BASE_BACKUP, *options, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def evidence(airflow: Airflow, plan: str) -> list[Path]:
    """All that is kept of the rogue backups of a plan."""
    return sorted((airflow.repository / "rogues" / plan).glob("*"))


def test_a_sensor_sees_it_and_the_answer_ends_it(airflow: Airflow) -> None:
    """However the sensor waits, its answer is the same; people hear once, and the backup ends after its grace time."""
    airflow.server.sql("GRANT pg_signal_backend TO guard")
    ways = ("poked", "rescheduled", "deferred")
    try:
        run = airflow.trigger("rogue_backups")
        airflow.wait_until(lambda: airflow.states(run)["deferred"] == "deferred", "a sensor that is deferred")
        with rogue_backup(airflow, "--username=guard") as process:
            assert airflow.finish(run) == "success", {name: airflow.log(run, name) for name in (*ways, "respond")}
            process.communicate(timeout=10)
            assert process.returncode != 0
    finally:
        airflow.server.sql("REVOKE pg_signal_backend FROM guard")
    seen = {way: airflow.returned(run, way) for way in ways}
    ids = {found["id"] for answer in seen.values() for found in answer["rogues"]}
    assert len(ids) == 1, seen
    assert all(answer["opened"] and "pg_basebackup (base backup)" in answer["text"] for answer in seen.values())
    (outcome,) = airflow.returned(run, "respond")["outcomes"]
    assert (outcome["id"], outcome["state"]) == (ids.pop(), "ended")
    told = (airflow.repository.parent / "rogues.told").read_text().splitlines()
    assert len(told) == 1
    assert told[0].startswith("Rogue backup on rogues: pg_basebackup (base backup) by role guard")
    assert "The evidence: server process" in airflow.log(run, "respond")


def test_an_event_starts_the_answer_of_the_example(airflow: Airflow) -> None:
    """The triggerer watches: one backup makes one event, one run and one piece of evidence, however long it lasts."""
    airflow.unpause("rogue_backup_response")
    # Airflow begins to watch for a DAG that was paused once it parses its file again.
    airflow.api("PUT", f"/parseDagFile/{airflow.api('GET', '/dags/rogue_backup_response')['file_token']}")
    runs = "/dags/rogue_backup_response/dagRuns"
    assert airflow.api("GET", runs)["total_entries"] == 0
    with rogue_backup(airflow):
        airflow.wait_until(lambda: airflow.api("GET", runs)["total_entries"] > 0, "a run that an event started", 60)
        run = f"{runs}/{airflow.api('GET', runs)['dag_runs'][0]['dag_run_id']}"
        assert airflow.finish(run) == "success", airflow.log(run, "respond")
        (outcome,) = airflow.returned(run, "respond")["outcomes"]
        assert [action["action"] for action in outcome["actions"]] == ["alerted", "running"]
        again = airflow.trigger("rogue_backup_response")
        assert airflow.finish(again) == "success"
        assert [one["state"] for one in airflow.returned(again, "respond")["outcomes"]] == ["answered"]
        assert airflow.api("GET", runs)["total_entries"] == 2
    names = [path.name.removeprefix(outcome["id"]) for path in evidence(airflow, "shop")]
    assert names == [".json", ".outcome.json", ".told"]
    kept = json.loads((airflow.repository / "rogues" / "shop" / f"{outcome['id']}.json").read_text())
    assert kept["backup"]["program"] == "pg_basebackup"
    assert kept["responder"].startswith("rogue_backup_response asset_triggered")
