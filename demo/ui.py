"""Airflow's UI with something to see: two plans, a week of load, a few backups of which one is damaged, an audit of
each plan, a live copy.

It runs until Ctrl-C. Everything lives in a temporary folder and is gone then. Exit status 0 after Ctrl-C, 1 if it could
not begin or Airflow ended by itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.load_history import Counters, LoadEntry, packed, packed_key
from airflow_backup_guard.engine.audit import Subject, audit
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import EncodingWriter
from demo.run import ROLE, SETTINGS, DemoFailed, airflow_environment, child, interrupted, say

TOP = Path(__file__).resolve().parent.parent
DAGS = TOP / "demo" / "ui_dags"
USER = "admin"
DAYS = 8
EVERY = timedelta(minutes=5)
START_SECONDS = 300


def load_at(moment: datetime, opens: int) -> tuple[float, float, float]:
    """Of a shop whose window begins at the hour ``opens``: bytes of WAL and commits per second, seconds of a commit."""
    hour = (moment.hour - opens + 1) % 24
    if hour == 0:
        return 38e6, 50.0, 0.002  # a batch right before the window
    if 8 <= hour < 23:
        noon = 1 - abs(hour - 15) / 10
        return 3e6 + 8e6 * noon, 300 + 700 * noon, 0.002 + 0.002 * noon
    return 0.2e6, 30.0, 0.001


def record_week(repository: Repository, plan_name: str, opens: int, until: datetime) -> None:
    """Store entries of the load as a recorder would have, packed by day."""
    wal = commits = 0.0
    days: dict[str, list[bytes]] = {}
    at = until - timedelta(days=DAYS)
    while at <= until:
        now = load_at(at, opens)
        wal, commits = wal + now[0] * EVERY.total_seconds(), commits + now[1] * EVERY.total_seconds()
        values = dict(zip(("wal_rate", "commit_rate", "commit_latency"), now, strict=True))
        entry = LoadEntry(at, values, {}, Counters("demo", round(wal), round(commits)), False)
        days.setdefault(f"{at:%Y%m%d}", []).append(entry.to_line())
        at += EVERY
    for day, lines in days.items():
        content = packed(lines)
        with EncodingWriter(repository.writer(packed_key(plan_name, day, content))) as writer:
            writer.write(content)
            writer.commit()


def back_up(plan: BackupPlan, server: LocalServer, repository: Repository) -> BackupRecord:
    """One backup as fast as the machine can."""
    fast = BackupPlan.from_dict({**plan.to_dict(), "max_rate": "500MB/s", "min_rate": "500MB/s"})
    dsn = server.dsn("shop")
    snapshot = take_snapshot(fast, dsn, repository, outside_window=True)
    return copy(fast, snapshot, dsn, repository, stop=Stop(), baseline_seconds=1.0, outside_window=True)


def damage(record: BackupRecord, folder: Path) -> None:
    """Change a few bytes in the middle of a backup's archive, as a bad disk would."""
    (archive,) = [part for part in record.parts_of("archive") if part.name == "base"]
    with (folder / archive.key).open("r+b") as stream:
        stream.seek(archive.size // 2)
        stream.write(b"\0damaged\0")


def fill(folder: Path, plans: ModuleType, server: LocalServer) -> None:
    """What there is to see before the live copy begins."""
    repository = open_repository(plans.shop.repository)
    record_week(repository, plans.shop.name, plans.opens, datetime.now(timezone.utc))
    for plan in (plans.shop, plans.shop, plans.books):
        record = back_up(plan, server, repository)
        say(f"backup {record.backup_id} of {plan.name}: {verify(record, repository).verdict.value}")
    record = back_up(plans.books, server, repository)
    damage(record, folder)
    say(f"backup {record.backup_id} of books, damaged on purpose: {verify(record, repository).verdict.value}")
    subjects = [Subject(plan, lambda: repository, lambda: server.dsn("shop")) for plan in (plans.shop, plans.books)]
    for made in audit(subjects):
        say(f"audit of {made.audit.summary}")


def free_port(wanted: int) -> int:
    """``wanted``, or if it is taken one that is not."""
    for port in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as opened:
                return int(opened.getsockname()[1])
        except OSError:
            continue
    raise DemoFailed("no port is free")


def dag_environment(repository: str, now: datetime) -> dict[str, str]:
    """What the DAG file reads, the same at each parsing: a window around now, so that a copy runs to look at."""
    launch = now.date() + timedelta(days=3)
    return {"DEMO_REPOSITORY": repository, "DEMO_OPENS": str((now.hour - 1) % 24), "DEMO_LAUNCH": f"{launch:%Y-%m-%d}"}


def environment_for(home: Path, server: LocalServer, repository: str, port: int, password: str) -> dict[str, str]:
    """Airflow with a login, on ``port``."""
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({USER: password}))
    return {
        **airflow_environment(home, server, repository),
        "PYTHONPATH": str(TOP),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port(0)),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port(0)),
    }


def plans_of_dag() -> ModuleType:
    """The DAG file, as Airflow loads it."""
    spec = importlib.util.spec_from_file_location("two_plans", DAGS / "two_plans.py")
    if spec is None or spec.loader is None:
        raise DemoFailed(f"{DAGS} has no DAG")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wait_until_healthy(url: str, ended: threading.Event) -> None:
    """Until the API server and the scheduler answer."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and not ended.is_set():
        try:
            with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:
                if json.load(answer)["scheduler"]["status"] == "healthy":
                    return
        except (OSError, urllib.error.URLError, KeyError, TypeError, ValueError):
            pass
        time.sleep(1)
    raise DemoFailed("Airflow did not come up")


def show(work: Path, scale: int, wanted_port: int) -> None:
    """All of it, until Airflow ends; raises :class:`DemoFailed`, and KeyboardInterrupt."""
    folder, home = work / "backups", work / "airflow"
    folder.mkdir()
    home.mkdir()
    # Whatever is below Airflow's home is its own: before anything of Airflow's is imported here.
    os.environ["AIRFLOW_HOME"] = str(home)
    with ExitStack() as stack:
        say("starting PostgreSQL 18")
        server = stack.enter_context(LocalServer.create(major=18, settings=SETTINGS))
        server.sql(ROLE)
        say(f"filling it with pgbench data, scale {scale} (about {scale * 16} MB)")
        server.run("pgbench", "--initialize", f"--scale={scale}", "--quiet", "shop")
        os.environ.update(dag_environment(folder.as_uri(), datetime.now(timezone.utc)))  # Airflow inherits it
        plans = plans_of_dag()
        fill(folder, plans, server)
        say("starting a write load of 50 transactions a second")
        server.popen("pgbench", "--client=2", "--rate=50", "--time=86400", "shop")
        port, password = free_port(wanted_port), secrets.token_urlsafe(9)
        url = f"http://127.0.0.1:{port}"
        environment = environment_for(home, server, folder.as_uri(), port, password)
        say("starting Airflow; this takes a minute")
        log, ended = home / "standalone.log", threading.Event()
        with child([sys.executable, "-m", "airflow", "standalone"], environment) as process:
            threading.Thread(target=_keep_log, args=(process.stdout, log, ended), daemon=True).start()
            try:
                wait_until_healthy(url, ended)
            except DemoFailed:
                print(log.read_text()[-4000:], file=sys.stderr)
                raise
            say("Airflow is up\n")
            print(f"  address   {url}\n  user      {USER}\n  password  {password}\n")
            print(
                "In the navigation, under Browse: Backups and Off-peak. The copy of the DAG shop_backup runs now: its"
            )
            print("task has a tab Backup. Ctrl-C ends all of it.", flush=True)
            ended.wait()
        raise DemoFailed("Airflow ended by itself")


def _keep_log(output: object, log: Path, ended: threading.Event) -> None:
    with log.open("w") as stream:
        for line in output or ():  # type: ignore[attr-defined]  # text, as `child` opens it
            stream.write(line)
            stream.flush()
    ended.set()


def main() -> int:
    """Exit status 0 after Ctrl-C, 1 if it could not begin or ended by itself."""
    parser = argparse.ArgumentParser(
        prog="ui", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=int, default=30, help="of the pgbench data; 1 is about 16 MB (default 30)")
    parser.add_argument("--port", type=int, default=8080, help="of the UI; if it is taken, another (default 8080)")
    options = parser.parse_args()
    if options.scale < 1 or not 0 <= options.port < 65536:
        parser.error("--scale must be 1 or more, and --port a port")
    signal.signal(signal.SIGTERM, interrupted)
    work = Path(tempfile.mkdtemp(prefix="backup-guard-ui-"))
    work.chmod(0o711)  # PostgreSQL runs as another user when this one is root
    try:
        show(work, options.scale, options.port)
    except (DemoFailed, BackupGuardError) as error:
        print(f"\nThe UI could not be shown: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEnded; everything is cleaned up.", file=sys.stderr)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
