"""Two workers run one copy: one that Airflow took for dead, and its retry. Neither harms the other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from airflow_backup_guard.core import BackupPlan, backup
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.attempt import close_attempt
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import BackupGuardError, ObjectMissing
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.local import LocalRepository
from tests.faults import operators
from tests.faults.forks import Forks
from tests.faults.halting import HaltingRepository
from tests.faults.left import assert_verified, ours_in, wait_for_nothing_of_ours, whole_backups
from tests.integration.guarded import plan_for, wait_until

OPERATORS = "tests.faults.operators"
WALSENDERS = "SELECT string_agg(pid::text, ' ') FROM pg_stat_progress_basebackup"
SLOT = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'backup_guard'"
ALL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'backup_guard%'"


def test_a_worker_that_wakes_up_beside_its_retry(
    server: LocalServer, guard_dsn: str, tmp_path: Path, forked: Forks
) -> None:
    """A worker stands still, loses its session, and is taken for dead; its retry ends what it still has in the
    database, and copies. The first wakes in the middle of that and fails; the retry's backup is whole, and alone."""
    before = ours_in(server)
    folder = str(tmp_path / "backups")
    connection = f"postgres://guard:guard@127.0.0.1:{server.port}/postgres"
    snapshot = operators.take(folder, guard_dsn)
    job = [f"{OPERATORS}:copy", folder, guard_dsn, snapshot, "8MB/s"]
    zombie = forked.start(job, AIRFLOW_CONN_SHOP=connection)
    wait_until(lambda: server.sql(WALSENDERS), 60)
    os.kill(zombie.pid, signal.SIGSTOP)
    try:
        first = server.sql(WALSENDERS)
        server.sql(SLOT)
        wait_until(lambda: server.sql("SELECT count(*) FROM pg_replication_slots") == "0")
        retry = forked.start(job, AIRFLOW_CONN_SHOP=connection)
        wait_until(lambda: server.sql(WALSENDERS) not in ("", first), 60)
        assert " " not in server.sql(WALSENDERS), "two copies at once"
    finally:
        os.kill(zombie.pid, signal.SIGCONT)
    assert zombie.wait() != 0
    # Whichever it sees first, its session or its files are gone: a retry can mend both.
    assert "SourceUnavailable" in zombie.output or "RepositoryUnavailable" in zombie.output
    assert retry.wait() == 0, retry.output
    repository = open_repository(plan_for(Path(folder)).repository)
    (record,) = whole_backups(repository)
    assert record.backup_id == snapshot["backup_id"]
    assert_verified([record], repository)
    wait_for_nothing_of_ours(server, before)
    forked.run([f"{OPERATORS}:teardown", folder, snapshot], AIRFLOW_CONN_SHOP=connection)
    assert whole_backups(repository) == [record]


class Zombie:
    """A copy in a thread that stands still where its repository does; all it had in the database is gone by then."""

    def __init__(self, plan: BackupPlan, server: LocalServer, dsn: str, at: str) -> None:
        self.repository = HaltingRepository(Path(plan.repository.removeprefix("file://")), at)
        self.snapshot = take_snapshot(plan, dsn, self.repository)
        self.error: Exception | None = None
        self.stop = Stop()
        self._run = lambda: copy(plan, self.snapshot, dsn, self.repository, stop=self.stop, baseline_seconds=0.3)
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()
        assert self.repository.halted.wait(60), self.error
        server.sql(ALL)
        wait_until(lambda: server.sql("SELECT count(*) FROM pg_replication_slots") == "0")

    def wake(self) -> None:
        """Let it go on, to its end."""
        self.repository.go_on.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _copy(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.error = error


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    """As fast as it can."""
    return plan_for(tmp_path / "backups")


@pytest.mark.parametrize("at", ["records/", "base.tar"])
def test_a_worker_that_wakes_up_after_its_retry(server: LocalServer, guard_dsn: str, plan: BackupPlan, at: str) -> None:
    """It stood still before it made the backup visible, or stored its largest part: the retry's backup stays as
    it is, to the byte, and the sleeper is told that somebody else has made it."""
    zombie = Zombie(plan, server, guard_dsn, at)
    repository = open_repository(plan.repository)
    record = copy(plan, zombie.snapshot, guard_dsn, repository, stop=Stop(), baseline_seconds=0.3)
    stored = {info.key: info.tag for info in repository.list("backups/")}
    zombie.wake()
    assert isinstance(zombie.error, BackupGuardError), zombie.error
    assert whole_backups(repository) == [record]
    assert {part.key for part in record.parts} <= {info.key for info in repository.list("backups/")}
    assert all(info.tag == stored[info.key] for info in repository.list("backups/") if info.key in stored)
    assert_verified([record], repository)


def test_a_worker_that_wakes_up_and_makes_a_backup_of_what_its_retry_removed(
    server: LocalServer, guard_dsn: str, plan: BackupPlan
) -> None:
    """What was stored of it is gone, as the retry took it for dead: its backup does not stay visible, and the retry's
    becomes so."""
    zombie = Zombie(plan, server, guard_dsn, "records/")
    second = HaltingRepository(zombie.repository.root, "backup_manifest")
    found: list[Any] = []
    retry = threading.Thread(
        target=lambda: found.append(copy(plan, zombie.snapshot, guard_dsn, second, stop=Stop(), baseline_seconds=0.3))
    )
    retry.start()
    assert second.halted.wait(60)
    zombie.wake()
    assert isinstance(zombie.error, ObjectMissing), zombie.error
    assert list(catalog.backups(second)) == []
    second.go_on.set()
    retry.join(60)
    assert whole_backups(second) == found
    assert_verified(found, second)


class LateReader(LocalRepository):
    """While it finds that there is no record yet, somebody else makes one."""

    def __init__(self, root: Path, meanwhile: Callable[[], object]) -> None:
        super().__init__(root)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def reader(self, key: str) -> BinaryIO:
        """As it was before."""
        try:
            return super().reader(key)
        except ObjectMissing:
            meanwhile, self._meanwhile = self._meanwhile, None
            if meanwhile is not None and key.startswith(backup.RECORDS):
                meanwhile()
            raise


@pytest.mark.parametrize("who", ["a retry", "a teardown"])
def test_the_first_ends_well_just_as_another_begins(guard_dsn: str, plan: BackupPlan, who: str) -> None:
    """The other had looked, and seen no backup: it does not tidy up what has become one, and a retry returns it."""
    repository = open_repository(plan.repository)
    snapshot = take_snapshot(plan, guard_dsn, repository)

    def first() -> object:
        return copy(plan, snapshot, guard_dsn, repository, stop=Stop(), baseline_seconds=0.3)

    late = LateReader(Path(plan.repository.removeprefix("file://")), first)
    if who == "a retry":
        copied = copy(plan, snapshot, guard_dsn, late, stop=Stop(), baseline_seconds=0.3)
        assert [copied] == whole_backups(repository)
    else:
        assert close_attempt(plan, snapshot, late, "the run ended without it") is False
        (copied,) = whole_backups(repository)
    assert_verified([copied], repository)
    assert list(repository.list("attempts/")) == []
