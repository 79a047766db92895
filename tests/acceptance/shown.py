"""What is stored for the plans of tests/acceptance/dags/shown_plans.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.drill import DrillResult, drill_key
from airflow_backup_guard.core.rogue import Certainty, Kind, RunningBackup
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import load_history
from airflow_backup_guard.engine.response import Evidence, evidence_key
from airflow_backup_guard.repository import open_repository
from tests.load_weeks import record_weeks
from tests.stored import store_backup

NOW = datetime.now(timezone.utc)
HTML = "<img src=x onerror=\"document.title='caught'\">"


class Shown:
    """What is stored for the plans that are looked at."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.url = folder.as_uri()
        self.repository = open_repository(self.url)
        good = {"name": "shown-good"}
        self.old, self.verified = (self._store(days, **good) for days in (2, 1))
        self.damaged = store_backup(self.repository, NOW - timedelta(hours=1), Verdict.DAMAGED, 3, **good)
        drill = DrillResult(1, "shown-good", self.old.backup_id, NOW, NOW, "PostgreSQL 18", (), 44.0, 3600, (), True)
        self.repository.put(drill_key("shown-good", self.old.backup_id), backup.dump(drill))
        rogue = RunningBackup(
            "1-1", Kind.BASE_BACKUP, "pg_basebackup", Certainty.CERTAIN, (), (1,), (NOW,), "eve", "10.0.0.9", HTML
        )
        seen = Evidence(1, "shown-good", "a sensor", NOW, False, rogue, "")
        self.repository.put(evidence_key("shown-good", "1-1"), backup.dump(seen))
        for entry in record_weeks(1.1, until=NOW, tz="Europe/Berlin", every=timedelta(minutes=15)):
            load_history.store(self.repository, "shown-good", replace(entry, counters=None))
        broken = store_backup(self.repository, NOW, name="shown-broken")
        self.repository.put(backup.record_key("shown-broken", broken.backup_id), b"{")
        self.repository.put("records/shown-good/notes.txt", b"of somebody else")

    def _store(self, days: int, **plan: Any) -> BackupRecord:
        return store_backup(self.repository, NOW - timedelta(days=days), Verdict.VERIFIED, days, **plan)
