"""The main job on one machine: a busy PostgreSQL is backed up by the example DAG, restored, started and compared.

Everything lives in a temporary folder and is gone at the end, also after Ctrl-C. Exit status 0 only if the backup is
verified, the restored server starts, and everything that was committed before the snapshot is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn

import psycopg

from airflow_backup_guard.core.backup import BackupRecord, load_plain
from airflow_backup_guard.core.report import record_lines
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.server import LocalServer

TOP = Path(__file__).resolve().parent.parent
DAG_ID = "guarded_base_backup"
PASSWORD = secrets.token_hex(16)
ROLE = f"CREATE ROLE guard LOGIN REPLICATION PASSWORD '{PASSWORD}' IN ROLE pg_monitor; CREATE DATABASE shop"
# A spread checkpoint takes this part of this time, and the copy waits for it.
SETTINGS = {"checkpoint_timeout": "30s", "checkpoint_completion_target": "0.2", "max_slot_wal_keep_size": "2GB"}
# What a person wants to see of Airflow's log: our own lines, without the prefix.
OURS = "airflow_backup_guard"
BEGAN = time.monotonic()


class DemoFailed(Exception):
    """Something that the demo claims is not true."""


def say(text: str) -> None:
    """One line of progress with the time since the beginning."""
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


class Heartbeat(threading.Thread):
    """Commits a row ten times a second, and remembers which LSN each commit lies before."""

    def __init__(self, dsn: str) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._dsn = dsn
        self._ending = threading.Event()
        self.committed: list[tuple[int, LSN]] = []

    def run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE heartbeat (id bigint PRIMARY KEY)")
            number = 0
            while not self._ending.wait(0.1):
                number += 1
                connection.execute("INSERT INTO heartbeat VALUES (%s)", [number])
                (lsn,) = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ("0/0",)
                self.committed.append((number, LSN.parse(lsn)))

    def end(self) -> None:
        """Stop writing."""
        self._ending.set()
        self.join()


def airflow_environment(home: Path, server: LocalServer, repository: str) -> dict[str, str]:
    """Airflow with a home of its own and nothing of the caller's; the DAG's connection and its few settings."""
    hour = datetime.now(timezone.utc).replace(minute=0)
    window = f"daily {hour - timedelta(hours=1):%H:%M}-{hour + timedelta(hours=4):%H:%M}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SHOP_", "PG"))}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(TOP / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_SHOP_PRIMARY": f"postgres://guard:{PASSWORD}@127.0.0.1:{server.port}/shop",
        "SHOP_BACKUP_REPOSITORY": repository,
        "SHOP_OFF_PEAK": window,
        "SHOP_TIME_ZONE": "UTC",
        "SHOP_QUIET_FOR": "5s",
    }


@contextmanager
def child(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process whose whole group ends with the block; its output can be read as text."""
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=environment["AIRFLOW_HOME"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
        process.wait()
    finally:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, sent)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    continue
        if process.stdout is not None:
            process.stdout.close()


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run to the end; show our own lines of its log as they come, and all of it if it fails."""
    log: list[str] = []
    with child(command, environment) as process:
        for line in process.stdout or ():
            log.append(line)
            if OURS in line and "[info" in line:
                say(line.split("] ", 1)[-1].split(f" [airflow.task.operators.{OURS}")[0].split(f" [{OURS}")[0].strip())
    if process.returncode != 0:
        print("".join(log[-200:]), file=sys.stderr)
        raise DemoFailed(f"{command[-1]} ended with status {process.returncode}")


def back_up(work: Path, server: LocalServer, repository: str) -> dict[str, Any]:
    """Run the DAG through Airflow; returns what its tasks returned."""
    home = work / "airflow"
    home.mkdir()
    environment = airflow_environment(home, server, repository)
    say("Airflow: making its database")
    run([sys.executable, "-m", "airflow", "db", "migrate"], environment)
    say(f"Airflow: running the DAG {DAG_ID}")
    output = home / "result.json"
    script = str(TOP / "demo" / "run_dag.py")
    run([sys.executable, script, DAG_ID, str(TOP / "dags"), str(output)], environment)
    result: dict[str, Any] = json.loads(output.read_text())
    return result


def backup_guard(*arguments: str) -> Any:
    """Run the CLI; returns its JSON."""
    command = [str(Path(sys.executable).parent / "backup-guard"), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise DemoFailed(f"backup-guard {arguments[0]} ended with status {done.returncode}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def restored_rows(work: Path, repository: str) -> tuple[set[int], int, float]:
    """Restore with the CLI, start PostgreSQL on it, and ask it: heartbeats, accounts, and seconds it all took."""
    target = work / "restored"
    began = time.monotonic()
    say("restoring the backup with the CLI into an empty folder")
    backup_guard("restore", "latest", "--repository", repository, "--to", str(target))
    say("starting PostgreSQL on what was restored")
    with LocalServer(target) as restored:
        seconds = time.monotonic() - began
        with psycopg.connect(restored.dsn("shop")) as connection:
            heartbeats = {number for (number,) in connection.execute("SELECT id FROM heartbeat")}
            (accounts,) = connection.execute("SELECT count(*) FROM pgbench_accounts").fetchone() or (0,)
    return heartbeats, accounts, seconds


def report(result: dict[str, Any], record: BackupRecord, lines: list[tuple[str, str]]) -> None:
    """What a person wants to know."""
    print("\n--- the run ---")
    for task in ("off_peak", "write_load"):
        gate = result["returned"][task]
        print(f"{'gate ' + gate['gate']:<18} {gate['text']}")
    for name, value in [*record_lines(record), *lines]:
        print(f"{name:<18} {value}")


def demo(scale: int, work: Path) -> None:
    """All of it; raises :class:`DemoFailed` at the first thing that is not true."""
    repository = (work / "backups").as_uri()
    with ExitStack() as stack:
        say("starting PostgreSQL 18")
        server = stack.enter_context(LocalServer.create(major=18, settings=SETTINGS))
        server.sql(ROLE)
        say(f"filling it with pgbench data, scale {scale} (about {scale * 16} MB)")
        server.run("pgbench", "--initialize", f"--scale={scale}", "--quiet", "shop")
        say("starting a write load of 100 transactions a second")
        load = server.popen("pgbench", "--client=2", "--rate=100", "--time=3600", "shop")
        heartbeat = Heartbeat(server.dsn("shop"))
        heartbeat.start()
        result = back_up(work, server, repository)
        heartbeat.end()
        if load.poll() is not None:
            raise DemoFailed("the write load ended before the backup did")
        left = (
            server.sql("SELECT count(*) FROM pg_replication_slots"),
            server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'backup_guard%'"),
        )
        if left != ("0", "0"):
            raise DemoFailed(f"slots and sessions that were left in the database: {left}")

    shown = backup_guard("show", "latest", "--repository", repository, "--parts")
    record = load_plain(BackupRecord, shown["record"])
    verification = backup_guard("verify", "latest", "--repository", repository)
    if verification["verdict"] != "verified":
        raise DemoFailed(f"the backup is {verification['verdict']}")
    before = {number for number, lsn in heartbeat.committed if lsn <= record.snapshot.lsn}
    heartbeats, accounts, seconds = restored_rows(work, repository)
    lost = before - heartbeats
    report(
        result,
        record,
        [
            ("verified", f"true: {verification['files']} files are as PostgreSQL's manifest says"),
            ("restored", f"true: started after {seconds:.1f} s; {accounts} accounts"),
            ("nothing lost", f"{len(before)} rows committed before the snapshot, {len(before - lost)} restored"),
        ],
    )
    if lost or not before:
        raise DemoFailed(
            f"of {len(before)} rows committed before the snapshot, {len(lost)} are not in the restored server"
        )
    if accounts != scale * 100_000:
        raise DemoFailed(f"pgbench made {scale * 100_000} accounts, and {accounts} were restored")


def interrupted(signal_number: int, frame: object) -> NoReturn:
    """SIGTERM ends it as Ctrl-C does: through every clean-up on the way out."""
    raise KeyboardInterrupt


def main() -> int:
    """Exit status 0 if everything is true, 1 if not, 130 if interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=30, help="of the pgbench data; 1 is about 16 MB (default 30)")
    scale = parser.parse_args().scale
    if scale < 1:
        parser.error("--scale must be 1 or more")
    signal.signal(signal.SIGTERM, interrupted)
    work = Path(tempfile.mkdtemp(prefix="backup-guard-demo-"))
    # PostgreSQL runs as another user when this one is root, and must be able to get to what is restored here.
    work.chmod(0o711)
    try:
        demo(scale, work)
    except (DemoFailed, BackupGuardError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything is cleaned up.", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("\nAll of it is true: backed up under load, verified, restored, started, compared.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
