"""The pages of all plans, of one plan and of the week, in a real browser, in front of a real Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page

from tests.acceptance.browser import PICTURES
from tests.acceptance.browser import browser as started
from tests.acceptance.conftest import Airflow, ApiServer
from tests.acceptance.shown import HTML, Shown

GONE = {"name": "removed", "repository": "file:///srv/backups"}
NAMES = ("shown-away", "shown-broken", "shown-good", "shown-locked")
PAGES = ("backups", "plan", "off-peak")
API = ("plans", "plan", "backup", "picture", "week")


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


def picture(page: Page, name: str) -> None:
    """Leave a picture for people to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def test_nobody_sees_plans_without_a_login(accounts: ApiServer, shown: Shown) -> None:
    """Every page and every question about plans is answered with 401 to whoever is not logged in."""
    where = {"name": "shown-good", "repository": shown.url, "backup_id": shown.old.backup_id}
    paths = [*PAGES, *(f"api/{name}" for name in API)]
    with ExitStack() as stack:
        nobody, viewer = (stack.enter_context(closing(accounts.client(name))) for name in (None, "viewer"))
        assert {nobody.get(f"/backup-guard/{path}", params=where).status_code for path in paths} == {401}
        answers = {path: viewer.get(f"/backup-guard/{path}", params=where).status_code for path in paths}
    assert answers == {**dict.fromkeys(paths, 200), "api/picture": 404}, "that backup has no telemetry"


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
    picture(page, "fleet")
    page.get_by_label("Search").fill("shown-")
    page.get_by_label("Stands").select_option("protected")
    assert page.locator("#plans tbody tr").count() == 1
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
    picture(page, "backup")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    picture(page, "plan")
    assert page.title() == "Plan shown-good"
    page.get_by_role("link", name="Off-peak hours").click()
    page.get_by_text("The week of shown-good.").wait_for()
    page.get_by_role("link", name="All plans").click()
    page.locator("#plans tbody tr").first.wait_for()


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
    picture(page, "week")


def test_the_week_is_there_without_its_repository(page: Page) -> None:
    """A plan whose repository is away has its windows all the same, and the page says what is wrong."""
    page.goto(f"off-peak?{urlencode({'name': 'shown-away', 'repository': 'file:///nowhere/at/all'})}")
    page.locator("table.week td").first.wait_for()
    assert "/nowhere/at" in page.locator(".problem").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone(page: Page, shown: Shown, scheme: str) -> None:
    """At 390 pixels no page is wider than the screen, by day and by night; what is wide scrolls within itself."""
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
        picture(page, f"phone-{scheme}-{name.partition('?')[0]}")


def test_airflow_shows_the_pages_in_its_own_navigation(page: Page) -> None:
    """From Airflow's own navigation the list of plans and the week are two clicks away, inside of Airflow's frame."""
    page.goto("../plugin/backup-guard")
    frame = page.frame_locator("iframe")
    frame.get_by_role("link", name="shown-good", exact=True).wait_for()
    picture(page, "airflow")
    page.goto("../plugin/backup-guard-off-peak")
    frame.locator("table.week").wait_for()
