"""What is stored for the plans of tests/acceptance/dags/shown_plans.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.audit.document import audits_prefix, file_name
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.drill import DrillResult, drill_key
from airflow_backup_guard.core.rogue import Certainty, Kind, RunningBackup
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import load_history
from airflow_backup_guard.engine.response import Evidence, evidence_key
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.s3 import S3Repository
from tests.load_weeks import record_weeks
from tests.stored import audited, store_backup

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
        self.repository.put(
            f"{audits_prefix('shown-good')}{file_name(1, '.json')}", backup.dump(audited("shown-good", HTML))
        )
        self.repository.put(f"{audits_prefix('shown-broken')}{file_name(1, '.json')}", b"{")
        self.sealed = self._store(1, name="shown-sealed", recipients=["age1somebody"])
        for entry in record_weeks(1.1, until=NOW, tz="Europe/Berlin", every=timedelta(minutes=15)):
            load_history.store(self.repository, "shown-good", replace(entry, counters=None))
        broken = store_backup(self.repository, NOW, name="shown-broken")
        self.repository.put(backup.record_key("shown-broken", broken.backup_id), b"{")
        self.repository.put("records/shown-good/notes.txt", b"of somebody else")

    def _store(self, days: int, **plan: Any) -> BackupRecord:
        return store_backup(self.repository, NOW - timedelta(days=days), Verdict.VERIFIED, days, **plan)


@contextmanager
def s3_with_a_backup() -> Iterator[str]:
    """An S3 API with a backup of the plan ``shown-s3``; yields the value of the connection ``shown_s3``."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url, key = f"http://{host}:{port}", "shown"
        client = boto3.session.Session(key, key, region_name="us-east-1").client("s3", endpoint_url=url)
        client.create_bucket(Bucket="shown")
        store_backup(S3Repository(client, "shown", "prefix"), NOW - timedelta(hours=2), name="shown-s3")
        extra = {"region_name": "us-east-1", "endpoint_url": url}
        yield json.dumps({"conn_type": "aws", "login": key, "password": key, "extra": extra})
    finally:
        server.stop()
