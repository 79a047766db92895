"""The evidence that an audit of one plan is judged by, as the engine gathers it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_backup_guard.core.alert_log import Delivery
from airflow_backup_guard.core.audit.document import PlanAudit
from airflow_backup_guard.core.audit.values import Fact
from airflow_backup_guard.core.backup import Impact
from airflow_backup_guard.core.catalog import BackupSummary
from airflow_backup_guard.core.check import Check
from airflow_backup_guard.core.drill import DrillResult
from airflow_backup_guard.core.plan import BackupPlan


@dataclass(frozen=True)
class Run:
    """A backup or a guarded command that ran in the period, from its record or its receipt, which is at ``key``.

    ``plan`` is the one that it ran under; ``ended_at`` is None of a command that runs, or whose guard died.
    """

    id: str
    key: str
    started_at: datetime
    ended_at: datetime | None
    plan: dict[str, Any]
    impact: Impact | None
    written_by: str
    is_backup: bool = True


@dataclass(frozen=True)
class Stock:
    """All whole backups that are there now; ``overdue`` those that should have expired; ``unreadable`` what of them
    cannot be read, in words."""

    backups: tuple[BackupSummary, ...]
    overdue: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class RogueSeen:
    """A backup that nobody guards, as the watchdog or the audit itself has seen it."""

    seen_at: datetime
    title: str
    source: str


@dataclass(frozen=True)
class DecryptionProof:
    """The last time that an encrypted backup was read in clear; ``at`` is None if it never was."""

    at: datetime | None
    how: str = ""
    source: str = ""


@dataclass(frozen=True)
class Slot:
    """A replication slot; ``retained`` in bytes of WAL, None if it holds none or that is unknown; ``inactive_since`` is
    known from PostgreSQL 17 on."""

    name: str
    active: bool
    temporary: bool
    retained: int | None
    inactive_since: datetime | None


@dataclass(frozen=True)
class Database:
    """What the server says of itself, our role and our connection.

    ``surplus`` is what the role may beyond its needs; ``may_end`` whether it may end the sessions of others. ``tls`` is
    the protocol of our own connection, empty without; ``stays_on_host`` whether that never leaves the server's machine.
    ``checks`` are the preflight's.
    """

    server_version: int
    role: str
    superuser: bool
    surplus: tuple[str, ...]
    may_end: bool
    tls: str
    stays_on_host: bool
    slots: tuple[Slot, ...]
    checks: tuple[Check, ...]

    def check(self, name: str) -> Check | None:
        """The preflight's answer by this name, if it came that far."""
        return next((check for check in self.checks if check.name == name), None)


@dataclass(frozen=True)
class PublicAccess:
    """Which of the four blocks of public access a bucket lacks, and how it is ``open`` to everybody, if it is."""

    missing: tuple[str, ...]
    open: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bucket:
    """What a store says of itself. ``endpoint`` is the URL that it is reached at; ``encryption`` how it encrypts,
    empty if not; ``versioning`` whether it keeps old versions; ``object_lock`` what keeps objects from removal, empty
    if nothing; ``incomplete_uploads_days`` after how many days it aborts uploads that nobody finished, None if never.
    """

    endpoint: Fact[str]
    public_access: Fact[PublicAccess]
    encryption: Fact[str]
    versioning: Fact[bool]
    object_lock: Fact[str]
    incomplete_uploads_days: Fact[int | None]


@dataclass(frozen=True)
class Facts:
    """All evidence about one plan, from ``start`` to ``end``; ``version`` is that of this package.

    ``recovery_point`` is up to when the last verified backup has everything, None if there is none. ``previous`` is the
    last audit. ``runbook`` is when the recovery runbook was written, None if there is none. The sources of the plan's
    calendar must have been read.
    """

    plan: BackupPlan
    start: datetime
    end: datetime
    version: str
    runs: Fact[tuple[Run, ...]]
    recovery_point: Fact[datetime | None]
    drills: Fact[tuple[DrillResult, ...]]
    stock: Fact[Stock]
    deliveries: Fact[tuple[Delivery, ...]]
    rogues: Fact[tuple[RogueSeen, ...]]
    decryption: Fact[DecryptionProof]
    database: Fact[Database]
    bucket: Bucket
    previous: Fact[PlanAudit]
    runbook: Fact[datetime | None]
