"""What must be true after every fault: nothing of ours in the database, and no backup that is not whole."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository.base import Repository

BOUND_SECONDS = 10.0
"""How long after a fault something of ours may still be in the database."""

_OURS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'backup_guard%'),
       (SELECT count(*) FROM pg_replication_slots),
       (SELECT count(*) FROM pg_stat_progress_basebackup),
       (SELECT string_agg(name, ' ' ORDER BY name) FROM pg_ls_dir('.') name),
       (SELECT count(*) FROM pg_ls_dir('pg_replslot')),
       (SELECT md5(string_agg(name || setting, ' ' ORDER BY name)) FROM pg_file_settings),
       (SELECT count(*) FROM pg_db_role_setting),
       (SELECT string_agg(rolname, ' ' ORDER BY oid) FROM pg_roles WHERE rolname NOT LIKE 'pg_%')
"""


def ours_in(server: LocalServer) -> str:
    """Sessions, slots, backups under way, files and settings of a server, in one line to be compared."""
    return server.sql(_OURS)


def wait_for_nothing_of_ours(server: LocalServer, before: str, bound: float = BOUND_SECONDS) -> float:
    """Seconds until the server is as it was ``before`` (``ours_in``); fails after ``bound``."""
    began = time.monotonic()
    while (now := ours_in(server)) != before:
        assert time.monotonic() - began < bound, f"left in the database: {now}, and before: {before}"
        time.sleep(0.05)
    return time.monotonic() - began


def whole_backups(repository: Repository) -> list[BackupRecord]:
    """The visible backups, each of which has all its parts to the byte, and is of no attempt."""
    found = list(catalog.backups(repository))
    for record in found:
        assert {part.kind for part in record.parts} >= {"archive", "manifest", "wal"}
        for part in record.parts:
            with repository.reader(part.key) as content:
                stored = content.read()
            assert (len(stored), hashlib.sha256(stored).hexdigest()) == (part.size, part.sha256), part.key
    return found


def assert_verified(records: Iterable[BackupRecord], repository: Repository) -> None:
    """PostgreSQL's own manifest, page checksums and the WAL agree."""
    for record in records:
        result = verify(record, repository)
        assert result.verdict is Verdict.VERIFIED, result.problems


def restored_sql(record: BackupRecord, repository: Repository, folder: Path, sql: str, dbname: str = "postgres") -> str:
    """Restore a backup into a folder that is not there, start PostgreSQL on it, and ask it."""
    spaces = {one.location: folder.with_name(f"{folder.name}-{one.oid}") for one in record.tablespaces}
    restore(record, repository, folder, tablespaces=spaces)
    with LocalServer(folder) as server:
        return server.sql(sql, dbname)
