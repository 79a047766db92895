"""A plan that keeps every promise, and the evidence of it: each test spoils one thing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_backup_guard.core import AlertChannel, AlertRules, BackupPlan, LoadLimits, OffPeakCalendar, RetentionPolicy
from airflow_backup_guard.core.alert_log import Delivery
from airflow_backup_guard.core.audit.document import PlanAudit
from airflow_backup_guard.core.audit.examine import examine
from airflow_backup_guard.core.audit.facts import (
    Bucket,
    Database,
    DecryptionProof,
    Facts,
    PublicAccess,
    Run,
    Slot,
    Stock,
)
from airflow_backup_guard.core.audit.values import Absent, Fact, Finding, Known, Verdict
from airflow_backup_guard.core.backup import Impact, Latency
from airflow_backup_guard.core.catalog import BackupSummary
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.drill import DrillResult
from airflow_backup_guard.core.verification import Level
from airflow_backup_guard.core.verification import Verdict as Verified

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=timezone.utc)
START = NOW - timedelta(days=92)
LAST_NIGHT = datetime(2026, 11, 24, 1, 30, tzinfo=timezone.utc)
BACKUP = "20261124T013000Z-a98c"
PLAN = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository="s3://backups/postgres",
    calendar=OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC"),
    limits=LoadLimits(commit_latency=("20ms", "100ms"), wal_rate="30MB/s"),
    rpo="26h",
    rto="2h",
    recipients=["age1example"],
    alerts=AlertRules(channels=[AlertChannel(name="chat", notifier="example.Notifier")]),
    retention=RetentionPolicy(keep_daily=7),
)
_NONE = Latency(0)
IMPACT = Impact(_NONE, _NONE, _NONE, seconds_throttled=30.0, seconds_at={"normal": 500.0, "high": 25.0})
RUN = Run(
    BACKUP,
    f"records/shop/{BACKUP}.json",
    LAST_NIGHT,
    LAST_NIGHT + timedelta(minutes=20),
    PLAN.to_dict(),
    IMPACT,
    "airflow-backup-guard 0.1.0",
)
DRILL = DrillResult(
    1, "shop", BACKUP, NOW - timedelta(days=4), NOW - timedelta(days=4), "PostgreSQL 18", (), 44.3, 25920.0, (), True
)
SUMMARY = BackupSummary(
    "shop",
    BACKUP,
    LAST_NIGHT,
    1000,
    300,
    1200.0,
    180006,
    True,
    Verified.READABLE,
    LAST_NIGHT,
    Level.READABLE,
    LAST_NIGHT,
)
TEST_MESSAGE = Delivery(1, "shop", "test", "Test", "warning", "test", "chat", NOW - timedelta(days=10), 1)
DATABASE = Database(
    server_version=180006,
    role="guard",
    superuser=False,
    surplus=(),
    may_end=False,
    tls="TLSv1.3, TLS_AES_256_GCM_SHA384",
    stays_on_host=False,
    slots=(Slot("standby1", True, False, 1 << 24, None),),
    checks=(
        Check("replication privilege", CheckStatus.OK, "guard has it"),
        Check("monitor privilege", CheckStatus.OK, "guard has it"),
        Check("data checksums", CheckStatus.OK, "on"),
        Check("slot WAL limit", CheckStatus.OK, "50GB"),
    ),
)


def known(value: Any, source: str = "a test") -> Known[Any]:
    """A fact, as of now."""
    return Known(value, NOW, source)


BUCKET = Bucket(
    known("https://s3.example.com"),
    known(PublicAccess(())),
    known("aws:kms"),
    known(True),
    known("compliance for 14 days"),
    known(7),
)


def facts(plan: BackupPlan = PLAN, **spoiled: Fact[Any] | Bucket) -> Facts:
    """All is well, but for what is given."""
    good = Facts(
        plan=plan,
        start=START,
        end=NOW,
        version="0.1.0",
        runs=known((replace(RUN, plan=plan.to_dict()),), "records and receipts in s3://backups/postgres"),
        recovery_point=known(LAST_NIGHT),
        drills=known((DRILL,)),
        stock=known(Stock((SUMMARY,))),
        deliveries=known((TEST_MESSAGE,)),
        rogues=known(()),
        decryption=known(
            DecryptionProof(NOW - timedelta(days=4), "It was decrypted and restored.", "drills/shop/x.json")
        ),
        database=known(DATABASE, "PostgreSQL at db.example:5432"),
        bucket=BUCKET,
        previous=Absent("There is no earlier audit to compare with.", NOW, "a test"),
        runbook=known(DRILL.ended_at + timedelta(seconds=2), "runbooks/shop/runbook.html"),
    )
    return replace(good, **spoiled)  # type: ignore[arg-type]


def audit_of(found: Facts, number: int = 1, **more: Any) -> PlanAudit:
    """An audit with those facts."""
    stock = found.stock.value.backups if isinstance(found.stock, Known) else ()
    arguments: dict[str, Any] = {
        "format": 1,
        "number": number,
        "plan_name": found.plan.name,
        "repository": found.plan.repository,
        "plan": found.plan.to_dict(),
        "start": found.start,
        "at": found.end,
        "by": found.version,
        "findings": examine(found),
        "backups": stock,
    }
    return PlanAudit(**{**arguments, **more})


def open_checks(findings: tuple[Finding, ...]) -> dict[str, Verdict]:
    """What failed or is unknown, by id."""
    return {finding.check: finding.verdict for finding in findings if finding.verdict.is_open}
