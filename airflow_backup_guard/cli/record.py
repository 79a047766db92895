"""One backup's record as a document, and in a few words."""

from __future__ import annotations

from typing import Any

from airflow_backup_guard.core.backup import BackupRecord, dump_plain


def summary(record: BackupRecord, *, parts: bool = False) -> dict[str, Any]:
    """What people look for first, sizes in bytes, and the record, without its parts unless asked for."""
    plain = dump_plain(record)
    if not parts:
        del plain["parts"]
    return {
        "backup_id": record.backup_id,
        "plan_name": record.plan_name,
        "database_size": record.database_size,
        "stored_size": record.stored_size,
        "seconds": record.seconds,
        "record": plain,
    }


def version(server_version: int) -> str:
    """``18.6`` for 180006."""
    return f"{server_version // 10000}.{server_version % 10000}"
