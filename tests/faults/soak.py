"""Backups, verifications, expiries, restores and drills of a loaded database for hours, with faults at random.

``make soak``, or ``python -m tests.faults.soak --minutes 300``: prints a line a minute at most, and a verdict.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine.attempt import close_attempt
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.drill import drill
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.account import account_for, private_folder
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from tests.conftest import SMALL, prepare
from tests.faults.left import BOUND_SECONDS, ours_in, restored_sql, wait_for_nothing_of_ours, whole_backups
from tests.integration.guarded import plan_for

_POLICY = RetentionPolicy(keep_last=3)
_WARM_UP = 0.25  # of all rounds: caches fill, and what is loaded late is loaded
_LINE_SECONDS = 15.0
_HEAD = " minutes  backups  faults  restores  expired      RSS  fds  threads  sessions  slots  temporary  objects"
_WELL = "memory, descriptors, threads, sessions, slots and temporary files are flat; all is well"
_GROWTH = 1.15
_SPARE_BYTES = 16 << 20


@dataclass(frozen=True)
class Held:
    """What this process and the database hold after a round."""

    rss: int
    descriptors: int
    threads: int
    connections: int
    slots: int
    temporary: int
    objects: int


@dataclass
class Account:
    """What has happened."""

    began: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    held: list[Held] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    printed: float = 0.0


class Soak:
    """One run on one server."""

    def __init__(self, server: LocalServer, dsn: str, folder: Path, scratch: Path, seed: int) -> None:
        self.server, self.dsn, self.folder, self.scratch = server, dsn, folder, scratch
        self.source = random.Random(seed)
        self.account = Account()
        self.rows = 0
        self.before = ours_in(server)

    def round(self) -> None:
        """One backup, with or without a fault, and what comes after it."""
        rate = self.source.choice(["15MB/s", "30MB/s", "100MB/s"])
        plan = plan_for(self.folder / "backups", max_rate=rate, min_rate=rate)
        repository = open_repository(plan.repository)
        counts = self.account.counts
        self.rows += 1
        self.server.sql(f"INSERT INTO ledger VALUES ({self.rows})")
        committed = self.rows
        fault = self.source.choice([None, None, None, self.kill_session, self.kill_all, self.stop, self.restart])
        stop = Stop()
        snapshot = take_snapshot(plan, self.dsn, repository)
        trouble = threading.Timer(self.source.uniform(0, 2.5), fault or int, [stop] if fault else [])
        trouble.start()
        try:
            record = copy(plan, snapshot, self.dsn, repository, stop=stop, baseline_seconds=0.3)
        except BackupGuardError as error:
            trouble.join()
            self.expect(fault is not None, f"a backup failed without a fault: {error}")
            counts["failed, as it should"] += 1
            self.wait()
            if self.source.random() < 0.5:
                close_attempt(plan, snapshot, repository, "the soak went on")
            record = copy(plan, snapshot, self.dsn, repository, stop=Stop(), baseline_seconds=0.3)
            counts["retried"] += 1
        trouble.join()
        if fault is not None:
            counts[f"fault: {fault.__name__}"] += 1
            self.wait()
        counts["backups"] += 1
        result = verify(record, repository)
        self.expect(result.verdict is Verdict.VERIFIED, f"{record.backup_id}: {result.problems}")
        expiry = expire(propose(repository, plan.name, _POLICY, "UTC"), repository)
        self.expect(not expiry.failures and len(whole_backups(repository)) <= 3, f"expiry: {expiry.failures}")
        counts["expired"] += len(expiry.expired)
        what = self.source.random()
        if what < 0.25:
            self.restore(record, repository, committed)
        elif what < 0.45:
            done = drill(plan, record, repository, scratch=self.scratch / "drills")
            self.expect(done.passed, f"drill: {done.problems}")
            counts["drills"] += 1

    def restore(self, record: object, repository: object, committed: int) -> None:
        """Restore, start, and count what was committed before the snapshot."""
        place = self.scratch / "restored"
        found = restored_sql(record, repository, place, "SELECT count(*), max(n) FROM ledger")  # type: ignore[arg-type]
        rows, highest = map(int, found.split("|"))
        self.expect(rows == highest >= committed, f"{committed} rows were committed, {rows} restored")
        shutil.rmtree(place)
        self.account.counts["restored"] += 1

    def kill_session(self, stop: Stop) -> None:
        """One session of ours, as an administrator does."""
        self.quietly(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'backup_guard/%' ORDER BY random() LIMIT 1"
        )

    def kill_all(self, stop: Stop) -> None:
        """All of them, as a firewall does."""
        self.quietly(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'backup_guard%'"
        )

    def stop(self, stop: Stop) -> None:
        """What a person or Airflow does."""
        stop.request("the soak")

    def restart(self, stop: Stop) -> None:
        """A crash, and recovery."""
        self.server.stop("immediate")
        self.server.start()
        self.load()

    def quietly(self, sql: str) -> None:
        """In the database, if it is there."""
        try:
            self.server.sql(sql)
        except BackupGuardError as error:
            self.account.problems.append(str(error))

    def load(self) -> None:
        """What the application does; it ends with the server."""
        self.server.popen("pgbench", "--client=2", "--rate=100", "--time=86400", "--no-vacuum", "postgres")

    def wait(self) -> None:
        """Until nothing of ours is left in the database."""
        try:
            wait_for_nothing_of_ours(self.server, self.before, BOUND_SECONDS)
        except AssertionError as error:
            self.account.problems.append(str(error))

    def expect(self, true: bool, problem: str) -> None:
        """Note what is not so."""
        if not true:
            self.account.problems.append(problem)

    def look(self) -> Held:
        """What is held now."""
        gc.collect()
        process = psutil.Process()
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'backup_guard%'"
        return Held(
            process.memory_info().rss,
            process.num_fds(),
            threading.active_count(),
            int(self.server.sql(left)),
            int(self.server.sql("SELECT count(*) FROM pg_replication_slots")),
            sum(1 for _ in Path(tempfile.gettempdir()).rglob("*")),
            sum(1 for path in (self.folder / "backups").rglob("*") if path.is_file()),
        )

    def line(self, *, always: bool = False) -> None:
        """A line of the table, now and then."""
        account, now = self.account, time.monotonic()
        if account.printed and not always and now - account.printed < _LINE_SECONDS:
            return
        if not account.printed:
            print(_HEAD)
        account.printed = now
        faults = sum(number for name, number in account.counts.items() if name.startswith("fault"))
        restores = account.counts["restored"] + account.counts["drills"]
        held = account.held[-1]
        print(
            f"{(now - account.began) / 60:8.1f} {account.counts['backups']:8} {faults:7} {restores:9} "
            f"{account.counts['expired']:8} {held.rss / 1e6:6.0f}MB {held.descriptors:4} {held.threads:8} "
            f"{held.connections:9} {held.slots:6} {held.temporary:10} {held.objects:8}",
            flush=True,
        )

    def verdict(self) -> list[str]:
        """What is wrong; nothing if all is well."""
        held = self.account.held
        problems = list(self.account.problems)
        first = held[int(len(held) * _WARM_UP) : max(len(held) // 2, 1)] or held[:1]
        last = held[-max(len(held) // 4, 1) :]

        def grew(of: Callable[[Held], int]) -> tuple[float, float]:
            return statistics.median(map(of, first)), statistics.median(map(of, last))

        was, now = grew(lambda one: one.rss)
        if now > was * _GROWTH + _SPARE_BYTES:
            problems.append(f"memory grew from {was / 1e6:.0f}MB to {now / 1e6:.0f}MB")
        for name in ("descriptors", "threads", "temporary"):
            was, now = grew(lambda one, name=name: getattr(one, name))  # type: ignore[misc]
            if now > was + 2:
                problems.append(f"{name} grew from {was:.0f} to {now:.0f}")
        if held[-1].connections or held[-1].slots:
            problems.append(f"{held[-1].connections} sessions and {held[-1].slots} slots stay")
        return problems


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status is 0 if all was well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (5)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the faults (the time)")
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    print(f"soak for {given.minutes:g} minutes, seed {given.seed}")
    scratch = private_folder(account_for(Path("/")), "soak")
    temporary = scratch / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    account_for(Path("/")).own(temporary)
    try:
        with LocalServer.create(scratch / "data", major=18, settings=SMALL) as server:
            prepare(server)
            server.run("pgbench", "--initialize", "--quiet", "--scale=3", "postgres")
            server.sql("CREATE TABLE ledger (n int)")
            dsn = server.dsn("postgres", "guard", password="guard", tcp=True)
            soak = Soak(server, dsn, scratch, scratch, given.seed)
            soak.load()
            until = time.monotonic() + given.minutes * 60
            while time.monotonic() < until:
                soak.round()
                soak.account.held.append(soak.look())
                soak.line()
            soak.line(always=True)
    finally:
        tempfile.tempdir = None
        shutil.rmtree(scratch, ignore_errors=True)
    problems = soak.verdict()
    print(", ".join(f"{name}: {number}" for name, number in sorted(soak.account.counts.items())))
    print("\n".join(problems) or _WELL)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
