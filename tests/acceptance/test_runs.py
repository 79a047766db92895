"""Real runs in a real Airflow: what the example DAG does, and what becomes of a run that is stopped or killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil
import pytest

from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.operators.live import STATE_KEY
from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import TOP, Airflow
from tests.integration.guarded import slots


def test_the_example_dag_makes_a_verified_backup(airflow: Airflow) -> None:
    """Gates, snapshot, copy, verify and notify all succeed, and say what they saw."""
    run = airflow.scheduled("guarded_base_backup")
    assert airflow.finish(run) == "success", {task: airflow.log(run, task) for task in airflow.states(run)}
    assert set(airflow.states(run).values()) == {"success"}
    repository = open_repository(airflow.repository.as_uri())
    record = catalog.find(repository, airflow.returned(run, "copy")["backup_id"])
    verification = catalog.last_verification(repository, record)
    assert verification is not None
    assert verification.verdict is Verdict.VERIFIED
    assert verify(record, repository).verdict is Verdict.VERIFIED
    told = airflow.returned(run, "notify")
    assert told["good"] is True
    for expected in ("gate off-peak", "gate write load", "commit latency", "stored", "commits during", "verified"):
        assert expected in told["text"]
    name = f"airflow.backup_guard.{record.plan_name}.copy."
    assert airflow.metrics.values[name + "throttled_seconds"] == pytest.approx(record.impact.seconds_throttled, abs=0.1)
    assert airflow.metrics.values[name + "bytes_read"] > 0
    assert airflow.metrics.values[name + "level"] == 0
    assert "≤ 25.0 ms" in airflow.returned(run, "write_load")["text"]
    # Other tests have other plans.
    sent = [name.split(".", 3)[3] for name in airflow.metrics.values if name.startswith("airflow.backup_guard.")]
    assert {"gate.off_peak.wait_seconds", "gate.write_load.open", "backup.age_seconds"} <= set(sent)
    page = (TOP / "docs/metrics.md").read_text()
    assert [name for name in sent if f"`backup_guard.<plan>.{name}`" not in page] == []


def task_process(airflow: Airflow, run: str) -> psutil.Process:
    """The process that runs the copy's ``execute``; Airflow writes the task instance's id into its title."""
    task_id = airflow.api("GET", f"{run}/taskInstances/copy")["id"]
    for process in psutil.process_iter(["cmdline"]):
        if f"airflow worker -- {task_id}" in " ".join(process.info["cmdline"] or ()):
            return process
    raise AssertionError(f"no process runs {task_id}")


def copying(airflow: Airflow) -> str:
    """A run of the slow DAG whose copy is under way."""
    run = airflow.trigger("slow")
    backing_up = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE backup_streamed > 1000000"
    airflow.wait_until(lambda: airflow.server.sql(backing_up) == "1", "a copy")
    return run


def sessions_since(airflow: Airflow, moment: str) -> int:
    """Sessions of ours that began after ``moment``; the watchdog of other tests may have had some for longer."""
    ours = f"application_name LIKE 'backup_guard%' AND backend_start > '{moment}'"
    return int(airflow.server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}"))


def mark_failed(airflow: Airflow, run: str) -> None:
    """What a person does in the UI."""
    airflow.api("PATCH", f"{run}/taskInstances/copy", new_state="failed")


def terminate(airflow: Airflow, run: str) -> None:
    """What Kubernetes or an operator does."""
    task_process(airflow, run).send_signal(signal.SIGTERM)


def kill(airflow: Airflow, run: str) -> None:
    """What the kernel does when memory runs out."""
    os.kill(task_process(airflow, run).pid, signal.SIGKILL)


def halt(airflow: Airflow, run: str) -> None:
    """What the DAG that answers an incident does."""
    answer = airflow.trigger("halt_slow")
    assert airflow.finish(answer) == "success", airflow.log(answer, "stop")
    (stopped,) = airflow.returned(answer, "stop")
    assert stopped["obeyed"] is True and stopped["ended"] is True
    assert "checkout is slow" in airflow.log(run, "copy") and "task stop of halt_slow" in airflow.log(run, "copy")


@pytest.mark.parametrize("end", [mark_failed, terminate, kill, halt], ids=lambda end: end.__name__)
def test_a_copy_that_is_ended_is_never_a_success_and_leaves_nothing(
    airflow: Airflow, end: Callable[[Airflow, str], None]
) -> None:
    """No session, no slot, no visible backup, no stored byte; the task and the run are failed, the teardown ran."""
    began = airflow.server.sql("SELECT now()")
    run = copying(airflow)
    airflow.wait_until(lambda: bool((airflow.kept(run, "copy", STATE_KEY) or {}).get("done")), "the state of the copy")
    kept = airflow.kept(run, "copy", STATE_KEY)
    assert kept["plan"] == "slow"
    assert 0 < kept["done"] < kept["total"]
    assert kept["signals"]["commit_latency"] > 0
    end(airflow, run)
    airflow.wait_until(
        lambda: sessions_since(airflow, began) == 0 and slots(airflow.server) == 0,
        "the end of all sessions and slots",
        10,
    )
    assert airflow.finish(run) == "failed"
    states = airflow.states(run)
    assert states["copy"] == "failed"
    assert states["snapshot_teardown"] == "success"
    assert states["notify"] == "failed"
    repository = open_repository(airflow.repository.as_uri())
    assert list(catalog.backups(repository, "slow")) == []
    assert list(repository.list("backups/slow/")) == []


def test_halting_what_does_not_run(airflow: Airflow) -> None:
    """To stop a backup when none runs is a success that stopped nothing."""
    run = airflow.trigger("halt_wrong_password")
    assert airflow.finish(run) == "success"
    assert airflow.returned(run, "stop") == []


def test_a_backup_that_cannot_begin_says_why(airflow: Airflow) -> None:
    """A wrong password fails the snapshot at once, and the report carries the reason and the remedy."""
    run = airflow.trigger("wrong_password")
    assert airflow.finish(run) == "failed"
    states = airflow.states(run)
    assert states["snapshot"] == "failed"
    assert states["copy"] == "upstream_failed"
    log = airflow.log(run, "notify")
    assert "password authentication failed" in log
    assert "Correct the user or password" in log


def test_gates_give_one_answer_however_they_wait(airflow: Airflow) -> None:
    """Poked, rescheduled and deferred: all open where one opens, with the same findings; all time out otherwise."""
    opened, closed = airflow.trigger("gates_open"), airflow.trigger("gates_closed")
    assert airflow.finish(opened) == "success"
    assert airflow.finish(closed) == "failed"
    assert set(airflow.states(opened).values()) == {"success"}
    assert set(airflow.states(closed).values()) == {"failed"}
    for sensor in ("OffPeakSensor", "WriteLoadSensor"):
        seen = [airflow.returned(opened, f"{sensor}_{way}") for way in ("poked", "rescheduled", "deferred")]
        assert all(answer["opened"] for answer in seen)
        if sensor == "WriteLoadSensor":
            names = [[finding["signal"] for finding in answer["findings"]] for answer in seen]
            assert names[0][:4] == ["commit_latency", "wal_rate", "tuple_rate", "commit_rate"]
            assert sorted(map(sorted, names)) == [sorted(names[0])] * 3
        log = airflow.log(closed, f"{sensor}_poked")
        assert ("outside of" if sensor == "OffPeakSensor" else "commit latency") in log
