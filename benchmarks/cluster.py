"""The database that is backed up: filled with data of which half does not compress, and kept busy by pgbench."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType

import psycopg

from airflow_backup_guard.postgres.account import Account, account_for
from airflow_backup_guard.postgres.server import LocalServer, available_majors
from benchmarks.disk import ModelledDisk, modelled_disk
from benchmarks.report import say

# A server as it is in production, where what the application touches fits into memory and the WAL has its files:
# the data's own write-back and new WAL files would make transactions wait for longer than most backups do. For the
# same reason no checkpoint comes by itself: every backup here begins with a fast one, and every time without a backup
# does, too, so that both pay for the full-page images that follow it.
SETTINGS = {
    "autovacuum": "off",
    "bgwriter_lru_maxpages": "0",
    "checkpoint_timeout": "1h",
    "max_wal_senders": "10",
    "max_wal_size": "16GB",
    "min_wal_size": "8GB",
    "shared_buffers": "2GB",
    "wal_level": "replica",
}
# And one on a modelled disk, where most of what the application touches has to be read. Data goes past the kernel's
# cache, which would otherwise keep what a backup reads, and write back what the application changes in gusts.
DISK_SETTINGS = {
    "debug_io_direct": "data",
    "max_wal_size": "4GB",
    "min_wal_size": "1GB",
    "shared_buffers": "64MB",
}
_DISK_MAJOR = 17  # the setting came with 16
DATABASE = "bench"
MEGABYTES_PER_SCALE = 15
_CLIENTS = 8
_ROW_BYTES = 8_000  # one row fills a page; PLAIN storage keeps PostgreSQL from trying to compress it
# WAL that a server had long ago, whose files it now writes over.
_WAL_MESSAGES_PER_SCALE, _WAL_MESSAGE_BYTES = 8, 10_000_000
_ROWS_PER_SCALE = MEGABYTES_PER_SCALE * 1_000_000 // 8_192


@dataclass(frozen=True)
class Cluster:
    """A running, filled server, and a folder for what is stored and logged."""

    server: LocalServer
    work: Path
    account: Account
    repositories: Path
    host: tuple[int, ...]
    worker: tuple[int, ...]
    """Processors of the database with its load, and of tools that run elsewhere in production: all of them for both,
    unless set apart."""
    disk: ModelledDisk | None = None
    """Where the data is, with ``--disk modelled``."""

    @property
    def dsn(self) -> str:
        """How to connect, over the socket."""
        return self.server.dsn(DATABASE)

    def folder(self, name: str) -> Path:
        """A new folder that the server's user can write to."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.work))
        self.account.own(path)
        path.chmod(0o755)
        return path

    @contextmanager
    def target(self) -> Iterator[Path]:
        """An empty folder to back up into, gone at the end."""
        path = Path(tempfile.mkdtemp(prefix="backup-guard-bench-", dir=self.repositories))
        self.account.own(path)
        path.chmod(0o755)
        # What the last backup left to be written to disk is not this one's doing.
        os.sync()
        if self.disk:
            self.disk.forget()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def size(self) -> int:
        """Bytes of all databases."""
        return int(self.server.sql("SELECT sum(pg_database_size(oid)) FROM pg_database"))


@contextmanager
def filled_cluster(
    options: argparse.Namespace, settings: Mapping[str, str] | None = None, *, apart: bool = False
) -> Iterator[Cluster]:
    """Make a cluster of ``--scale``, or take the one in ``--cluster``; gone at the end unless it is to be kept.

    ``apart``: it has half of the processors, with its load, and the tools that run elsewhere in production the others.
    """
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    half = len(cpus) // 2 if apart else 0
    host, worker = cpus[half:], cpus[:half] or cpus
    with ExitStack() as stack:
        disk = stack.enter_context(modelled_disk()) if options.disk == "modelled" else None
        os.sched_setaffinity(0, host)  # and all that is started from here
        stack.callback(os.sched_setaffinity, 0, cpus)
        work = Path(tempfile.mkdtemp(prefix="backup-guard-bench-"))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        work.chmod(0o711)
        data = disk.folder / "data" if disk else options.cluster.absolute() if options.cluster else work / "data"
        wanted = {**SETTINGS, **(DISK_SETTINGS if disk else {}), **(settings or {})}
        if (data / "PG_VERSION").exists():
            # The settings that a restored server is kept quiet with would switch off what we measure.
            server = LocalServer(data, settings=wanted)
        else:
            server = LocalServer.create(data, major=_major(options), settings=wanted)
        stack.enter_context(server)
        cluster = Cluster(server, work, account_for(data), options.repository or work, host, worker, disk)
        fill(cluster, options.scale)
        if disk:
            disk.slow_down()
        yield cluster


def _major(options: argparse.Namespace) -> int | None:
    usual = _DISK_MAJOR if options.disk == "modelled" else 15
    majors = available_majors()
    major: int | None = options.major or (usual if usual in majors else max(majors, default=None))
    return major


def fill(cluster: Cluster, scale: int) -> None:
    """Bring the data to this scale: pgbench's tables, which compress well, and as many bytes that do not."""
    server = cluster.server
    if server.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'") == "1":
        found = server.sql("SELECT count(*) FROM pgbench_branches", DATABASE)
        if found == str(scale):
            return
        raise SystemExit(f"The cluster that was kept is of scale {found}: say --scale {found}, or remove it.")
    say(f"filling PostgreSQL {server.major} with {2 * scale * MEGABYTES_PER_SCALE} MB")
    server.sql(f"CREATE DATABASE {DATABASE}")
    server.run("pgbench", "--initialize", f"--scale={scale}", "--quiet", DATABASE)
    add_noise(cluster, "noise", scale)
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        for _ in range(scale * _WAL_MESSAGES_PER_SCALE):
            connection.execute(f"SELECT pg_logical_emit_message(false, 'bench', repeat('x', {_WAL_MESSAGE_BYTES}))")
    server.sql("CHECKPOINT")
    # What was just written is not to compete with what is measured.
    os.sync()


def add_noise(cluster: Cluster, table: str, scale: int) -> None:
    """A table of bytes that do not compress, 15 MB for each of ``scale``."""
    with psycopg.connect(cluster.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (content bytea)")
        cursor.execute(f"ALTER TABLE {table} ALTER content SET STORAGE PLAIN")
        with cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
            for _ in range(scale * _ROWS_PER_SCALE):
                copy.write_row((os.urandom(_ROW_BYTES),))


def sustained_tps(cluster: Cluster, seconds: float) -> float:
    """Transactions a second that pgbench reaches here when nothing holds it back, once it is warm."""
    cluster.server.sql("CHECKPOINT")
    cluster.server.run("pgbench", f"--client={_CLIENTS}", "--jobs=2", "--no-vacuum", "--time=3", DATABASE)
    done = cluster.server.run(
        "pgbench", f"--client={_CLIENTS}", "--jobs=2", "--no-vacuum", f"--time={max(1, round(seconds))}", DATABASE
    )
    match = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"pgbench did not say its tps: {done.stdout}")
    return float(match[1])


def capacity(cluster: Cluster, seconds: float) -> float:
    """Transactions a second that would keep the database's processors busy, or its disk with ``--disk modelled``, told
    from a load that is well below.

    What :func:`sustained_tps` finds is more than that: clients that always wait commit in groups, which others do not.
    """
    # Groups of commits are what a disk saves most by, so that a load far below would promise too little.
    tps = sustained_tps(cluster, seconds) * (0.6 if cluster.disk else 0.4)
    with Load(cluster, tps):
        settle(seconds / 2)
        before, busy_before = _busy(cluster)
        settle(seconds)
        after, busy_after = _busy(cluster)
    return tps * (after - before) / (busy_after - busy_before)


def _busy(cluster: Cluster) -> tuple[float, float]:
    """Time so far, and how much of it what bounds the database was busy."""
    if cluster.disk:
        return time.monotonic(), cluster.disk.busy_seconds()
    return _ticks(cluster.host)


def _ticks(cpus: tuple[int, ...]) -> tuple[int, int]:
    """Ticks so far of these processors: all, and those that were busy."""
    everything = busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in {f"cpu{cpu}" for cpu in cpus}:
            values = [int(value) for value in ticks[:8]]
            everything += sum(values)
            busy += sum(values) - values[3] - values[4]
    return everything, busy


@dataclass(frozen=True)
class Transactions:
    """What pgbench logged: when each transaction was due (seconds since 1970), and how long it then took (seconds)."""

    due: array[float]
    latency: array[float]

    def between(self, begin: float, end: float) -> list[float]:
        """Latencies of the transactions that were due in this time."""
        return [latency for due, latency in zip(self.due, self.latency, strict=True) if begin <= due < end]


class Load:
    """pgbench at a fixed rate, from entry to exit; the latency counts from when a transaction was due, so that
    waiting behind others is part of it."""

    _names = count()

    def __init__(self, cluster: Cluster, tps: float, clients: int = _CLIENTS) -> None:
        self._cluster = cluster
        self._prefix = cluster.work / f"load-{next(self._names)}" / "log"
        self._tps = tps
        self._clients = clients
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Load:
        self._prefix.parent.mkdir()
        self._cluster.account.own(self._prefix.parent)
        self._process = self._cluster.server.popen(
            "pgbench",
            f"--client={self._clients}",
            "--jobs=2",
            "--no-vacuum",
            f"--rate={self._tps:.3f}",
            "--time=86400",
            "--log",
            f"--log-prefix={self._prefix}",
            DATABASE,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        # pgbench's own --time ends with SIGALRM: transactions under way finish, and the log is written out.
        self._process.send_signal(signal.SIGALRM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def transactions(self) -> Transactions:
        """All that was logged; call it after the end."""
        due, latency = array("d"), array("d")
        for path in self._prefix.parent.iterdir():
            for line in path.read_text().splitlines():
                fields = line.split()
                if len(fields) < 6 or not fields[2].isdigit():
                    continue
                took = int(fields[2]) / 1e6
                due.append(int(fields[4]) + int(fields[5]) / 1e6 - took)
                latency.append(took)
        shutil.rmtree(self._prefix.parent)
        return Transactions(due, latency)


def settle(seconds: float) -> None:
    """Leave the machine alone for a while."""
    time.sleep(seconds)
