"""The pages in Airflow's UI: who may see and do what, and the tab of a copy in a real browser, while the copy runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Browser, FrameLocator, expect

from airflow_backup_guard.operators.live import STATE_KEY
from tests.acceptance.browser import Window, browser
from tests.acceptance.conftest import Airflow, ApiServer, scrubbed_environment

ROUTES = """
import json
from airflow_backup_guard.ui.app import build_app
print(json.dumps([[route.path, sorted(route.methods)] for route in build_app().routes]))
"""
FORBIDDEN = r"""<style|<script(?! )|\s(?:on\w+|style)=|(?:src|href)="(?!static/)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests here."""
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def copying(airflow: Airflow) -> Iterator[str]:
    """The id of a run of the slow DAG whose copy has begun."""
    run = airflow.trigger("slow")

    def begun() -> bool:
        return bool((airflow.kept(run, "copy", STATE_KEY) or {}).get("done"))

    airflow.wait_until(begun, "a copy")
    yield run.rpartition("/")[2]
    airflow.finish(run)


def of_copy(run_id: str) -> dict[str, str]:
    """How the pages name its task instance."""
    return {"dag_id": "slow", "run_id": run_id, "task_id": "copy", "map_index": "{MAP_INDEX}"}


def test_every_route_needs_a_login(accounts: ApiServer, tmp_path: Path) -> None:
    """Each route that the app has, files included, answers 401 to nobody; a token that is none does not help."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ROUTES],
        env=scrubbed_environment(tmp_path),
        check=True,
        capture_output=True,
        text=True,
    )
    routes = json.loads(done.stdout.splitlines()[-1])
    assert ["/api/task/order", ["POST"]] in routes and ["/static/{name}", ["GET"]] in routes
    with accounts.client() as nobody:
        for path, methods in routes:
            for method in methods:
                address = f"/backup-guard{path.replace('{name}', 'backups')}"
                answer = nobody.request(method, address, params=of_copy("x"), json={})
                assert answer.status_code == 401, (method, path, answer.status_code)
        nobody.headers["Authorization"] = "Bearer nonsense"
        assert nobody.get("/backup-guard/api/plans").status_code == 403


def test_every_answer_forbids_what_is_from_elsewhere(accounts: ApiServer) -> None:
    """Pages, files, documents and errors have the strict policy; no page has anything inline, or from outside."""
    with accounts.client("viewer") as client:
        for path in ("backups", "task", "static/style.css", "api/plans", "nothing", "api/task?dag_id=x"):
            answer = client.get(f"/backup-guard/{path}")
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            if answer.headers["Content-Type"].startswith("text/html"):
                assert not re.search(
                    r"""<style|\son\w+=|\sstyle=|(?:src|href)="(?!static/)|<script(?! )""", answer.text
                )


def test_a_dag_that_one_may_not_see_has_no_plans_and_no_tasks(accounts: ApiServer, copying: str) -> None:
    """Neither in the list nor by address; who may only look may not give orders; nor may a page of another site."""
    order = {"action": "pause", "number": "20260101T000000Z-0000"}

    def asked(name: str, **headers: str) -> tuple[set[str], int, int]:
        with accounts.client(name) as client:
            plans = client.get("/backup-guard/api/plans").json()["plans"]
            seen = client.get("/backup-guard/api/task", params=of_copy(copying))
            given = client.post("/backup-guard/api/task/order", params=of_copy(copying), json=order, headers=headers)
            return {plan["name"] for plan in plans}, seen.status_code, given.status_code

    stranger, viewer, alice = asked("stranger"), asked("viewer"), asked("alice")
    assert "slow" not in stranger[0] and "shop" in stranger[0]
    assert stranger[1:] == (403, 403)
    assert "slow" in viewer[0]
    assert viewer[1:] == (200, 403)
    assert alice[1:] == (200, 409)  # it is about another backup than the one that runs
    assert asked("alice", **{"Sec-Fetch-Site": "cross-site"})[2] == 403


def tab(window: Window, run_id: str, task: str = "copy", dag: str = "slow") -> FrameLocator:
    """Open the tab of a task instance, by its address."""
    window.page.goto(f"{window.url}/dags/{dag}/runs/{quote(run_id)}/tasks/{task}/plugin/backup")
    return window.page.frame_locator("iframe")


def seconds_shown(frame: FrameLocator) -> str:
    """The time of the last point in the picture."""
    return str(frame.locator("#pointed").inner_text().split(" · ")[0])


def give(frame: FrameLocator, order: str, reason: str) -> None:
    """Press the button, say why, confirm, and wait until it is obeyed."""
    frame.locator(f"#{order}").click()
    frame.get_by_label("Why").fill(reason)
    frame.get_by_role("dialog").get_by_role("button", name=order.capitalize()).click()
    expect(frame.get_by_role("dialog")).to_be_hidden()


def test_people_see_a_copy_and_hold_it_from_its_tab(
    airflow: Airflow, accounts: ApiServer, chromium: Browser, copying: str
) -> None:
    """They log in, find the tab, see the picture move, pause and resume; then there is the receipt. Nothing is wrong in
    the console, by day, by night or on a phone; and Airflow's audit log says who it was."""
    window = Window(chromium, accounts.url)
    window.log_in("alice")
    window.page.goto(f"{window.url}/dags/slow/runs/{quote(copying)}/tasks/copy")
    window.page.get_by_role("link", name="Backup", exact=True).click()
    frame = window.page.frame_locator("iframe")
    expect(frame.get_by_role("heading", level=1)).to_contain_text("of plan slow")
    expect(frame.locator("#rates canvas")).to_be_visible()
    before = seconds_shown(frame)
    expect(frame.locator("#pointed")).not_to_contain_text(before)

    give(frame, "pause", "<b>launch</b> at ten")
    expect(frame.locator(".badge")).to_have_text("paused")
    expect(frame.get_by_text("paused by alice in Airflow: <b>launch</b> at ten").first).to_be_visible()
    expect(frame.get_by_role("heading", name="Pauses")).to_be_visible()
    switch(window, frame, "light", "dark")
    window.picture("copy-dark")
    switch(window, frame, "dark", "light")
    give(frame, "resume", "")
    expect(frame.locator(".badge")).not_to_have_text("paused")
    expect(frame.get_by_text("until now")).to_be_hidden()
    window.picture("copy-light")
    link = airflow.api("GET", f"/dags/slow/dagRuns/{copying}/taskInstances/snapshot/links")["extra_links"]
    of_plan = urlencode({"name": "slow", "repository": airflow.repository.as_uri()})
    assert link["Backups of the plan"].endswith(f"/plugin/backup-guard/backup-guard/plan?{of_plan}")

    frame.locator("#receipt").wait_for(timeout=90_000)
    expect(frame.locator("#receipt")).to_contain_text("commits during")
    expect(frame.locator(".badge")).to_have_text("success")
    window.picture("copy-over")
    alone = f"{window.url}/backup-guard/task?{urlencode(of_copy(copying))}"
    window.page.set_viewport_size({"width": 390, "height": 844})
    window.page.goto(alone)
    window.page.locator("#receipt").wait_for()
    assert window.page.evaluate("document.documentElement.scrollWidth <= 390")
    window.picture("copy-phone")
    assert window.complaints == []
    logged = airflow.api("GET", "/eventLogs?event=backup_guard_order&order_by=-when&limit=10")["event_logs"]
    pressed = [json.loads(entry["extra"]) for entry in logged if entry["run_id"] == copying]
    number = (airflow.kept(f"/dags/slow/dagRuns/{copying}", "copy", STATE_KEY) or {})["backup_id"]
    assert [entry["action"] for entry in pressed if entry["number"] == number] == ["resume", "pause"]
    assert {entry["owner"] for entry in logged} == {"alice"}


def switch(window: Window, frame: FrameLocator, old: str, new: str) -> None:
    """Airflow's own switch from light to dark, or back; the page in the frame follows it."""
    window.page.evaluate("([a, b]) => document.documentElement.classList.replace(a, b)", [old, new])
    expect(frame.locator("html")).to_have_attribute("data-theme", new)


def test_a_gate_and_any_other_task_have_their_tab(airflow: Airflow, accounts: ApiServer, chromium: Browser) -> None:
    """A gate shows each value against its threshold and since when; a task of others says that it is none of ours;
    and the list of plans opens from the navigation."""
    run = airflow.trigger("gates_open")
    assert airflow.finish(run) == "success"
    run_id = run.rpartition("/")[2]
    window = Window(chromium, accounts.url, width=390, height=844)
    window.log_in("viewer")
    frame = tab(window, run_id, "WriteLoadSensor_deferred", "gates_open")
    expect(frame.get_by_role("row").filter(has_text="commit latency")).to_contain_text("normal")
    gate = {"dag_id": "gates_open", "run_id": run_id, "task_id": "WriteLoadSensor_poked"}
    window.page.goto(f"{window.url}/backup-guard/task?{urlencode(gate)}")
    expect(window.page.get_by_role("row").filter(has_text="WAL written")).to_contain_text("100MB/s")
    window.picture("gate-phone")
    window.page.goto(f"{window.url}/plugin/backup-guard")
    expect(window.page.frame_locator("iframe").get_by_role("heading", level=1)).to_have_text("Backups")
    assert window.complaints == []
