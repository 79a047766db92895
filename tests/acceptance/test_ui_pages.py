"""The pages of all plans, of one plan and of the week, in a real browser, in front of a real Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from html import escape
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page

from tests.acceptance.accessible import faults, walk
from tests.acceptance.browser import browser as started
from tests.acceptance.browser import leave_picture
from tests.acceptance.conftest import Airflow, ApiServer
from tests.acceptance.shown import HTML, Shown

GONE = {"name": "removed", "repository": "file:///srv/backups"}
NAMES = ("shown-away", "shown-broken", "shown-good", "shown-locked", "shown-s3", "shown-sealed")


@pytest.fixture(scope="module", autouse=True)
def known(airflow: Airflow, accounts: ApiServer) -> None:
    """Airflow knows the DAG of the plans."""
    with closing(accounts.client("viewer")) as viewer:
        airflow.wait_until(lambda: viewer.get("/api/v2/dags/shown_plans").is_success, "the DAG of the plans")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser; without one the tests are skipped."""
    with started() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, accounts: ApiServer, shown: Shown) -> Iterator[Page]:
    """A page of somebody who may only look; what it throws, and what its policy refuses, fails the test."""
    context = browser.new_context(base_url=f"{accounts.url}/backup-guard/", viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    viewer = accounts.client("viewer")
    viewer.close()
    token = viewer.headers["Authorization"].removeprefix("Bearer ")
    context.add_cookies([{"name": "_token", "value": token, "url": accounts.url}])
    page = context.new_page()
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.on("console", lambda said: thrown.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    # That an answer was a refusal is logged by the browser itself, and told by the page.
    assert [text for text in thrown if "Failed to load resource" not in text] == []


def test_what_cannot_be_read_is_told_of_its_plan(accounts: ApiServer, shown: Shown) -> None:
    """A repository that is away, credentials that are missing, broken records, a plan that is gone and ids with HTML
    in them: each question has an answer that says what is wrong, none of it as HTML."""
    number = shown.old.backup_id
    good = {"name": "shown-good", "repository": shown.url}
    away = {"name": "shown-away", "repository": "file:///nowhere/at/all"}
    locked = {"name": "shown-locked", "repository": "s3://no_such_connection@backups/prefix"}
    asked = [
        ("plan", away, 409, "/nowhere/at"),
        ("plan", locked, 409, "usable credentials"),
        ("backup", {**locked, "backup_id": number}, 409, "usable credentials"),
        ("picture", {**good, "backup_id": number}, 404, "no telemetry"),
        ("audit", {**away, "number": "1"}, 409, "/nowhere/at"),
        ("audit", {**good, "number": "2"}, 409, "000002.json"),
        ("audit", {"name": "shown-broken", "repository": shown.url, "number": "1"}, 409, "cannot be read"),
        ("plan", GONE, 404, "renamed or removed"),
        ("plan", {**good, "name": HTML}, 404, "renamed or removed"),
        ("backup", {**good, "backup_id": HTML}, 404, "no id of a backup"),
        ("backup", {**good, "backup_id": "20200101T000000Z-0000"}, 409, "20200101T000000Z-0000"),
        ("task", {"dag_id": "shown_plans", "run_id": HTML, "task_id": HTML}, 404, "no such task"),
    ]
    with closing(accounts.client("viewer")) as viewer:
        for path, parameters, status, text in asked:
            answer = viewer.get(f"/backup-guard/api/{path}", params=parameters)
            assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json"), (
                path,
                parameters,
            )
            assert text in answer.text and HTML not in answer.text
        broken = viewer.get("/backup-guard/api/plan", params={"name": "shown-broken", "repository": shown.url}).json()
    assert broken["audit"] is None
    assert sum("cannot be read" in one["message"] for one in broken["problems"]) == 1
    assert sum("cannot be read" in one["message"] for one in broken["status"]["problems"]) == 1


def test_the_report_of_an_audit_is_served_as_it_is_stored(accounts: ApiServer, shown: Shown) -> None:
    """As HTML of our own making, whose style alone its policy allows; what strangers wrote in it is text."""
    where = {"name": "shown-good", "repository": shown.url, "number": "1"}
    with closing(accounts.client("viewer")) as viewer:
        answer = viewer.get("/backup-guard/api/audit", params=where)
    assert answer.headers["Content-Type"].startswith("text/html") and "BG003" in answer.text
    assert HTML not in answer.text and escape(HTML) in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_fleet_tells_each_plan_apart(page: Page) -> None:
    """What cannot be read is told of its plan, with the reason; others stand as they do; one can filter and sort."""
    page.goto("backups")
    row = {name: page.locator("#plans tbody tr", has=page.get_by_role("link", name=name, exact=True)) for name in NAMES}
    good = row["shown-good"]
    good.get_by_text("✓ protected").first.wait_for()
    assert "a backup is damaged" in good.inner_text()
    assert "44 s" in good.inner_text()
    for name, reason in (
        ("shown-broken", "cannot be read"),
        ("shown-away", "/nowhere/at"),
        ("shown-locked", "usable credentials"),
    ):
        row[name].get_by_text(reason).first.wait_for()
        assert "unknown" in row[name].inner_text()
        assert "never" not in row[name].locator("td").nth(2).inner_text(), "nobody knows that"
    assert faults(page) == []
    link = good.get_by_role("link", name="shown-good", exact=True)
    link.evaluate("(node) => { node.dataset.old = 'yes'; node.focus(); }")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as after a while
    page.locator("[data-old]").wait_for(state="detached")
    assert page.evaluate("document.activeElement.textContent") == "shown-good", "the focus stays"
    page.get_by_label("Search").fill("shown-")
    assert page.locator("#plans tbody tr").count() == len(NAMES)
    leave_picture(page, "fleet")
    page.get_by_label("Stands").select_option("protected")
    assert page.locator("#plans tbody tr").count() == 3
    page.get_by_label("Stands").select_option("")
    page.get_by_role("button", name="Plan", exact=True).click()
    page.get_by_role("button", name="Plan", exact=True).press("Enter")
    assert page.locator("#plans tbody td:first-child a").all_inner_texts() == sorted(NAMES, reverse=True)
    assert page.locator('th[aria-sort="descending"]').inner_text().startswith("Plan")


def test_a_plan_shows_its_backups_and_how_to_restore(page: Page, shown: Shown) -> None:
    """Backups say why they stay and what proves them, the command is copied as it is, and HTML of strangers is text."""
    page.goto("backups")
    page.get_by_role("link", name="shown-good", exact=True).click()
    rows = page.locator("#backups tbody tr")
    rows.first.wait_for()
    assert shown.damaged.backup_id in rows.nth(0).inner_text()
    assert "damaged" in rows.nth(0).inner_text()
    assert "the newest of day" in rows.nth(2).inner_text()
    assert HTML in page.locator("main").inner_text()
    assert page.locator("main img").count() == 0
    findings = page.locator("#findings tbody tr")
    assert findings.count() == 2
    assert "fail (critical)" in findings.nth(0).inner_text() and HTML in findings.nth(0).inner_text()
    assert "Accepted by eve" in findings.nth(1).inner_text()
    assert (faults(page), walk(page)) == ([], [])
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command.startswith(f"backup-guard restore {shown.verified.backup_id} --plan-name shown-good --repository ")
    assert shown.url in command
    page.get_by_role("button", name=shown.old.backup_id).press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("What proves it").wait_for()
    assert "ran on it 44s after the drill began" in dialog.inner_text()
    assert "44 s of" not in dialog.inner_text(), "the plan has no RTO"
    assert faults(page) == []
    leave_picture(page, "backup")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    leave_picture(page, "plan", full_page=True)
    assert page.title() == "Plan shown-good"
    page.get_by_role("link", name="The whole report").click()
    page.get_by_role("heading", name="Audit of database backups").wait_for()
    assert page.evaluate("getComputedStyle(document.querySelector('h2')).borderBottomWidth") == "2px", (
        "it has its style"
    )
    assert page.locator("img").count() == 0
    leave_picture(page, "audit")
    page.go_back()
    page.get_by_role("link", name="Off-peak hours").click()
    page.get_by_text("The week of shown-good.").wait_for()
    page.get_by_role("link", name="All plans").click()
    page.locator("#plans tbody tr").first.wait_for()


@pytest.mark.parametrize(
    ("name", "repository", "said"),
    [
        ("shown-s3", "s3://shown_s3@shown/prefix", "--repository s3://shown/prefix"),
        ("shown-sealed", None, "--identity /path/to/identity"),
    ],
)
def test_backups_in_s3_and_encrypted_ones_are_shown(
    page: Page, shown: Shown, name: str, repository: str | None, said: str
) -> None:
    """Through the connection that the API server knows; the command to restore has what it takes, and no secrets."""
    page.goto(f"plan?{urlencode({'name': name, 'repository': repository or shown.url})}")
    page.get_by_text("✓ protected").first.wait_for()
    assert page.locator("#backups tbody tr").count() == 1
    assert said in page.locator("code").inner_text()
    page.locator("#backups button").click()
    page.get_by_role("dialog").get_by_text("What proves it").wait_for()
    assert (", encrypted" in page.get_by_role("dialog").inner_text()) == (name == "shown-sealed")


def test_a_plan_that_was_removed_says_so(page: Page) -> None:
    """The address of a plan that no DAG has any more leads to a sentence, and not to an empty page."""
    page.goto(f"plan?{urlencode(GONE)}")
    page.get_by_text("Was it renamed or removed?").wait_for()
    assert not page.locator("main").is_visible()


def test_the_week_is_walked_by_keyboard(page: Page, shown: Shown) -> None:
    """The heat map has the load and the window of each hour in words, and arrows walk from one to the next."""
    page.goto(f"off-peak?{urlencode({'name': 'shown-good', 'repository': shown.url})}")
    cells = page.locator("table.week td")
    cells.first.wait_for()
    assert cells.count() == 7 * 24
    assert page.locator('table.week td[tabindex="0"]').count() == 1
    cells.first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    said = page.locator("#hour").inner_text()
    assert " 02:00: " in said
    assert "% of the peak; window" in said
    assert (faults(page), walk(page)) == ([], [])
    leave_picture(page, "week")


def test_the_week_is_there_without_its_repository(page: Page) -> None:
    """A plan whose repository is away has its windows all the same, and the page says what is wrong."""
    page.goto(f"off-peak?{urlencode({'name': 'shown-away', 'repository': 'file:///nowhere/at/all'})}")
    page.locator("table.week td").first.wait_for()
    assert "/nowhere/at" in page.locator(".problem").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone(page: Page, shown: Shown, scheme: str) -> None:
    """At 390 pixels no page is wider than the screen, and all of it can be read, by day and by night; what is wide
    scrolls within itself."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    where = urlencode({"name": "shown-good", "repository": shown.url})
    for name, there in (
        ("backups", "#plans tbody tr"),
        (f"plan?{where}", "#backups tr"),
        (f"off-peak?{where}", ".week"),
    ):
        page.goto(f"{name}")
        page.locator(there).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert faults(page) == []
        leave_picture(page, f"phone-{scheme}-{name.partition('?')[0]}")


def test_airflow_shows_the_pages_in_its_own_navigation(page: Page) -> None:
    """From Airflow's own navigation the list of plans and the week are two clicks away, inside of Airflow's frame."""
    page.goto("../plugin/backup-guard")
    frame = page.frame_locator("iframe")
    frame.get_by_role("link", name="shown-good", exact=True).wait_for()
    leave_picture(page, "airflow")
    page.goto("../plugin/backup-guard-off-peak")
    frame.locator("table.week").wait_for()
