"""Operators as Airflow runs them: ``execute`` in a process whose SIGTERM becomes ``on_kill``, and then goes on."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.backup import Snapshot, dump_plain, load_plain
from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.operators import (
    BackupAuditOperator,
    BackupExpireOperator,
    BackupRestoreOperator,
    BackupVerifyOperator,
    GuardedCommandOperator,
    LoadRecordOperator,
    RestoreDrillOperator,
    ThrottledCopyOperator,
)
from airflow_backup_guard.operators.snapshot import SnapshotTeardownOperator
from airflow_backup_guard.repository import open_repository
from tests.integration.guarded import plan_for


class TaskInstance:
    """As much of Airflow's as the operators use."""

    task_id = "copy"

    def xcom_push(self, key: str, value: Any) -> None:
        """Say it, so that it is in the output."""
        print(f"{key}: {value}", flush=True)


def execute(operator: Any) -> Any:
    """Run a task."""

    def told(number: int, frame: FrameType | None) -> None:
        operator.on_kill()

    signal.signal(signal.SIGTERM, told)
    events = defaultdict(lambda: SimpleNamespace(extra={}))
    return operator.execute({"ti": TaskInstance(), "task": operator, "outlet_events": events})


def plan_of(folder: str, **values: Any) -> BackupPlan:
    """The plan of these tests; Airflow's connection ``shop`` is in the environment."""
    return plan_for(Path(folder), **values)


def take(folder: str, dsn: str) -> dict[str, Any]:
    """A snapshot as XCom has it."""
    plan = plan_of(folder)
    return dump_plain(take_snapshot(plan, dsn, open_repository(plan.repository)))


def copy(folder: str, dsn: str, snapshot: dict[str, Any] | None = None, rate: str = "500MB/s") -> None:
    """The copy, of a new snapshot unless one is given."""
    plan = plan_of(folder, max_rate=rate, min_rate=rate)
    execute(ThrottledCopyOperator(task_id="copy", plan=plan, snapshot=snapshot or take(folder, dsn)))


def teardown(folder: str, snapshot: dict[str, Any]) -> None:
    """What ends a run."""
    load_plain(Snapshot, snapshot)
    execute(SnapshotTeardownOperator(task_id="teardown", plan=plan_of(folder), snapshot=snapshot))


def verify(folder: str) -> None:
    """Of the newest backup."""
    execute(BackupVerifyOperator(task_id="verify", plan=plan_of(folder), backup="latest"))


def restore(folder: str, target: str) -> None:
    """Of the newest backup."""
    execute(BackupRestoreOperator(task_id="restore", plan=plan_of(folder), to=target))


def drill(folder: str, scratch: str) -> None:
    """Of the newest backup."""
    execute(RestoreDrillOperator(task_id="drill", plan=plan_of(folder), scratch=scratch))


def expire(folder: str) -> None:
    """All but the newest."""
    execute(BackupExpireOperator(task_id="expire", plan=plan_of(folder, retention=RetentionPolicy(keep_last=1))))


def audit(folder: str) -> None:
    """Of the one plan; that not all is well in it is no failure here."""
    execute(BackupAuditOperator(task_id="audit", plan=plan_of(folder)))


def record_load(folder: str) -> None:
    """One short measurement."""
    execute(LoadRecordOperator(task_id="record_load", plan=plan_of(folder), seconds=0.5))


def command(folder: str, marker: str) -> None:
    """A guarded command whose stdout is stored."""
    words = ["sh", "-c", f"for n in 1 2 3 4 5 6 7 8; do echo {marker} $n; sleep 0.1; done"]
    execute(GuardedCommandOperator(task_id="copy", plan=plan_of(folder), command=words, store=f"dump-{os.getpid()}"))
