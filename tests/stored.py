"""Small backups that need no database: their records, parts and verifications as a copy would have stored them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.alert_rules import Severity
from airflow_backup_guard.core.audit.document import PlanAudit
from airflow_backup_guard.core.audit.values import AcceptedRisk, Finding
from airflow_backup_guard.core.audit.values import Verdict as AuditVerdict
from airflow_backup_guard.core.backup import Attempt, BackupRecord, Cluster, Impact, Latency, Snapshot, StoredPart
from airflow_backup_guard.core.verification import Verdict, Verification
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.repository.base import Repository

PLAN = {
    "name": "shop",
    "connection": "shop",
    "calendar": {"windows": "daily 00:00-24:00", "tz": "UTC"},
    "max_duration": "1d",
    "recipients": [],
}


def snapshot_at(taken_at: datetime, suffix: int = 0, **plan: Any) -> Snapshot:
    """The snapshot of a small cluster; ``plan`` has fields of its plan."""
    return Snapshot(
        backup_id=backup.new_backup_id(taken_at, suffix),
        plan={**PLAN, **plan},
        cluster=Cluster("7711315783694543489", 180006, 1, 1 << 24, True),
        lsn=LSN(0x17D51B8),
        taken_at=taken_at,
        size=1000,
        databases=(),
        tablespaces=(),
    )


def store_parts(repository: Repository, snapshot: Snapshot, segments: int = 2) -> tuple[StoredPart, ...]:
    """A base archive and some WAL, each of a few bytes that no other backup has."""
    prefix = backup.parts_prefix(snapshot.plan_name, snapshot.backup_id)
    parts = []
    for kind, name, path in (
        ("archive", "base", "base.tar.zst"),
        *(("wal", f"{number:024X}", f"wal/{number:024X}.zst") for number in range(segments)),
    ):
        stored = repository.put(f"{prefix}{path}", f"{snapshot.backup_id} {path}\n".encode() * 10)
        parts.append(StoredPart(kind, name, stored.key, stored.size, stored.sha256, 10 * stored.size))
    return tuple(parts)


def store_attempt(repository: Repository, snapshot: Snapshot, outcome: str | None = None) -> None:
    """An attempt, open unless it has an outcome."""
    key = backup.attempt_key(snapshot.plan_name, snapshot.backup_id)
    repository.put(key, backup.dump(Attempt(backup.FORMAT, snapshot, outcome)))


def whole_record(snapshot: Snapshot, parts: tuple[StoredPart, ...]) -> BackupRecord:
    """Of a backup that took a minute."""
    latency = Latency(0)
    return BackupRecord(
        format=backup.FORMAT,
        snapshot=snapshot,
        tablespaces=(),
        timeline=1,
        start_lsn=snapshot.lsn,
        end_lsn=snapshot.lsn,
        started_at=snapshot.taken_at,
        checkpoint_seconds=0.0,
        ended_at=snapshot.taken_at + timedelta(seconds=60),
        parts=parts,
        impact=Impact(latency, latency, latency),
        written_by="a test",
    )


def store_backup(
    repository: Repository,
    taken_at: datetime,
    verdict: Verdict | None = Verdict.VERIFIED,
    suffix: int = 0,
    segments: int = 2,
    **plan: Any,
) -> BackupRecord:
    """A whole backup, and its verification unless ``verdict`` is None."""
    snapshot = snapshot_at(taken_at, suffix, **plan)
    record = whole_record(snapshot, store_parts(repository, snapshot, segments))
    repository.put(backup.record_key(snapshot.plan_name, snapshot.backup_id), backup.dump(record))
    if verdict is not None:
        store_verification(repository, record, verdict)
    return record


def store_verification(repository: Repository, record: BackupRecord, verdict: Verdict) -> None:
    """A verification with no details."""
    found = Verification(
        format=backup.FORMAT,
        backup_id=record.backup_id,
        verdict=verdict,
        verified_at=datetime.now(timezone.utc),
        seconds=1.0,
        bytes_read=record.stored_size,
        files=1,
        objects=(),
        checks=(),
    )
    repository.put(backup.verification_key(record.plan_name, record.backup_id), backup.dump(found))


def audited(plan_name: str, said: str = "so") -> PlanAudit:
    """An audit that did not pass: one check failed, one is unknown and accepted, one passed."""
    now = datetime.now(timezone.utc)
    until = (now + timedelta(days=30)).date()

    def finding(check: str, title: str, verdict: AuditVerdict, **more: Any) -> Finding:
        return Finding(check, title, "loss", Severity.CRITICAL, verdict, f"It is {said}.", (), "Mend it.", **more)

    return PlanAudit(
        format=1,
        number=1,
        plan_name=plan_name,
        repository="",
        plan={},
        start=now - timedelta(days=92),
        at=now,
        by="1.0",
        findings=(
            finding("BG001", "Backups run off-peak", AuditVerdict.FAIL),
            finding(
                "BG002",
                "It is known who may read",
                AuditVerdict.UNKNOWN,
                accepted=AcceptedRisk("BG002", "eve", until, "later"),
            ),
            finding("BG003", "There are drills", AuditVerdict.PASS),
        ),
    )
