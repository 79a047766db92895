"""Helpers for tests that make backups: plans, the steps in one call, and what must be true when all is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.core.backup import BackupRecord, Snapshot
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.copy import Progress, copy
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository

ALWAYS = OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC")
BASELINE_SECONDS = 0.5


def plan_for(folder: Path, **values: Any) -> BackupPlan:
    """A plan into a repository in ``folder``: fast checkpoints and generous limits, unless ``values`` say otherwise."""
    folder.mkdir(exist_ok=True)
    defaults: dict[str, Any] = {
        "name": "shop",
        "connection": "shop",
        "repository": folder.as_uri(),
        "calendar": ALWAYS,
        "checkpoint": "fast",
        "max_rate": "500MB/s",
        "min_rate": "500MB/s",
    }
    return BackupPlan(**{**defaults, **values})


def back_up(plan: BackupPlan, dsn: str, repository: Repository | None = None) -> BackupRecord:
    """Snapshot and copy."""
    repository = repository or open_repository(plan.repository)
    snapshot = take_snapshot(plan, dsn, repository)
    return copy(plan, snapshot, dsn, repository, stop=Stop(), baseline_seconds=BASELINE_SECONDS)


def wait_until(true: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something that happens elsewhere, and fail if it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class CopyInFlight:
    """A copy in a thread: ``began`` is set once bytes flow; ``end`` waits for it, and ``error`` is how it failed."""

    def __init__(self, plan: BackupPlan, dsn: str, repository: Repository | None = None) -> None:
        self.plan = plan
        self.dsn = dsn
        self.repository = repository or open_repository(plan.repository)
        self.stop = Stop()
        self.began = threading.Event()
        self.last: Progress | None = None
        self.record: BackupRecord | None = None
        self.error: Exception | None = None
        self.snapshot: Snapshot = take_snapshot(plan, dsn, self.repository)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> CopyInFlight:
        self._thread.start()
        assert self.began.wait(30), self.error
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.request("the test is over")
        self._thread.join(30)

    def end(self, seconds: float = 60) -> None:
        """Wait for its end."""
        self._thread.join(seconds)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.record = copy(
                self.plan,
                self.snapshot,
                self.dsn,
                self.repository,
                stop=self.stop,
                on_progress=self._progress,
                baseline_seconds=BASELINE_SECONDS,
            )
        except Exception as error:
            self.error = error
        finally:
            self.began.set()

    def _progress(self, progress: Progress) -> None:
        self.last = progress
        if progress.done > 1_000_000:
            self.began.set()


def sessions(server: LocalServer) -> int:
    """Sessions of ours that the server still has."""
    return int(server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'backup_guard%'"))


def slots(server: LocalServer) -> int:
    """Replication slots that the server has."""
    return int(server.sql("SELECT count(*) FROM pg_replication_slots"))


def assert_nothing_left(server: LocalServer, repository: Repository, wait: Callable[..., None]) -> None:
    """No session and no slot in the database; no visible backup and not one stored byte of one in the repository."""
    wait(lambda: sessions(server) == 0 and slots(server) == 0)
    assert list(catalog.backups(repository)) == []
    assert list(repository.list("backups/")) == []
