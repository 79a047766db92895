"""Every check that an audit makes: what it protects from, how bad it is if it fails, and what to do then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_backup_guard.core.alert_rules import Severity
from airflow_backup_guard.core.audit import of_change, of_database, of_recovery, of_runs, of_store, of_watching
from airflow_backup_guard.core.audit.facts import Facts
from airflow_backup_guard.core.audit.values import (
    Evidence,
    Fact,
    Finding,
    Judgement,
    Known,
    Unknown,
    Verdict,
    fact_problem,
)


@dataclass(frozen=True)
class AuditCheck:
    """One check: the fact that it is about, and how it judges that, or rather its value."""

    id: str
    title: str
    protects: str
    severity: Severity
    remedy: str
    fact: Callable[[Facts], Fact[Any]]
    judge: Callable[[Any, Facts], Judgement]

    def finding(self, facts: Facts) -> Finding:
        """What it finds."""
        fact = self.fact(facts)
        judgement = fact_problem(fact)
        if judgement is None and isinstance(fact, Known):
            judgement = self.judge(fact.value, facts)
        assert judgement is not None  # noqa: S101  # a fact has a value, or a problem
        return Finding(
            check=self.id,
            title=self.title,
            protects=self.protects,
            severity=self.severity,
            verdict=judgement.verdict,
            said=judgement.said,
            evidence=judgement.evidence or (Evidence(judgement.said, fact.at, fact.source),),
            remedy=self._remedy(fact, judgement.verdict),
        )

    def _remedy(self, fact: Fact[Any], verdict: Verdict) -> str:
        if isinstance(fact, Unknown):
            return "Let the audit read this, and audit again: what is not known is not taken for good."
        return self.remedy if verdict.is_open else ""


def _runs(facts: Facts) -> Fact[Any]:
    return facts.runs


def _drills(facts: Facts) -> Fact[Any]:
    return facts.drills


def _stock(facts: Facts) -> Fact[Any]:
    return facts.stock


def _database(facts: Facts) -> Fact[Any]:
    return facts.database


def _plan(facts: Facts) -> Fact[Any]:
    return Known(facts.plan.name, facts.end, "the plan")


_CRITICAL, _WARNING = Severity.CRITICAL, Severity.WARNING

CHECKS: tuple[AuditCheck, ...] = (
    AuditCheck(
        "BG001",
        "Backups began in off-peak windows",
        "A backup at the busiest hour, which slows down or stops what customers use.",
        _CRITICAL,
        "Put OffPeakSensor or OffPeakTimetable before the backup, and find who starts it at other hours.",
        _runs,
        of_runs.began_in_windows,
    ),
    AuditCheck(
        "BG002",
        "Backups ended in their windows",
        "A backup that began at night and still loads the database when the day begins.",
        _WARNING,
        'Give it a longer window or a higher max_rate, or set at_window_end="stop".',
        _runs,
        of_runs.ended_in_windows,
    ),
    AuditCheck(
        "BG003",
        "Backups gave way to load",
        "A backup that takes the disk from an application that is already slow.",
        _CRITICAL,
        "Lower min_rate, set window_first=False, and see in the run's telemetry why it was not slowed down.",
        _runs,
        of_runs.gave_way,
    ),
    AuditCheck(
        "BG004",
        "The last verified backup is young enough",
        "Losing more work in a disaster than was agreed (RPO).",
        _CRITICAL,
        "See why there is no newer backup, or why it is not verified: backup-guard list. Set rpo in the plan.",
        lambda facts: facts.recovery_point,
        of_recovery.within_rpo,
    ),
    AuditCheck(
        "BG005",
        "A restore was tried and passed",
        "Finding out in a disaster that backups cannot be restored.",
        _CRITICAL,
        "Run backup-guard drill, and put RestoreDrillOperator on a schedule.",
        _drills,
        of_recovery.drilled,
    ),
    AuditCheck(
        "BG006",
        "A restore is fast enough",
        "Being down for longer than was agreed (RTO).",
        _WARNING,
        "Restore from nearer or faster storage, or agree on another RTO; set rto in the plan.",
        _drills,
        of_recovery.within_rto,
    ),
    AuditCheck(
        "BG007",
        "Backups are kept as long as agreed, and no longer",
        "A backup that is gone when it is needed, and data that should have been deleted.",
        _WARNING,
        "Schedule BackupExpireOperator; find out who removed what is missing; set retention in the plan.",
        _stock,
        of_recovery.retained,
    ),
    AuditCheck(
        "BG008",
        "Alerts arrive",
        "A failing backup that nobody hears of.",
        _CRITICAL,
        "Give the plan alert channels, and try them: backup-guard alert --test.",
        lambda facts: facts.deliveries,
        of_watching.alerts_arrive,
    ),
    AuditCheck(
        "BG009",
        "Thresholds are set for what matters",
        "A load that grows until the application fails, with no warning before.",
        _WARNING,
        "Set limits, or thresholds of the alerts, for commit latency and for writes; backup-guard tune proposes some.",
        _plan,
        of_watching.thresholds_set,
    ),
    AuditCheck(
        "BG010",
        "No backup runs that nobody guards",
        "A forgotten script that backs up the database at noon.",
        _CRITICAL,
        "Find whose it is: backup-guard who. Put it behind backup-guard run, or allow it in the plan's watchdog.",
        lambda facts: facts.rogues,
        of_watching.no_rogues,
    ),
    AuditCheck(
        "BG011",
        "The backup role may no more than it needs",
        "A stolen password of a worker that opens the whole server.",
        _CRITICAL,
        "Use a role with LOGIN, REPLICATION and pg_monitor alone; revoke the rest.",
        _database,
        of_database.least_privilege,
    ),
    AuditCheck(
        "BG012",
        "The backup role may what it needs",
        "Backups that fail, and load that cannot be seen.",
        _CRITICAL,
        "Grant what is missing: backup-guard check has the commands.",
        _database,
        of_database.enough_privilege,
    ),
    AuditCheck(
        "BG013",
        "The way to the database is encrypted",
        "Somebody on the network who reads the whole database as it is copied.",
        _CRITICAL,
        "Turn on ssl on the server, and set sslmode=verify-full in the connection.",
        _database,
        of_database.database_tls,
    ),
    AuditCheck(
        "BG014",
        "The way to the store is encrypted",
        "Somebody on the network who reads backups and credentials.",
        _CRITICAL,
        "Use an https endpoint.",
        lambda facts: facts.bucket.endpoint,
        of_store.store_tls,
    ),
    AuditCheck(
        "BG015",
        "Data checksums are on",
        "Damage on the server's disk that is copied into every backup unnoticed.",
        _WARNING,
        "Turn them on with pg_checksums at the next downtime.",
        _database,
        of_database.checksums,
    ),
    AuditCheck(
        "BG016",
        "Replication slots cannot fill the disk",
        "A forgotten slot that retains WAL until the server stops.",
        _WARNING,
        "Set max_slot_wal_keep_size to what the disk can hold.",
        _database,
        of_database.slot_limit,
    ),
    AuditCheck(
        "BG017",
        "Each replication slot has a reader",
        "WAL that is retained for a reader that will not come back.",
        _CRITICAL,
        "Revive its reader, or drop it: SELECT pg_drop_replication_slot('…').",
        _database,
        of_database.no_orphan_slots,
    ),
    AuditCheck(
        "BG018",
        "PostgreSQL is supported",
        "Faults and security holes that nobody mends any more.",
        _WARNING,
        "Plan the upgrade to a supported major version.",
        _database,
        of_database.supported,
    ),
    AuditCheck(
        "BG019",
        "Backups are made by the version that audits",
        "A worker with an old release of this package, which behaves otherwise than is believed.",
        _WARNING,
        "Install the same version on every worker, and see whether there is a newer one.",
        _runs,
        of_runs.made_by_this_version,
    ),
    AuditCheck(
        "BG020",
        "The bucket is closed to the public",
        "Everybody being able to download the database.",
        _CRITICAL,
        "Turn on all four settings of Block Public Access on the bucket.",
        lambda facts: facts.bucket.public_access,
        of_store.not_public,
    ),
    AuditCheck(
        "BG021",
        "The bucket encrypts",
        "Data that can be read from a disk of the store.",
        _WARNING,
        "Set a default encryption of the bucket.",
        lambda facts: facts.bucket.encryption,
        of_store.encrypts,
    ),
    AuditCheck(
        "BG022",
        "The bucket keeps old versions",
        "Backups that are overwritten or removed by mistake, or on purpose.",
        _WARNING,
        "Turn on versioning, with a lifecycle rule that ends old versions.",
        lambda facts: facts.bucket.versioning,
        of_store.versions,
    ),
    AuditCheck(
        "BG023",
        "The bucket locks objects",
        "Somebody who has our credentials, and removes every backup.",
        _WARNING,
        "Turn on Object Lock with a default retention shorter than that of the plan.",
        lambda facts: facts.bucket.object_lock,
        of_store.locks,
    ),
    AuditCheck(
        "BG024",
        "The bucket aborts incomplete uploads",
        "Pieces of failed uploads that are paid for, and that no listing shows.",
        _WARNING,
        "Add a lifecycle rule with AbortIncompleteMultipartUpload, of seven days or more.",
        lambda facts: facts.bucket.incomplete_uploads_days,
        of_store.aborts_uploads,
    ),
    AuditCheck(
        "BG025",
        "Backups are encrypted",
        "Whoever gets at the store reading the database.",
        _WARNING,
        "Give the plan recipients: age public keys.",
        _stock,
        of_recovery.encrypted,
    ),
    AuditCheck(
        "BG026",
        "Encrypted backups can be decrypted",
        "Backups whose key was lost, which is found out in a disaster.",
        _CRITICAL,
        "Verify or drill one with --identity, by whoever keeps the key.",
        lambda facts: facts.decryption,
        of_recovery.decryptable,
    ),
    AuditCheck(
        "BG027",
        "Backups are made under the audited plan",
        "A DAG that does otherwise than what was agreed.",
        _WARNING,
        "See which DAG makes the backups, and let it and the audit share one plan.",
        _runs,
        of_change.runs_use_plan,
    ),
    AuditCheck(
        "BG028",
        "The plan is that of the last audit",
        "A promise that was changed, and that nobody looked at.",
        _WARNING,
        "Look at what changed. If it is meant, accept it for this audit; the next one finds it unchanged.",
        lambda facts: facts.previous,
        of_change.plan_unchanged,
    ),
    AuditCheck(
        "BG029",
        "The recovery runbook is there and current",
        "Nobody knowing at night how to restore, as the page says nothing of the last drill, or is not there.",
        _WARNING,
        "Run backup-guard runbook --store, and find out why drills and verifications do not keep it.",
        lambda facts: facts.runbook,
        of_recovery.runbook_is_current,
    ),
)
