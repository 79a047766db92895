"""The shop of the game day: a private PostgreSQL, customers who order, and a backup script that nobody guards."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil
import psycopg

from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from demo.run import SETTINGS

ROGUE_ROLE = "old_scripts"
SCRIPT = "nightly_backup.sh"
CUSTOMERS = 5000
_ROLES = """
CREATE ROLE guard LOGIN REPLICATION PASSWORD '{0}' IN ROLE pg_monitor;
CREATE ROLE owner LOGIN SUPERUSER PASSWORD '{0}';
CREATE ROLE {1} LOGIN REPLICATION PASSWORD '{0}';
CREATE DATABASE shop;
"""
_TABLES = f"""
CREATE TABLE customers AS SELECT id, 'customer ' || id AS name, md5(id::text) AS card
    FROM generate_series(1, {CUSTOMERS}) id;
CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE goods AS SELECT id, repeat(md5(id::text), 60) AS description FROM generate_series(1, {{goods}}) id
"""
_WALSENDERS = "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'"
_DIGEST = "SELECT md5(string_agg(customers::text, ',' ORDER BY id)) FROM customers"
_GOODS_PER_MEGABYTE = 500
_SCRIPTS_AT_ONCE = 3
FIGURES_OF_SECONDS = 3.0


class Customers(threading.Thread):
    """Orders about a hundred times a second, one after the other, and remembers how long each took."""

    def __init__(self, dsn: str) -> None:
        super().__init__(name="customers", daemon=True)
        self._dsn = dsn
        self._ending = threading.Event()
        self._orders: deque[tuple[float, float]] = deque(maxlen=2000)

    def run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._ending.wait(0.008):
                began = time.monotonic()
                connection.execute("INSERT INTO orders (customer) VALUES (floor(random() * 5000) + 1)")
                ended = time.monotonic()
                self._orders.append((ended, ended - began))

    def figures(self) -> tuple[float, float]:
        """Orders a second, and the 95th percentile of their latency in seconds, of the last three seconds."""
        since = time.monotonic() - FIGURES_OF_SECONDS
        latencies = [took for ended, took in list(self._orders) if ended > since]
        if len(latencies) < 2:
            return 0.0, float("inf")
        return len(latencies) / FIGURES_OF_SECONDS, statistics.quantiles(latencies, n=20)[-1]

    def end(self) -> None:
        """Stop ordering."""
        self._ending.set()
        self.join(5)


class Shop:
    """Everything that a game day runs, in ``work``; as a context manager it is open inside and gone after."""

    def __init__(self, work: Path, megabytes: int) -> None:
        self.work = work
        self.repository = (work / "backups").as_uri()
        self.scratch = work / "scratch"
        self._megabytes = megabytes
        self._password = secrets.token_hex(8)
        self._server: LocalServer | None = None
        self._script: subprocess.Popen[bytes] | None = None
        self._customers: Customers | None = None
        self.digest = ""

    def __enter__(self) -> Shop:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self) -> None:
        (self.work / "backups").mkdir()
        self._server = LocalServer.create(major=18, settings=SETTINGS).start()
        self._server.sql(_ROLES.format(self._password, ROGUE_ROLE))
        self._server.sql(_TABLES.format(goods=self._megabytes * _GOODS_PER_MEGABYTE), dbname="shop")
        self.digest = self._server.sql(_DIGEST, dbname="shop")
        self._customers = Customers(self._server.dsn("shop"))
        self._customers.start()
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.environment().items()]
        self.settings.write_text("\n".join([*lines, ""]), encoding="utf-8")
        self.settings.chmod(0o600)

    @property
    def server(self) -> LocalServer:
        """The shop's database."""
        assert self._server is not None
        return self._server

    @property
    def settings(self) -> Path:
        """The file that a trainee's second terminal reads."""
        return self.work / "shop.env"

    def dsn(self, user: str) -> str:
        """How a role of the shop connects."""
        return self.server.dsn("shop", user, password=self._password, tcp=True)

    def environment(self) -> dict[str, str]:
        """What makes ``backup-guard``, ``psql`` and ``pg_dump`` meet this shop."""
        programs = [str(Path(sys.executable).parent), str(self.server.binaries), os.environ.get("PATH", "")]
        return {
            "PATH": os.pathsep.join(programs),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGDATABASE": "shop",
            "PGUSER": "owner",
            "PGPASSWORD": self._password,
            "BACKUP_GUARD_DSN": self.dsn("guard"),
            "BACKUP_GUARD_REPOSITORY": self.repository,
            "SCRATCH": str(self.scratch),
        }

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run what a trainee would type in the second terminal."""
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            env={**os.environ, **self.environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )

    def figures(self) -> tuple[float, float]:
        """Orders a second and their 95th percentile of latency in seconds, just now."""
        return self._customers.figures() if self._customers else (0.0, float("inf"))

    # --- the backup script

    def start_script(self) -> None:
        """As cron would at noon: base backups, unthrottled, several at once, again as soon as they are done."""
        path = self.work / SCRIPT
        backup = "pg_basebackup --pgdata=- --format=tar --wal-method=none --checkpoint=fast | gzip -1 >/dev/null"
        loops = [f"while :; do {backup}; sleep 0.1; done &" for _ in range(_SCRIPTS_AT_ONCE)]
        path.write_text("\n".join(["#!/usr/bin/env bash", *loops, "wait", ""]), encoding="utf-8")
        self._script = subprocess.Popen(
            ["bash", str(path)],
            env={**os.environ, **self.environment(), "PGUSER": ROGUE_ROLE},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end_script(self) -> None:
        """End the script and all that it started; harmless twice."""
        if self._script is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._script.pid, signal.SIGKILL)
            self._script.wait()

    def script_is_gone(self) -> bool:
        """Whether nothing of the script is left: neither its processes nor its sessions in the database."""
        return not self._script_runs() and self.rogue_sessions() == 0

    def _script_runs(self) -> bool:
        if self._script is None:
            return False
        self._script.poll()
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, PermissionError, psutil.Error):
                # What ended, and nobody waited for, is gone as well.
                if os.getpgid(process.pid) == self._script.pid and process.status() != psutil.STATUS_ZOMBIE:
                    return True
        return False

    def rogue_sessions(self) -> int:
        """Sessions of the script in the database."""
        return int(self.server.sql(_WALSENDERS.format(ROGUE_ROLE)))

    # --- backups and tables

    def backups(self) -> int:
        """How many whole backups the repository has."""
        return sum(1 for _ in open_repository(self.repository).list("records/"))

    def audits(self) -> int:
        """How many audits the repository keeps."""
        return sum(key.key.endswith(".json") for key in open_repository(self.repository).list("audits/"))

    def drop_customers(self) -> None:
        """What a colleague does by mistake."""
        self.server.sql("DROP TABLE customers", dbname="shop")

    def customers_are_back(self) -> bool:
        """Whether the table is there again, row for row."""
        there = self.server.sql("SELECT to_regclass('customers') IS NOT NULL", dbname="shop")
        return there == "t" and self.server.sql(_DIGEST, dbname="shop") == self.digest

    def close(self) -> None:
        """End and remove all of it, a server on the scratch folder included; harmless twice."""
        self.end_script()
        if self._customers is not None:
            self._customers.end()
        for lock in self.work.glob("scratch*/postmaster.pid"):
            with suppress(OSError, ValueError):
                os.kill(int(lock.read_text().split()[0]), signal.SIGQUIT)
        if self._server is not None:
            self._server.close()
