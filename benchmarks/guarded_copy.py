"""One guarded backup in a process of its own, so that what it costs can be told from what the benchmark costs.

Takes one JSON document as its argument: ``dsn``, ``plan`` (as in a plan file) and ``baseline_seconds``. SIGTERM
stops it in good order. Writes the backup's record to stdout.
"""

from __future__ import annotations

import json
import sys

from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.backup import dump
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.priority import give_way
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.errors import BackupStopped
from airflow_backup_guard.repository.open import open_repository


def main() -> int:
    """Exit status 0 once the backup is whole, 3 if it was stopped."""
    asked = json.loads(sys.argv[1])
    plan = BackupPlan.from_dict(asked["plan"])
    repository = open_repository(plan.repository)
    give_way()
    try:
        with stop_on_signals() as stop:
            snapshot = take_snapshot(plan, asked["dsn"], repository)
            seconds = asked["baseline_seconds"]
            record = copy(plan, snapshot, asked["dsn"], repository, stop=stop, baseline_seconds=seconds)
    except BackupStopped:
        return 3
    sys.stdout.write(dump(record).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
