"""SIGKILL and SIGTERM at random moments of every command and operator: what is left of them, and what comes after."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.postgres.account import account_for, private_folder
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from tests.conftest import SMALL, prepare
from tests.faults.forks import Forks, Job
from tests.faults.left import (
    BOUND_SECONDS,
    assert_verified,
    ours_in,
    restored_sql,
    wait_for_nothing_of_ours,
    whole_backups,
)
from tests.integration.guarded import wait_until
from tests.integration.test_drill import servers_on

KILLS = int(os.environ.get("KILLS", "500" if os.environ.get("FAULTS") == "full" else "24"))
SEED = int(os.environ.get("FAULTS_SEED", "20261128"))
OPERATORS = "tests.faults.operators"
MARKER = "guarded-by-test-kills"


@dataclass
class World:
    """A database, a repository with two backups as a template, and a way to run things on a copy of it."""

    forks: Forks
    server: LocalServer
    dsn: str
    folder: Path
    scratch: Path
    before: str
    environment: dict[str, str]
    template: Path
    rows: dict[str, int] = field(default_factory=dict)
    runs: int = 0

    def fresh(self) -> tuple[str, str]:
        """A copy of the template, and a folder that is not there yet for what is restored."""
        self.runs += 1
        repository = self.folder / "backups"
        shutil.rmtree(repository, ignore_errors=True)
        shutil.copytree(self.template, repository)
        return str(repository), str(self.scratch / f"restored-{self.runs}")

    def start(self, job: list[object], repository: str) -> Job:
        """Begin a job on a repository."""
        return self.forks.start(job, BACKUP_GUARD_REPOSITORY=Path(repository).as_uri(), **self.environment)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, role_dsn: Callable[..., str], forked: Forks) -> Iterator[World]:
    """Two backups of a small cluster, made by the command itself, of which the second has a row more."""
    folder = tmp_path_factory.mktemp("kills")
    scratch = private_folder(account_for(Path("/")), "kills")
    settings = {**SMALL, "autovacuum": "off"}
    with LocalServer.create(major=18, settings=settings) as server:
        prepare(server)
        server.sql("CREATE TABLE kept (n int)")
        dsn = role_dsn(server)
        connection = f"postgres://guard:guard@127.0.0.1:{server.port}/postgres"
        environment = {"BACKUP_GUARD_DSN": dsn, "AIRFLOW_CONN_SHOP": connection}
        made = World(forked, server, dsn, folder, scratch, ours_in(server), environment, folder / "template")
        for number in (1, 2):
            server.sql(f"INSERT INTO kept VALUES ({number})")
            done = made.start(["backup", "--checkpoint", "fast", "--plan-name", "shop"], str(made.template))
            assert done.wait() == 0, done.output
            found = open_repository(made.template.as_uri())
            newest = max(record.backup_id for record in whole_backups(found))
            made.rows[newest] = number
        done = made.start(["verify", "latest"], str(made.template))
        assert done.wait() == 0, done.output
        yield made
    shutil.rmtree(scratch)


Line = Callable[[World, str, str], list[object]]
# What is run on a repository, with a target for what is restored; and about how long it takes at first.
JOBS: dict[str, tuple[Line, float]] = {
    "backup": (lambda w, r, t: ["backup", "--checkpoint", "fast", "--plan-name", "shop"], 1.8),
    "verify": (lambda w, r, t: ["verify", "latest"], 0.6),
    "restore": (lambda w, r, t: ["restore", "latest", "--to", t], 0.8),
    "restore --resume": (lambda w, r, t: ["restore", "latest", "--to", t, "--resume"], 0.8),
    "drill": (lambda w, r, t: ["drill", "latest", "--scratch", str(w.scratch / "drills")], 2.5),
    "expire": (lambda w, r, t: ["expire", "--keep-last=1", "--yes"], 0.2),
    "run": (
        lambda w, r, t: [
            *("run", "--plan-name", "shop", "--store", Path(t).name, "--"),
            *("sh", "-c", f"for n in 1 2 3 4 5 6 7 8; do echo {MARKER} $n; sleep 0.1; done"),
        ],
        1.6,
    ),
    "hold": (lambda w, r, t: ["hold", "latest", "--reason", "a test"], 0.1),
    "audit": (lambda w, r, t: ["audit", "--html", f"{t}.html"], 0.5),
    "record-load": (lambda w, r, t: ["record-load", "--plan-name", "shop", "--for", "500ms"], 0.9),
    "copy operator": (lambda w, r, t: [f"{OPERATORS}:copy", r, w.dsn], 1.8),
    "verify operator": (lambda w, r, t: [f"{OPERATORS}:verify", r], 0.6),
    "restore operator": (lambda w, r, t: [f"{OPERATORS}:restore", r, t], 0.8),
    "drill operator": (lambda w, r, t: [f"{OPERATORS}:drill", r, str(w.scratch / "drills")], 2.5),
    "expire operator": (lambda w, r, t: [f"{OPERATORS}:expire", r], 0.2),
    "audit operator": (lambda w, r, t: [f"{OPERATORS}:audit", r], 0.5),
    "record-load operator": (lambda w, r, t: [f"{OPERATORS}:record_load", r], 0.9),
    "command operator": (lambda w, r, t: [f"{OPERATORS}:command", r, MARKER], 1.6),
}
# An audit finds that this plan promises little, and says so by its status.
GOOD = {name: (0, 1) if name.startswith("audit") else (0,) for name in JOBS}
# Those that answer at once leave SIGTERM its usual effect; what they do is one object, written or not.
SHORT = ("hold", "audit")
STOPPED = {"run": 143}


def assert_ended_as_documented(name: str, job: Job) -> None:
    """After SIGTERM: it had ended before, or it says why it ends, or it was not at work yet."""
    status = job.wait(30)
    if status == -signal.SIGTERM:
        # Nobody was at work yet, or no longer: a handler says so at once.
        assert "Stopping" not in job.output or name in SHORT, job.output
        return
    if status not in GOOD[name]:
        assert status == STOPPED.get(name, 1), f"{name}: {status}\n{job.output}"
        assert "Stopped: " in job.output, f"{name}: {job.output}"
        assert "SIGTERM" in job.output or "Airflow stopped the task" in job.output, job.output


def ours_running() -> list[psutil.Process]:
    """Guarded commands that still run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if MARKER in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid():
            found.append(process)
    return found


def test_kill_at_any_moment(world: World, cluster_folder: Path) -> None:
    """Within BOUND_SECONDS of each kill the database is as it was and no process of ours runs; every visible backup is
    whole; the same job then succeeds, and so does an expiry, twice; a sample restores with all that was committed
    before its snapshot. KILLS=500 tries harder."""
    source = random.Random(SEED)
    took = {name: seconds for name, (_, seconds) in JOBS.items()}
    counts: Counter[str] = Counter()
    slowest = 0.0
    order = [name for _ in range(KILLS // len(JOBS) + 1) for name in source.sample(list(JOBS), len(JOBS))][:KILLS]
    kept: tuple[BackupRecord, str] | None = None
    for number, name in enumerate(order):
        repository, target = world.fresh()
        line = JOBS[name][0](world, repository, target)
        world.server.sql(f"INSERT INTO kept VALUES ({number + 10})")
        rows = int(world.server.sql("SELECT count(*) FROM kept"))
        sent = source.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        job = world.start(line, repository)
        time.sleep(source.uniform(0, took[name]))
        job.send(sent)
        if sent == signal.SIGTERM:
            assert_ended_as_documented(name, job)
        counts["in the middle" if job.wait(30) not in GOOD[name] else "after the end"] += 1
        counts[sent.name] += 1
        slowest = max(slowest, wait_for_nothing_of_ours(world.server, world.before))
        wait_until(lambda: not ours_running() and not servers_on(world.scratch), 2 * BOUND_SECONDS)
        opened = open_repository(Path(repository).as_uri())
        whole = whole_backups(opened)
        for record in whole:
            world.rows.setdefault(record.backup_id, rows)
        assert len(whole) >= (1 if name.startswith("expire") else 2)

        resumes = name == "restore --resume" and not Path(target, "global/pg_control").exists()
        retarget = target if resumes or not Path(target).exists() else f"{target}-again"
        began = time.monotonic()
        retry = world.start(JOBS[name][0](world, repository, retarget), repository)
        assert retry.wait() in GOOD[name], f"{name} after {sent.name}: {retry.output}"
        took[name] = max(time.monotonic() - began, 0.05)
        after = whole_backups(opened)
        for record in after:
            world.rows.setdefault(record.backup_id, rows)
        if name in ("backup", "copy operator"):
            assert len(after) == len(whole) + 1
            kept = max(after, key=lambda record: record.backup_id), repository
            if number % 3 == 0:
                assert_verified(after, opened)
        if name.startswith("drill"):
            assert [path.name for path in (world.scratch / "drills").iterdir()] == [".backup-guard-drills"]
        if name.startswith("audit"):
            unbroken = world.start(["audit", "--verify-chain"], repository)
            assert unbroken.wait() == 0, unbroken.output
        for _ in range(2):
            expiry = world.start(["expire", "--keep-last=2", "--yes"], repository)
            assert expiry.wait() == 0, expiry.output
        assert "Nothing was removed" in expiry.output
        assert {record.backup_id for record in whole_backups(opened)} <= {record.backup_id for record in after}
        wait_for_nothing_of_ours(world.server, world.before)
        if kept is not None and kept[1] == repository:
            counts["restored"] += 1
            answer = restored_sql(kept[0], opened, cluster_folder / f"data{number}", "SELECT count(*) FROM kept")
            assert int(answer) >= world.rows[kept[0].backup_id]
            shutil.rmtree(cluster_folder / f"data{number}")
            kept = None
        for path in world.scratch.glob("restored-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{KILLS} kills: {dict(counts)}; the database was as before after {slowest:.1f} s at most")
    assert counts["in the middle"] > KILLS // 4
