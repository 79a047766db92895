"""Gates at scale: 1,000 deferred gates over 50 databases in one triggerer that runs for real.

Each gate is a deferred task in Airflow's database, and all are closed: a session is busy, and their plans allow none.
Counted are the samples that reach each database (pg_stat_statements), the stalls of the triggerer's event loop (its
own watchdog, whose figures include a tenth of a second of sleep), and the CPU of its two processes: the runner, where
triggers live, and the supervisor, which talks to Airflow's database. Then the triggerer is restarted, the load ends,
and every gate has to fire once. As a comparison, as many of Airflow's own triggers that wait for a moment next month.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from airflow_backup_guard.postgres.server import LocalServer
from benchmarks.report import Rounds, chosen, parser, say

OURS, AIRFLOWS = "gates", "compare: Airflow's own triggers"
COLUMNS = {
    "samples a second, per database": ("samples_per_second", "{:.2f}"),
    "sessions": ("sessions", "{:.0f}"),
    "longest stall, s": ("stall_seconds", "{:.2f}"),
    "while it starts, s": ("start_stall_seconds", "{:.2f}"),
    "CPU of the runner": ("runner_share", "{:.1%}"),
    "of the supervisor": ("supervisor_share", "{:.1%}"),
    "to stop, s": ("stop_seconds", "{:.1f}"),
    "lost": ("lost", "{:.0f}"),
    "doubled": ("doubled", "{:.0f}"),
}
_PASSWORD = "for-benchmarks"
_SETTINGS = {
    "fsync": "off",
    "max_connections": "400",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": "20000",
}
_PATIENCE_SECONDS = 240.0
_SETTLE_SECONDS = 10.0
_DOUBT_SECONDS = 3.0
_STALL = re.compile(r"async thread was blocked for ([\d.]+) seconds")
_COUNTS = """
    SELECT d.datname, coalesce(sum(s.calls) FILTER (WHERE s.query LIKE '%pg_logical_emit_message%'), 0)
    FROM pg_database d LEFT JOIN pg_stat_statements s ON s.dbid = d.oid
    WHERE d.datname LIKE 'shop\\_%' GROUP BY 1
"""
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backup_guard'"

_DAGS = """
import os
import pendulum
from airflow.sdk import DAG
from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.sensors import WriteLoadSensor

databases, gates = int(os.environ["BENCH_DATABASES"]), int(os.environ["BENCH_GATES"])
for database in range(databases):
    with DAG(f"shop_{database}", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
        for number in range(database, gates, databases):
            plan = BackupPlan(
                name=f"shop_{number}",
                connection=f"shop_{database}",
                repository="file:///srv/backups",
                calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
                # Four different plans for each database, one of them with a limit that takes a baseline.
                limits=LoadLimits(
                    commit_latency="100x" if number // databases % 4 == 3 else f"{10 + number // databases % 4}s",
                    active_sessions="0.5",
                ),
                quiet_for=f"{3 + number // databases % 3 * 5}s",
            )
            WriteLoadSensor(task_id=f"gate_{number}", plan=plan, deferrable=True)
"""
_FILL = """
import sys
from datetime import timedelta
from airflow._shared.timezones import timezone
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.trigger import Trigger
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

folder, ours = sys.argv[1], sys.argv[2] == "ours"
now = timezone.utcnow()
DagBundlesManager().sync_bundles_to_db()
bag = BundleDagBag(folder, bundle_path=folder, bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
sync_bag_to_db(bag, "dags-folder", None)
for dag_id, dag in bag.dags.items():
    with create_session() as session:
        run = SerializedDagModel.get(dag_id, session=session).dag.create_dagrun(
            run_id="bench", logical_date=now, data_interval=(now, now), run_after=now, run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST, state=DagRunState.RUNNING, session=session,
        )
        for task in run.get_task_instances(session=session):
            trigger = dag.get_task(task.task_id).waiting() if ours else DateTimeTrigger(now + timedelta(days=30))
            row = Trigger.from_object(trigger)
            session.add(row)
            session.flush()
            task.trigger_id, task.state, task.try_number = row.id, "deferred", 1
            task.next_method, task.next_kwargs = "execute_complete", {}
            task.start_date, task.trigger_timeout = now, now + timedelta(days=60)
"""

_ACCOUNT = """
    CREATE TABLE bench_delivered (task TEXT);
    CREATE TRIGGER bench_account AFTER UPDATE OF state ON task_instance WHEN NEW.state = 'scheduled'
    BEGIN INSERT INTO bench_delivered VALUES (NEW.id); END;
"""


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    made = parser(__doc__, rounds=3)
    made.add_argument("--gates", type=int, default=1000, help="deferred at once (1000)")
    made.add_argument("--databases", type=int, default=50, help="that they watch (50)")
    options = made.parse_args(arguments)
    names = chosen([OURS, AIRFLOWS], options.variants)
    # Airflow's supervisor keeps one log file open for each trigger.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft < options.gates + 500 else soft, hard))
    rounds = Rounds("gates", options)
    with (
        LocalServer.create(major=options.major or 15, settings=_SETTINGS) as server,
        tempfile.TemporaryDirectory(prefix="backup-guard-bench-") as folder,
    ):
        _create_databases(server, options.databases)
        airflow = Airflow(Path(folder), server, options)
        rounds.extra = {"major": server.major}
        rounds.run(names, lambda name: measure(airflow, server, name, options))
    rounds.finish(f"{options.gates} gates over {options.databases} databases in one triggerer", COLUMNS)


def measure(airflow: Airflow, server: LocalServer, name: str, options: argparse.Namespace) -> Mapping[str, Any]:
    """Wait with all of them for a while, restart, and let them fire."""
    airflow.fill(ours=name == OURS)
    result: dict[str, Any] = {}
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(server.dsn(), autocommit=True))
        load = stack.enter_context(ExitStack())
        load.enter_context(_busy_session(server))
        triggerer = stack.enter_context(airflow.triggerer())
        triggerer.wait_for_all()
        time.sleep(min(_SETTLE_SECONDS, options.seconds))
        result["start_stall_seconds"] = triggerer.longest_stall()
        before, counts, began = triggerer.cpu_seconds(), _counts(connection), time.monotonic()
        time.sleep(options.seconds)
        seconds = time.monotonic() - began
        after, more = triggerer.cpu_seconds(), _counts(connection)
        result["stall_seconds"] = triggerer.longest_stall()
        for part in ("runner", "supervisor"):
            result[f"{part}_share"] = (after[part] - before[part]) / seconds
        result["memory_mb"] = triggerer.memory() / 1e6
        if name == AIRFLOWS:
            result["stop_seconds"] = triggerer.stop()
            return result
        result["sessions"] = connection.execute(_SESSIONS).fetchone()[0]  # type: ignore[index]
        result["samples_per_second"] = max(more[key] - counts[key] for key in counts) / seconds
        # The load ends, and so does the triggerer, in the midst of all the events.
        load.close()
        _wait(lambda: airflow.deferred() < options.gates, _PATIENCE_SECONDS)
        result["stop_seconds"] = triggerer.stop()
        result["fired_before"] = options.gates - airflow.deferred()
        stack.enter_context(airflow.triggerer())
        _wait(lambda: airflow.deferred() == 0, _PATIENCE_SECONDS)
        time.sleep(_DOUBT_SECONDS)
        result["lost"] = airflow.deferred()
        result["doubled"] = airflow.delivered() - (options.gates - result["lost"])
    return result


class Airflow:
    """An Airflow of which only a triggerer runs, with a database that is filled anew for each measurement."""

    def __init__(self, folder: Path, server: LocalServer, options: argparse.Namespace) -> None:
        self.options = options
        self.home = folder / "airflow"
        self.dags = folder / "dags"
        self.logs = self.home / "logs"
        self.database = self.home / "airflow.db"
        self.empty = folder / "empty.db"
        self.dags.mkdir()
        (self.dags / "gates.py").write_text(_DAGS)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PG"))}
        self.environment = {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW__TRIGGERER__BLOCKED_MAIN_THREAD_WARNING_THRESHOLD": "0.11",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "BENCH_DATABASES": str(options.databases),
            "BENCH_GATES": str(options.gates),
        }
        for number in range(options.databases):
            url = f"postgres://guard:{_PASSWORD}@127.0.0.1:{server.port}/shop_{number}"
            self.environment[f"AIRFLOW_CONN_SHOP_{number}"] = url
        say("making Airflow's database")
        self.run("-m", "airflow", "db", "migrate")
        shutil.copy(self.database, self.empty)

    def run(self, *arguments: str) -> None:
        """Run Python to its end."""
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.home.parent, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")

    def fill(self, *, ours: bool) -> None:
        """All gates deferred, in a database that has seen nothing else."""
        say(f"deferring {self.options.gates} tasks")
        shutil.rmtree(self.logs, ignore_errors=True)
        for left in self.home.glob("airflow.db-*"):
            left.unlink()
        shutil.copy(self.empty, self.database)
        self.run("-c", _FILL, str(self.dags), "ours" if ours else "Airflow's")
        with closing(sqlite3.connect(self.database)) as connection:
            connection.executescript(_ACCOUNT)

    def deferred(self) -> int:
        """Tasks whose trigger has not fired."""
        return self._count("SELECT count(*) FROM task_instance WHERE state = 'deferred'")

    def delivered(self) -> int:
        """How often a task was woken, by an account that the database keeps."""
        return self._count("SELECT count(*) FROM bench_delivered")

    def _count(self, query: str) -> int:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as connection:
            return int(connection.execute(query).fetchone()[0])

    @contextmanager
    def triggerer(self) -> Iterator[Triggerer]:
        """A running triggerer."""
        running = Triggerer(self)
        try:
            yield running
        finally:
            running.kill()


class Triggerer:
    """The two processes of a triggerer."""

    def __init__(self, airflow: Airflow) -> None:
        self._airflow = airflow
        self._output = Path(tempfile.mkstemp(prefix="triggerer-", suffix=".log", dir=airflow.home.parent)[1])
        self._read = 0
        self._known = set(airflow.logs.rglob("*.trigger.*.log"))
        capacity = str(airflow.options.gates + 100)
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs", "--capacity", capacity],
                env=airflow.environment,
                cwd=airflow.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        """Whether it has, by itself or not."""
        return self._process.poll() is not None

    def wait_for_all(self) -> None:
        """Until every trigger has begun, as each then has a log of its own."""
        wanted = self._airflow.options.gates
        began = time.monotonic()
        _wait(lambda: self.ended or len(self._logs()) >= wanted, _PATIENCE_SECONDS)
        if len(self._logs()) < wanted:
            raise SystemExit(f"{len(self._logs())} of {wanted} triggers began:\n{self._output.read_text()[-4000:]}")
        say(f"all triggers run after {time.monotonic() - began:.0f} s")

    def cpu_seconds(self) -> dict[str, float]:
        """What both processes have used."""
        parts = {"supervisor": psutil.Process(self._process.pid), "runner": self._runner()}
        return {name: sum(process.cpu_times()[:2]) for name, process in parts.items()}

    def memory(self) -> int:
        """Bytes of the runner."""
        return int(self._runner().memory_info().rss)

    def longest_stall(self) -> float:
        """Of the event loop since the last time this was asked, as its watchdog tells; 0 if it tells of none."""
        text = self._output.read_text()
        fresh, self._read = text[self._read :], len(text)
        return max((float(found) for found in _STALL.findall(fresh)), default=0.0)

    def stop(self) -> float:
        """As an operator or Kubernetes would; returns how many seconds it took."""
        began = time.monotonic()
        self._process.terminate()
        self._process.wait(60)
        return time.monotonic() - began

    def kill(self) -> None:
        """Whatever is left."""
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self._process.pid)
            for process in [*main.children(recursive=True), main]:
                process.kill()
        self._process.wait()

    def _runner(self) -> psutil.Process:
        return max(
            psutil.Process(self._process.pid).children(recursive=True), key=lambda process: process.memory_info().rss
        )

    def _logs(self) -> set[Path]:
        return set(self._airflow.logs.rglob("*.trigger.*.log")) - self._known


def _create_databases(server: LocalServer, count: int) -> None:
    say(f"making {count} databases")
    server.sql("CREATE EXTENSION pg_stat_statements")
    server.sql(f"CREATE ROLE guard LOGIN PASSWORD '{_PASSWORD}' IN ROLE pg_monitor")
    for number in range(count):
        server.sql(f"CREATE DATABASE shop_{number}")


@contextmanager
def _busy_session(server: LocalServer) -> Iterator[None]:
    """A session at work, which the gates' plans do not allow."""
    with closing(psycopg.connect(server.dsn(), autocommit=True)) as connection:
        connection.pgconn.send_query(b"SELECT pg_sleep(86400)")
        try:
            yield
        finally:
            connection.cancel()


def _counts(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Samples of each database so far."""
    return {name: int(calls) for name, calls in connection.execute(_COUNTS).fetchall()}


def _wait(true: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.5)


if __name__ == "__main__":
    main()
