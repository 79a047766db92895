"""The pages in Airflow's UI: who may see and do what, and the tab of a copy in a real browser, while the copy runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import httpx
import pytest
from playwright.sync_api import Browser, FrameLocator, expect

from airflow_backup_guard.core.command import COMMANDS
from airflow_backup_guard.operators.live import STATE_KEY
from airflow_backup_guard.repository import open_repository
from tests.acceptance.accessible import faults
from tests.acceptance.browser import Window, browser
from tests.acceptance.conftest import Airflow, ApiServer, scrubbed_environment

# What each route answers somebody who asks for a plan, or a task, of a DAG that is hidden from them.
OF_THE_HIDDEN = {
    "GET /{name}": 200,  # the page itself, which shows nothing
    "GET /static/{name}": 404,
    "GET /api/plans": 200,  # without that plan
    "GET /api/plan": 404,
    "GET /api/backup": 404,
    "GET /api/picture": 404,
    "GET /api/audit": 404,
    "GET /api/week": 404,
    "GET /api/task": 403,
    "POST /api/task/{dag_id}/{run_id}/{task_id}/order": 403,
}
ROUTES = """
import json
from airflow_backup_guard.ui.app import build_app
print(json.dumps([[route.path, sorted(route.methods)] for route in build_app().routes]))
"""


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
        nonlocal run
        if airflow.api("GET", run)["state"] == "failed":  # Airflow gives up a task that it could not start in time
            run = airflow.trigger("slow")
        return bool((airflow.kept(run, "copy", STATE_KEY) or {}).get("done"))

    airflow.wait_until(begun, "a copy")
    yield run.rpartition("/")[2]
    airflow.finish(run)


def of_copy(run_id: str) -> dict[str, str]:
    """How the pages name its task instance."""
    return {"dag_id": "slow", "run_id": run_id, "task_id": "copy", "map_index": "{MAP_INDEX}"}


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every route that the app has, as ``GET /api/plans``."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ROUTES],
        env=scrubbed_environment(tmp_path_factory.mktemp("routes")),
        check=True,
        capture_output=True,
        text=True,
    )
    return [f"{method} {path}" for path, methods in json.loads(done.stdout.splitlines()[-1]) for method in methods]


def test_every_route_needs_a_login(accounts: ApiServer, routes: list[str]) -> None:
    """Each route that the app has, files included, answers 401 to nobody; a token that is none does not help."""
    with accounts.client() as nobody:
        for route in routes:
            assert asked_of_the_hidden(nobody, route, "x", "file:///srv/backups").status_code == 401, route
        nobody.headers["Authorization"] = "Bearer nonsense"
        for route in routes:
            assert asked_of_the_hidden(nobody, route, "x", "file:///srv/backups").status_code in (401, 403), route


def test_no_route_tells_of_a_dag_that_one_may_not_see(
    airflow: Airflow, accounts: ApiServer, routes: list[str], copying: str
) -> None:
    """Each route that the app has, so that a new one cannot be forgotten; and those who may see it do."""
    where = airflow.repository.as_uri()
    with accounts.client("stranger") as stranger, accounts.client("viewer") as viewer:
        answers = {route: asked_of_the_hidden(stranger, route, copying, where) for route in routes}
        assert asked_of_the_hidden(viewer, "GET /api/plan", copying, where).status_code == 200
    assert {route: answer.status_code for route, answer in answers.items()} == OF_THE_HIDDEN
    assert not [route for route, answer in answers.items() if copying in answer.text or '"slow"' in answer.text]


def asked_of_the_hidden(client: httpx.Client, route: str, run_id: str, repository: str) -> httpx.Response:
    """Ask one route for the plan and the task that are hidden from ``stranger``."""
    method, path = route.split()
    number = "20260101T000000Z-0000"
    task = of_copy(run_id)
    parameters = {"name": "slow", "repository": repository, "backup_id": number, "number": "1", **task}
    body = {"action": "pause", "number": number} if method == "POST" else None
    address = f"/backup-guard{path.format(**{**task, 'name': 'backups', 'run_id': quote(run_id)})}"
    return client.request(method, address, params=parameters, json=body)


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
            address = f"/backup-guard/api/task/slow/{quote(copying)}/copy/order"
            given = client.post(address, json=order, headers=headers)
            return {plan["name"] for plan in plans}, seen.status_code, given.status_code

    stranger, viewer, alice = asked("stranger"), asked("viewer"), asked("alice")
    assert "slow" not in stranger[0] and "shop" in stranger[0]
    assert stranger[1:] == (403, 403)
    assert "slow" in viewer[0]
    assert viewer[1:] == (200, 403)
    assert alice[1:] == (200, 409)  # it is about another backup than the one that runs
    order["dag_id"] = "shown_plans"  # or the audit log would have that, and not what the order was about
    assert asked("alice")[2] == 422
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
    framed = window.page.frames[1]
    assert faults(framed) == []
    switch(window, frame, "dark", "light")
    assert faults(framed) == []
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


def test_a_gate_has_its_tab(airflow: Airflow, accounts: ApiServer, chromium: Browser) -> None:
    """A gate, open or closed, shows each value against its threshold and since when; and the list of plans opens from
    the navigation."""
    run, shut = airflow.trigger("gates_open"), airflow.trigger("gates_closed")
    assert airflow.finish(run) == "success"
    assert airflow.finish(shut) == "failed"
    run_id = run.rpartition("/")[2]
    window = Window(chromium, accounts.url, width=390, height=844)
    window.log_in("viewer")
    frame = tab(window, run_id, "WriteLoadSensor_deferred", "gates_open")
    expect(frame.get_by_role("row").filter(has_text="commit latency")).to_contain_text("normal")
    frame = tab(window, shut.rpartition("/")[2], "WriteLoadSensor_poked", "gates_closed")
    expect(frame.locator(".badge")).to_have_text("closed")
    expect(frame.get_by_role("row").filter(has_text="commit latency")).to_contain_text("high")
    assert faults(window.page.frames[1]) == []
    window.picture("gate-closed-phone")
    gate = {"dag_id": "gates_open", "run_id": run_id, "task_id": "WriteLoadSensor_poked"}
    window.page.goto(f"{window.url}/backup-guard/task?{urlencode(gate)}")
    expect(window.page.get_by_role("row").filter(has_text="WAL written")).to_contain_text("100MB/s")
    window.picture("gate-phone")
    window.page.goto(f"{window.url}/plugin/backup-guard")
    expect(window.page.frame_locator("iframe").get_by_role("heading", level=1)).to_have_text("Backups")
    assert window.complaints == []


def test_people_limit_and_stop_what_runs(airflow: Airflow, accounts: ApiServer, chromium: Browser) -> None:
    """A copy is limited and stopped, a guarded command paused and stopped, each from its tab: both end as failed, and
    the tab says who stopped it. A copy that never began has a tab that says so."""
    copy, command, failing = (airflow.trigger(dag) for dag in ("slow", "slow_command", "wrong_password"))
    window = Window(chromium, accounts.url, height=1100)
    window.log_in("alice")
    frame = tab(window, command.rpartition("/")[2], "backup", "slow_command")
    expect(frame.get_by_role("heading", level=1)).to_contain_text("Guarded command 20")
    give(frame, "pause", "checkout is slow")
    expect(frame.get_by_text("paused by alice in Airflow: checkout is slow").first).to_be_visible()
    window.picture("command")
    assert faults(window.page.frames[1]) == []
    give(frame, "stop", "")
    expect(frame.locator(".badge")).to_have_text("failed", timeout=60_000)
    expect(frame.get_by_text("Stopped: alice in Airflow.")).to_be_visible()
    expect(frame.locator("#receipt")).to_contain_text("stood still")

    frame = tab(window, copy.rpartition("/")[2])
    frame.locator("#limit").click(timeout=60_000)
    frame.get_by_label("At most").fill("1MB a minute")
    frame.get_by_role("dialog").get_by_role("button", name="Limit").click()
    expect(frame.get_by_role("alert")).to_contain_text("1MB a minute")
    frame.get_by_label("At most").fill("1.5MB/s")
    frame.get_by_label("At most").press("Enter")
    expect(frame.get_by_role("dialog")).to_be_hidden()
    expect(frame.get_by_text("limited to 1.5MB/s by alice in Airflow").first).to_be_visible()
    give(frame, "stop", "launch at ten")
    expect(frame.locator(".badge")).to_have_text("failed", timeout=60_000)
    expect(frame.get_by_text("Stopped: alice in Airflow: launch at ten.")).to_be_visible()
    expect(frame.locator("#stop")).to_be_hidden()
    window.picture("copy-stopped")
    airflow.finish(failing)
    frame = tab(window, failing.rpartition("/")[2], dag="wrong_password")
    expect(frame.locator("main")).to_contain_text("It ended before it had anything to show")
    # That the limit was refused is logged by the browser itself, and told by the page.
    assert [text for text in window.complaints if "status of 409" not in text] == []
    repository = open_repository(airflow.repository.as_uri())
    repository.delete_all([info.key for info in repository.list(f"{COMMANDS}slow_command/")])


def test_each_instance_of_a_mapped_task_has_the_plan_that_is_its_own(
    airflow: Airflow, accounts: ApiServer, chromium: Browser
) -> None:
    """In its tab and behind its link; the page of all plans has those that the DAG names; and a task of others says in
    its tab that it is none of ours."""
    run = airflow.trigger("mapped_plans")
    assert airflow.finish(run) == "success"
    run_id = run.rpartition("/")[2]
    repository = open_repository(airflow.repository.as_uri())
    names = ("mapped-one", "mapped-two")
    with accounts.client("viewer") as client:
        for map_index, name in enumerate(names):
            for task in ("gate", "copy"):
                where = {"dag_id": "mapped_plans", "run_id": run_id, "task_id": task, "map_index": str(map_index)}
                seen = client.get("/backup-guard/api/task", params=where).json()
                assert (seen["kind"], seen["plan"]) == (task, name)
            assert seen["receipt"] and [info.key for info in repository.list(f"records/{name}/{seen['number']}")]
            link = airflow.api("GET", f"{run}/taskInstances/copy/links?map_index={map_index}")["extra_links"]
            assert f"name={name}&" in link["Backups of the plan"]
        plans = client.get("/backup-guard/api/plans", params={"limit": 100}).json()["plans"]
    known = {plan["name"]: plan["dag_ids"] for plan in plans}
    assert [known.get(name) for name in names] == [["mapped_plans"], ["mapped_plans"]]
    window = Window(chromium, accounts.url)
    window.log_in("viewer")
    mapped = f"dags/mapped_plans/runs/{quote(run_id)}/tasks/copy/mapped/1"
    window.page.goto(f"{window.url}/{mapped}/plugin/backup")
    expect(window.page.frame_locator("iframe").get_by_role("heading", level=1)).to_contain_text("of plan mapped-two")
    frame = tab(window, run_id, "foreign", "mapped_plans")
    expect(frame.get_by_text("This is not a task of Backup Guard")).to_be_visible()
    assert faults(window.page.frames[1]) == []
    assert window.complaints == []
    # The link is to the address that the tasks know of, which is that of the other server.
    window = Window(chromium, airflow.url)
    window.page.goto(f"{window.url}/{mapped}/details")
    window.page.get_by_role("link", name="Backups of the plan").click()
    expect(window.page.frame_locator("iframe").get_by_role("heading", level=1)).to_have_text("mapped-two")
    expect(window.page.frame_locator("iframe").locator("#backups tbody tr")).to_have_count(1)
    window.page.goto(f"{window.url}/dags/guarded_base_backup")
    window.page.get_by_role("button", name="Dag Docs").click()
    expect(window.page.get_by_role("dialog")).to_contain_text("A guarded base backup")
    assert window.complaints == []
