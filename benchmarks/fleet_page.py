"""The page of all plans, with 500 of them: a real browser in front of a real API server that knows them already.

From the click to the first rows on the screen (the goal is 1 second), to the last plan, and the slowest request among
those that it takes. The browser has nothing in its cache. As a comparison, Airflow's own list of the same DAGs, 25 at
once, from the same server. What the first look after a start of the server takes is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from airflow_backup_guard.repository import open_repository
from benchmarks.report import Rounds, Skipped, chosen, parser, say
from tests.stored import store_backup

OURS, AIRFLOWS = "plans", "compare: Airflow's list of DAGs"
COLUMNS = {
    "first rows, s": ("first_seconds", "{:.2f}"),
    "all, s": ("all_seconds", "{:.2f}"),
    "slowest request, s": ("request_seconds", "{:.2f}"),
    "requests": ("requests", "{:.0f}"),
    "kB": ("kilobytes", "{:.0f}"),
}
_PATIENCE_SECONDS = 120.0
_PLANS_A_DAG = 5

_DAGS = f"""
import os
import pendulum
from airflow.sdk import DAG
from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, RetentionPolicy
from airflow_backup_guard.operators import PostgresSnapshotOperator

plans = int(os.environ["BENCH_PLANS"])
for first in range(0, plans, {_PLANS_A_DAG}):
    with DAG(f"shops_{{first}}", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
        for number in range(first, min(first + {_PLANS_A_DAG}, plans)):
            plan = BackupPlan(
                name=f"shop-{{number}}",
                connection="shop",
                repository=os.environ["BENCH_REPOSITORY"],
                calendar=OffPeakCalendar.parse("Mon-Fri 01:00-05:00", tz="Europe/Berlin"),
                rpo="26h",
                retention=RetentionPolicy(keep_daily=7),
            )
            PostgresSnapshotOperator(task_id=plan.name, plan=plan)
"""
_FILL = """
import sys
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

DagBundlesManager().sync_bundles_to_db()
bag = BundleDagBag(sys.argv[1], bundle_path=sys.argv[1], bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
sync_bag_to_db(bag, "dags-folder", None)
"""
# The time of the frame that shows the first row, as the browser's own clock has it.
_WATCH = """
addEventListener("DOMContentLoaded", () => {
  const watch = new MutationObserver(() => {
    if (!document.querySelector("SELECTOR")) return;
    watch.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => (window.firstRows = performance.now())));
  });
  watch.observe(document, { childList: true, subtree: true });
});
"""
_REQUESTS = """performance.getEntriesByType("resource").filter((one) => one.name.includes("/api/"))
  .map((one) => [one.duration, one.transferSize])"""


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    made = parser(__doc__)
    made.add_argument("--plans", type=int, default=500, help="in as many DAGs as it takes, five in each (500)")
    made.add_argument("--backups", type=int, default=10, help="of each plan (10)")
    options = made.parse_args(arguments)
    names = chosen([OURS, AIRFLOWS], options.variants)
    rounds = Rounds("fleet_page", options)
    with (
        _browser() as browser,
        tempfile.TemporaryDirectory(prefix="backup-guard-bench-", dir=options.repository) as folder,
        _server(Path(folder), options) as url,
    ):
        rounds.extra = {"after_a_start": _until_known(browser, url, options.plans)}
        say(f"after a start of the server: {rounds.extra['after_a_start']}")
        _look(browser, url, AIRFLOWS, options.plans)
        rounds.run(names, lambda name: _look(browser, url, name, options.plans))
    rounds.finish(f"The page of {options.plans} plans", COLUMNS)


def _until_known(browser: Browser, url: str, plans: int) -> Mapping[str, float]:
    """The first look, and how long it takes until it is known how every plan stands."""
    began = time.monotonic()
    first = _look(browser, url, OURS, plans)
    while True:
        with _page(browser, url, "#plans tbody tr") as page:
            page.goto(f"{url}/backup-guard/backups")
            page.get_by_text(f"{plans} plans in the DAGs").wait_for()
            if "still asked for" not in page.locator("#said").inner_text():
                return {"first_seconds": first["first_seconds"], "known_seconds": time.monotonic() - began}
        if time.monotonic() - began > _PATIENCE_SECONDS:
            raise SystemExit("It never knows how all plans stand.")


def _look(browser: Browser, url: str, name: str, plans: int) -> Mapping[str, float]:
    """Open the page once, as somebody who has never been there."""
    address, row = (
        ("/backup-guard/backups", "#plans tbody tr") if name == OURS else ("/dags", 'a[href*="/dags/shops_"]')
    )
    with _page(browser, url, row) as page:
        page.goto(f"{url}{address}")
        page.locator(row).first.wait_for()
        while not (first := page.evaluate("window.firstRows")):  # it cannot be waited for: the policy forbids eval
            page.wait_for_timeout(20)
        result = {"first_seconds": first / 1e3}
        if name == OURS:
            page.get_by_text(f"{plans} plans in the DAGs").wait_for()
            result["all_seconds"] = page.evaluate("performance.now()") / 1e3
        requests = page.evaluate(_REQUESTS)
    return {
        **result,
        "request_seconds": max((seconds for seconds, _ in requests), default=0.0) / 1e3,
        "requests": len(requests),
        "kilobytes": sum(size for _, size in requests) / 1e3,
    }


@contextmanager
def _page(browser: Browser, url: str, row: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    token = json.load(urllib.request.urlopen(f"{url}/auth/token"))["access_token"]
    context.add_cookies([{"name": "_token", "value": token, "url": url}])
    context.add_init_script(_WATCH.replace("SELECTOR", row.replace('"', "'")))
    try:
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_SECONDS * 1e3)
        yield page
    finally:
        context.close()


@contextmanager
def _browser() -> Iterator[Browser]:
    found = os.environ.get("BACKUP_GUARD_TEST_BROWSER") or shutil.which("chromium")
    if found is None:
        raise Skipped("there is no browser; BACKUP_GUARD_TEST_BROWSER names one")
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=found, args=options)
        try:
            yield started
        finally:
            started.close()


@contextmanager
def _server(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    """An API server that anybody may log in to, before the plans and their backups; yields its address."""
    home, dags, backups = (folder / name for name in ("airflow", "dags", "backups"))
    for made in (dags, backups):
        made.mkdir()
    say(f"{options.backups} backups of each of {options.plans} plans")
    _store(backups, options.plans, options.backups)
    (dags / "shops.py").write_text(_DAGS)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PG"))}
    environment = {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "BENCH_PLANS": str(options.plans),
        "BENCH_REPOSITORY": backups.as_uri(),
    }
    say("making Airflow's database")
    for command in (["-m", "airflow", "db", "migrate"], ["-c", _FILL, str(dags)]):
        done = subprocess.run([sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{done.stdout[-2000:]}{done.stderr[-4000:]}")
    log = folder / "api-server.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "airflow", "api-server", "--workers", "1"]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, log)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _store(folder: Path, plans: int, backups: int) -> None:
    repository = open_repository(folder.as_uri())
    now = datetime.now(timezone.utc)

    def store(number: int) -> None:
        for days in range(1 + number % 2, backups + 1 + number % 2):  # every other plan is late
            store_backup(repository, now - timedelta(days=days), segments=1, name=f"shop-{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store, range(plans)))


def _wait_for(url: str, log: Path) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/api/v2/version", timeout=5).close()
        except OSError:
            if time.monotonic() > until:
                raise SystemExit(f"The API server does not answer:\n{log.read_text()[-4000:]}") from None
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    main()
