"""A cluster with all that a runbook may have to say, and one with as little as there can be."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs

from airflow_backup_guard.core import BackupPlan, DrillCheck, DrillPolicy, OffPeakCalendar
from airflow_backup_guard.core.backup import (
    BackupRecord,
    Cluster,
    Database,
    Impact,
    Latency,
    Snapshot,
    StoredPart,
    Tablespace,
    new_backup_id,
)
from airflow_backup_guard.core.catalog import BackupSummary, summarize
from airflow_backup_guard.core.drill import DrillResult, Stage
from airflow_backup_guard.core.fleet import PlanStatus, judge_protection
from airflow_backup_guard.core.runbook.facts import Facts
from airflow_backup_guard.core.verification import Level, Verdict
from airflow_backup_guard.core.wal import LSN

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=timezone.utc)
PLAN = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository="s3://aws_default@backups/postgres",
    calendar=OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC"),
    rpo="26h",
    rto="2h",
    recipients=["age1example", "age1other"],
    drill=DrillPolicy(
        checks={
            "orders": DrillCheck(database="shop", sql="SELECT count(*) FROM orders", min=1000),
            "newest order": DrillCheck(database="shop", sql="SELECT max(created_at) FROM orders", max_age="1h"),
        },
        extensions=["postgis"],
    ),
    contacts=[("Database on call", "+1 555 0100"), ("Alice, who has the age key", "alice@example.com")],
)
SPACES = (Tablespace(16395, "fast", "/mnt/fast disk", 258048),)


def record_at(taken_at: datetime, plan: BackupPlan = PLAN, suffix: int = 0xA98C, **snapshot: Any) -> BackupRecord:
    """A backup of PostgreSQL 18 with a tablespace, stored as the plan says."""
    backup_id, none = new_backup_id(taken_at, suffix), Latency(0)
    values: dict[str, Any] = {
        "backup_id": backup_id,
        "plan": plan.to_dict(),
        "cluster": Cluster("7711315783694543489", 180006, 1, 1 << 24, True),
        "lsn": LSN(0x17D51B8),
        "taken_at": taken_at,
        "size": 12_000_000_000,
        "databases": (Database("postgres", 7_500_000), Database("shop", 11_800_000_000)),
        "tablespaces": SPACES,
    }
    ending = ".zst.age" if plan.recipients else ".zst"
    parts = (
        ("archive", "base", f"base.tar{ending}", 8_000_000_000),
        ("archive", "16395", f"16395.tar{ending}", 4_000_000_000),
        ("manifest", "backup_manifest", f"backup_manifest{ending}", 200_000),
        ("wal", "000000010000000000000002", f"wal/000000010000000000000002{ending}", 1 << 24),
    )
    return BackupRecord(
        format=1,
        snapshot=Snapshot(**{**values, **snapshot}),
        tablespaces=snapshot.get("tablespaces", SPACES),
        timeline=1,
        start_lsn=LSN(0x2000028),
        end_lsn=LSN(0x2000120),
        started_at=taken_at,
        checkpoint_seconds=1.0,
        ended_at=taken_at + timedelta(minutes=20),
        parts=tuple(
            StoredPart(kind, name, f"backups/shop/{backup_id}/{path}", size // 4, "0" * 64, size)
            for kind, name, path, size in parts
        ),
        impact=Impact(none, none, none),
        written_by="a test",
    )


NEWEST = record_at(datetime(2026, 11, 24, 1, 30, tzinfo=timezone.utc))
BEFORE = record_at(datetime(2026, 11, 23, 1, 30, tzinfo=timezone.utc), suffix=0x0B0B)
DRILL = DrillResult(
    1,
    "shop",
    BEFORE.backup_id,
    NOW - timedelta(days=1),
    NOW - timedelta(days=1),
    "PostgreSQL 18",
    (Stage("restore", 300.0), Stage("recovery", 12.0), Stage("checks", 40.0)),
    312.0,
    25920.0,
    (),
    True,
)


def verified(record: BackupRecord) -> BackupSummary:
    """Its summary, after it was read back."""
    return replace(
        summarize(record, None),
        verdict=Verdict.READABLE,
        verified_at=record.ended_at,
        level=Level.READABLE,
        read_at=record.ended_at,
    )


def status_of(plan: BackupPlan, **values: Any) -> PlanStatus:
    """How the plan stands, if nothing else is said: well."""
    point = values.get("recovery_point", NEWEST.snapshot.taken_at)
    protection, reason = judge_protection(point, plan.rpo, NOW)
    usual: dict[str, Any] = {
        "plan_name": plan.name,
        "repository": plan.repository,
        "at": NOW,
        "protection": protection,
        "reason": reason,
        "rpo": plan.rpo,
        "rto": plan.rto,
        "recovery_point": point,
        "backups": 2,
        "newest": verified(NEWEST),
        "last_verified": verified(NEWEST),
        "drill": DRILL,
    }
    return PlanStatus(**{**usual, **values})


def good(plan: BackupPlan = PLAN, **values: Any) -> Facts:
    """Nothing is missing, but for what is given."""
    usual: dict[str, Any] = {
        "status": status_of(plan),
        "version": "0.1.0",
        "backup": NEWEST,
        "before": BEFORE,
        "verified": True,
        "drilled_size": 6_000_000_000,
    }
    return Facts(plan, **{**usual, **values})


def poor() -> Facts:
    """One backup that nobody verified or drilled, of a server that kept its settings elsewhere, in a folder."""
    plan = attrs.evolve(
        PLAN, repository="file:///srv/backups", recipients=(), contacts=(), rpo=None, rto=None, drill=DrillPolicy()
    )
    elsewhere = ("configuration files: /etc/postgresql/18/main/postgresql.conf lies outside of the data directory.",)
    only = record_at(NEWEST.snapshot.taken_at, plan, warnings=elsewhere, tablespaces=())
    only = replace(only, parts=tuple(part for part in only.parts if part.name != "16395"))
    status = status_of(plan, recovery_point=None, newest=summarize(only, None), last_verified=None, drill=None)
    return Facts(plan, status, "0.1.0", only)
