"""What a listing tells of each backup, in a few hundred bytes, and what of a plan's listing is remembered.

Key below a repository's root::

    catalog/<plan>.json                    summaries, each with the tags of the objects that it was made of

It is never needed: a summary counts only while those objects have the same tags, and the objects are read otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.holds import Hold
from airflow_backup_guard.core.verification import Level, Verdict, Verification


@dataclass(frozen=True)
class BackupSummary:
    """One whole backup; sizes in bytes. What verification found is None before the first one;
    ``read_at`` is when every byte was known to be right."""

    plan_name: str
    backup_id: str
    taken_at: datetime
    database_size: int
    stored_size: int
    seconds: float
    server_version: int
    encrypted: bool
    verdict: Verdict | None = None
    verified_at: datetime | None = None
    level: Level | None = None
    read_at: datetime | None = None
    hold: Hold | None = None

    @property
    def trust(self) -> int:
        """2 if every byte was read back and is as it was written, 0 if it is known to be damaged, else 1."""
        if self.verdict is Verdict.DAMAGED:
            return 0
        return 2 if self.verdict is not None and self.verdict.trusted else 1


@dataclass(frozen=True)
class Unreadable:
    """An object of a backup that should say something of it, and cannot be read."""

    plan_name: str
    backup_id: str
    key: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Catalog:
    """All whole backups, by plan and then by id; and what of them could not be read, which hides nothing else."""

    backups: tuple[BackupSummary, ...]
    unreadable: tuple[Unreadable, ...]


@dataclass(frozen=True)
class Remembered:
    """One summary, without its hold, and the tags of its record and its verification; ``""`` without one."""

    record_tag: str
    verification_tag: str
    summary: BackupSummary


@dataclass(frozen=True)
class Memory:
    """What is remembered of one plan."""

    format: int
    backups: tuple[Remembered, ...]


def memory_key(plan: str) -> str:
    """Where that lies."""
    return f"catalog/{plan}.json"


def summarize(record: BackupRecord, verification: Verification | None) -> BackupSummary:
    """What a listing tells of a backup, but for its hold."""
    return BackupSummary(
        plan_name=record.plan_name,
        backup_id=record.backup_id,
        taken_at=record.snapshot.taken_at,
        database_size=record.database_size,
        stored_size=record.stored_size,
        seconds=record.seconds,
        server_version=record.snapshot.cluster.server_version,
        encrypted=bool(record.snapshot.plan.get("recipients")),
        verdict=verification.verdict if verification else None,
        verified_at=verification.verified_at if verification else None,
        level=verification.level if verification else None,
        read_at=verification.read_at if verification else None,
    )
