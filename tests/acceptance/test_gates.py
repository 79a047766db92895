"""Gates in a real Airflow: what late and starved runs do, and a wait in which a part of Airflow dies."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import Airflow

WAYS = ("poked", "rescheduled", "deferred")


def told(airflow: Airflow, name: str) -> list[str]:
    """What was written for this name, line by line."""
    path = airflow.repository.parent / f"{name}.told"
    return path.read_text().splitlines() if path.exists() else []


def test_a_late_run_is_skipped_or_fails_with_the_reason(airflow: Airflow) -> None:
    """However it waits, at its first look, and without the retries that cannot help."""
    skipped, failed = airflow.trigger("late_skip"), airflow.trigger("late_fail")
    assert airflow.finish(failed) == "failed"
    assert airflow.finish(skipped) == "success"
    assert airflow.states(skipped) == dict.fromkeys(WAYS, "skipped")
    assert airflow.states(failed) == dict.fromkeys(WAYS, "failed")
    for way in WAYS:
        for run in (skipped, failed):
            path = f"{run}/taskInstances/{way}"
            reason = airflow.api("GET", f"{path}/xcomEntries/problem")["value"]
            assert "and 1h 1min needed; the next window opens" in reason
            assert airflow.api("GET", path)["try_number"] == 1


def test_a_starved_gate_alerts_and_then_follows_its_plan(airflow: Airflow) -> None:
    """The load never drops: one gate opens for a copy at the floor, the other fails; each alert is sent once a try."""
    opened, failed = airflow.trigger("starved_go_at_floor"), airflow.trigger("starved_fail")
    assert airflow.finish(opened) == "success", {way: airflow.log(opened, way) for way in WAYS}
    assert airflow.finish(failed) == "failed"
    assert set(airflow.states(failed).values()) == {"failed"}
    for way in WAYS:
        seen = airflow.returned(opened, way)
        assert (seen["opened"], seen["at_floor"], seen["urgency"]) == (True, True, "starved")
        for part in ("commit latency", "there is no verified backup", "RPO of 6s", "2MB/s at most (go_at_floor)"):
            assert part in seen["text"]
        for rule, run in {"go_at_floor": opened, "fail": failed}.items():
            tries = airflow.api("GET", f"{run}/taskInstances/{way}")["try_number"]
            titles = told(airflow, f"starved_{rule}_{way}")
            assert titles[-1] == "Backup of gate-rules is held up by the load (starved)"
            assert max(titles.count(title) for title in titles) <= tries, titles
            if rule == "fail":
                logs = [airflow.log(run, way, attempt) for attempt in range(1, tries + 1)]
                assert any("The load has not dropped" in log for log in logs)


class Parts:
    """The processes of an Airflow, which can be killed and begun anew."""

    def __init__(self, airflow: Airflow) -> None:
        self.home = airflow.repository.parent
        self.begun: list[subprocess.Popen[bytes]] = []

    def find(self, *words: str) -> list[psutil.Process]:
        """Processes of this Airflow with these words in their command line."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("AIRFLOW_HOME") == str(self.home):
                    command = " ".join(process.cmdline())
                    found += [process] * all(word in command for word in words)
        return found

    def kill(self, name: str) -> dict[str, str]:
        """SIGKILL to a part and all it has started; returns the environment that it had."""
        processes = self.find("airflow", f" {name}")
        environment = processes[0].environ()
        everything = {child for process in processes for child in process.children(recursive=True)}
        for process in {*processes, *everything}:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([*processes, *everything], timeout=10)
        return environment

    def begin(self, name: str, environment: dict[str, str]) -> None:
        """Start a part, for the rest of the session."""
        log = (self.home / f"{name}-again.log").open("w")
        command = [environment["_"] if Path(environment.get("_", "")).name == "airflow" else "airflow", name]
        self.begun.append(
            subprocess.Popen(
                command, env=environment, cwd=self.home, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        )

    def end(self) -> None:
        """End what was begun here."""
        for process in self.begun:
            process.terminate()
        for process in self.begun:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="session")
def parts(airflow: Airflow) -> Iterator[Parts]:
    """Until the end of the session, as other tests need what is begun here."""
    made = Parts(airflow)
    try:
        yield made
    finally:
        made.end()


def kill_triggerer(airflow: Airflow, parts: Parts, run: str) -> None:
    """As if its machine were gone; another one takes over its triggers once it is known to be dead."""
    environment = parts.kill("triggerer")
    parts.begin("triggerer", {**environment, "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "3"})


def kill_scheduler(airflow: Airflow, parts: Parts, run: str) -> None:
    """With the workers that are its children."""
    parts.begin("scheduler", parts.kill("scheduler"))


def kill_worker(airflow: Airflow, parts: Parts, run: str) -> None:
    """The process that pokes; the task has a retry."""
    task_id = airflow.api("GET", f"{run}/taskInstances/gate")["id"]
    for process in psutil.process_iter(["cmdline"]):
        if f"airflow worker -- {task_id}" in " ".join(process.info["cmdline"] or ()):
            process.kill()
    airflow.wait_until(lambda: airflow.api("GET", f"{run}/taskInstances/gate")["try_number"] == 2, "a second try", 30)


@pytest.mark.parametrize("kill", [kill_worker, kill_triggerer, kill_scheduler], ids=lambda kill: kill.__name__)
def test_a_gate_fires_once_whatever_dies_while_it_waits(
    airflow: Airflow, parts: Parts, kill: Callable[[Airflow, Parts, str], None]
) -> None:
    """The gate is closed, a part of Airflow is killed and replaced, the gate opens: what follows it runs once."""
    name = kill.__name__.replace("kill", "restarted")
    airflow.server.sql("CREATE TABLE hold_the_gates ()")
    try:
        run = airflow.trigger(name)
        path = f"{run}/taskInstances/gate"
        waits = "running" if kill is kill_worker else "deferred"
        airflow.wait_until(lambda: airflow.states(run)["gate"] == waits, f"a gate that is {waits}")
        airflow.wait_until(lambda: "held 1 >" in airflow.log(run, "gate"), "a first look", 30)
        kill(airflow, parts, run)
        assert airflow.states(run)["passed"] is None
    finally:
        airflow.server.sql("DROP TABLE hold_the_gates")
    assert airflow.finish(run) == "success", airflow.log(run, "gate")
    assert airflow.returned(run, "gate")["opened"] is True
    assert told(airflow, name) == ["passed"]
    if kill is not kill_worker:
        assert airflow.api("GET", path)["try_number"] == 1
        assert airflow.log(run, "gate").count("Trigger fired event") == 1
