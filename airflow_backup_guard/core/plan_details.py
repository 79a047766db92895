"""All that there is to see of one plan: its backups with the reason that each is kept for, drills, rogue backups, and
the last audit."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_backup_guard.core.audit.document import PlanAudit, audits_prefix, file_name
from airflow_backup_guard.core.audit.report import ordered, state, verdict_line
from airflow_backup_guard.core.audit.values import Finding
from airflow_backup_guard.core.backup import BackupRecord, dump_plain
from airflow_backup_guard.core.drill import DrillResult
from airflow_backup_guard.core.fleet import PlanStatus, Problem
from airflow_backup_guard.core.repository_url import without_connection
from airflow_backup_guard.core.retention import Decision
from airflow_backup_guard.core.verification import Verification

RESTORE_TO = "/srv/restored"
IDENTITY = "/path/to/identity"


@dataclass(frozen=True)
class RogueEvent:
    """A backup that nobody guards, as the watchdog saw it first; ``outcome`` is what became of it, empty if that is
    not known."""

    seen_at: datetime
    title: str
    origin: str
    in_window: bool
    outcome: str = ""


@dataclass(frozen=True)
class PlanDetails:
    """One plan; backups, drills and rogue backups with the newest first. ``retention`` is its rules in words, ``audit``
    the last one, None if there was none or it cannot be read."""

    status: PlanStatus
    retention: str
    decisions: tuple[Decision, ...]
    drills: tuple[DrillResult, ...]
    rogues: tuple[RogueEvent, ...]
    problems: tuple[Problem, ...]
    audit: PlanAudit | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; sizes in bytes, durations in seconds."""
        drilled = {one.backup_id: one for one in reversed(self.drills)}
        return {
            "status": self.status.to_dict(),
            "retention": self.retention,
            "backups": [_backup(one, drilled.get(one.backup.backup_id), self.status) for one in self.decisions],
            "drills": [_drill(one) for one in self.drills],
            "rogues": [
                {
                    "seen_at": one.seen_at.isoformat(),
                    "title": one.title,
                    "origin": one.origin,
                    "in_window": one.in_window,
                    "outcome": one.outcome,
                }
                for one in self.rogues
            ],
            "audit": self.audit and _audit(self.audit),
            "problems": [{"message": one.message, "remedy": one.remedy} for one in self.problems],
        }


@dataclass(frozen=True)
class BackupDetails:
    """One backup: its record, and what the latest verification and the latest drill of it found."""

    record: BackupRecord
    repository: str
    verification: Verification | None
    drill: DrillResult | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; sizes in bytes, durations in seconds, latencies in seconds."""
        record, found, impact = self.record, self.verification, self.record.impact
        encrypted = bool(record.snapshot.plan.get("recipients"))
        return {
            "backup_id": record.backup_id,
            "plan_name": record.plan_name,
            "taken_at": record.snapshot.taken_at.isoformat(),
            "contains": f"every transaction committed before {record.snapshot.lsn}",
            "server_version": record.snapshot.cluster.server_version,
            "system_identifier": record.snapshot.cluster.system_identifier,
            "database_size": record.database_size,
            "stored_size": record.stored_size,
            "seconds": record.seconds,
            "rate": record.rate,
            "written_by": record.written_by,
            "impact": {**dump_plain(impact), "tax": impact.tax},
            "has_telemetry": bool(record.parts_of("telemetry")),
            "encrypted": encrypted,
            "verification": found
            and {
                "verdict": found.verdict.value,
                "verified_at": found.verified_at.isoformat(),
                "read_at": found.read_at and found.read_at.isoformat(),
                "evidence": [
                    {
                        "level": one.level.value,
                        "status": one.status.value,
                        "at": one.at.isoformat(),
                        "detail": one.detail,
                    }
                    for one in found.evidence
                ],
                "problems": found.problems,
            },
            "drill": self.drill and _drill(self.drill),
            "restore": restore_command(record.plan_name, record.backup_id, self.repository, encrypted),
        }


def restore_command(plan_name: str, backup_id: str, repository: str, encrypted: bool) -> str:
    """The command that restores a backup, as a shell takes it, on a machine without Airflow.

    The connection that a repository's URL may name means something to Airflow only, and is left out.
    """
    url = without_connection(repository)
    words = ["backup-guard", "restore", backup_id, "--plan-name", plan_name, "--repository", url, "--to", RESTORE_TO]
    return shlex.join(words + (["--identity", IDENTITY] if encrypted else []))


def _backup(decision: Decision, drill: DrillResult | None, status: PlanStatus) -> dict[str, Any]:
    one = decision.backup
    return {
        "backup_id": one.backup_id,
        "taken_at": one.taken_at.isoformat(),
        "database_size": one.database_size,
        "stored_size": one.stored_size,
        "seconds": one.seconds,
        "encrypted": one.encrypted,
        "verdict": one.verdict and one.verdict.value,
        "verified_at": one.verified_at and one.verified_at.isoformat(),
        "level": one.level and one.level.value,
        "read_at": one.read_at and one.read_at.isoformat(),
        "keep": decision.keep,
        "reasons": list(decision.reasons),
        "drill_passed": drill and drill.passed,
        "restore": restore_command(one.plan_name, one.backup_id, status.repository, one.encrypted),
    }


def _audit(one: PlanAudit) -> dict[str, Any]:
    return {
        "number": one.number,
        "at": one.at.isoformat(),
        "start": one.start.isoformat(),
        "good": one.good,
        "text": verdict_line(one),
        "key": f"{audits_prefix(one.plan_name)}{file_name(one.number, '.html')}",
        "checks": len(one.findings),
        "findings": [_finding(found) for found in ordered(one.findings) if found.verdict.is_open],
    }


def _finding(found: Finding) -> dict[str, Any]:
    return {
        "check": found.check,
        "title": found.title,
        "verdict": found.verdict.value,
        "state": state(found),
        "said": found.said,
        "remedy": found.remedy,
        "accepted": found.accepted and str(found.accepted),
    }


def _drill(one: DrillResult) -> dict[str, Any]:
    return {
        "backup_id": one.backup_id,
        "ended_at": one.ended_at.isoformat(),
        "passed": one.passed,
        "rto_seconds": one.rto_seconds,
        "rpo_seconds": one.rpo_seconds,
        "server": one.server,
        "summary": one.summary,
        "stages": [{"name": stage.name, "seconds": stage.seconds} for stage in one.stages],
        "checks": [
            {"name": check.name, "status": check.status.value, "detail": check.detail, "remedy": check.remedy}
            for check in one.checks
        ],
    }
