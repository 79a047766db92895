"""Gathers the evidence for one plan's audit. Whatever cannot be read is unknown, with the reason; nothing is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeVar

import attrs
import pendulum

from airflow_backup_guard import __version__
from airflow_backup_guard.core import backup
from airflow_backup_guard.core.alert_log import Delivery, deliveries_prefix
from airflow_backup_guard.core.audit.document import PlanAudit
from airflow_backup_guard.core.audit.facts import Bucket, Database, DecryptionProof, Facts, RogueSeen, Run, Stock
from airflow_backup_guard.core.audit.values import Absent, Fact, Known, Unknown
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.command import COMMANDS, CommandReceipt
from airflow_backup_guard.core.drill import DRILLS, DrillResult, drill_key
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.retention import decide
from airflow_backup_guard.core.rogue_text import origin, title
from airflow_backup_guard.core.runbook.facts import runbook_key
from airflow_backup_guard.core.verification import Level, Verification
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.expire import propose
from airflow_backup_guard.engine.ical import read_sources
from airflow_backup_guard.engine.recovery_point import recovery_point
from airflow_backup_guard.engine.response import OUTCOME, ROGUES, Evidence
from airflow_backup_guard.engine.watchdog import look as look_at_backups
from airflow_backup_guard.engine.watchdog import refuse_blind
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.audit import look as look_at_server
from airflow_backup_guard.postgres.connection import describe
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole
from airflow_backup_guard.repository.settings import settings_of

T = TypeVar("T")
_OVERDUE_AFTER = timedelta(days=2)
"""How long a backup may outlive its retention: an expiry runs once a day, and may fail once."""


def gather(
    plan: BackupPlan,
    repository: Repository,
    database: str | Unknown,
    start: datetime,
    end: datetime,
    previous: Fact[PlanAudit],
) -> Facts:
    """All facts of the time from ``start`` to ``end``, which is now. ``database`` is how to connect, or why that is not
    known."""
    read = _with_calendars_read(plan, start, end)
    at = _Place(plan, repository, start, end)
    return Facts(
        plan=read,
        start=start,
        end=end,
        version=__version__,
        runs=at.known(at.runs, f"records and receipts in {repository.url}"),
        recovery_point=at.known(lambda: recovery_point(repository, plan.name), f"verifications in {repository.url}"),
        drills=at.known(at.drills, f"drills in {repository.url}"),
        stock=at.known(at.stock, f"records in {repository.url}"),
        deliveries=at.known(at.deliveries, f"{deliveries_prefix(plan.name)} in {repository.url}"),
        rogues=at.rogues(read, database),
        decryption=at.decryption(),
        database=_server(at, database),
        bucket=settings_of(repository, end),
        previous=previous,
        runbook=at.known(at.runbook, f"{runbook_key(plan.name, '.html')} in {repository.url}"),
    )


def _with_calendars_read(plan: BackupPlan, start: datetime, end: datetime) -> BackupPlan:
    if not plan.calendar.sources:
        return plan
    try:
        return attrs.evolve(plan, calendar=read_sources(plan.calendar, start, end - start + timedelta(days=1)))
    except BackupGuardError:
        return plan  # its calendar then says itself that it does not know


def nothing_known(plan: BackupPlan, start: datetime, end: datetime, reason: str) -> Facts:
    """The facts of a plan whose repository cannot be opened."""
    lost = Unknown(reason, end, plan.repository)
    bucket = Bucket(lost, lost, lost, lost, lost, lost)
    return Facts(plan, start, end, __version__, lost, lost, lost, lost, lost, lost, lost, lost, bucket, lost, lost)


def _server(at: _Place, database: str | Unknown) -> Fact[Database]:
    if isinstance(database, Unknown):
        return database
    return at.known(lambda: look_at_server(database), describe(database))


class _Place:
    """The repository of one plan, in one period."""

    def __init__(self, plan: BackupPlan, repository: Repository, start: datetime, end: datetime) -> None:
        self._plan = plan
        self._repository = repository
        self._start = start
        self._end = end

    def known(self, find: Callable[[], T], source: str) -> Fact[T]:
        """What ``find`` returns, or why it could not."""
        try:
            return Known(find(), self._end, source)
        except BackupGuardError as error:
            return Unknown(str(error), self._end, source)

    def runs(self) -> tuple[Run, ...]:
        """Backups and guarded commands that ended in the period, or began in it and have no end."""
        found = [self._run(record) for record in self._records]
        found += [self._command(key, receipt) for key, receipt in self._receipts()]
        return tuple(
            run
            for run in sorted(found, key=lambda run: run.started_at)
            if run.started_at <= self._end and (run.ended_at or run.started_at) >= self._start
        )

    def drills(self) -> tuple[DrillResult, ...]:
        """The latest one of each backup that is there."""
        infos = self._repository.list(f"{DRILLS}{self._plan.name}/")
        return tuple(self._load(DrillResult, info.key) for info in infos if info.key.endswith(".json"))

    def stock(self) -> Stock:
        """All backups, and what the retention would have removed two days ago."""
        plan = self._plan
        now = propose(self._repository, plan.name, plan.retention, plan.calendar.tz, now=self._end)
        backups = tuple(one.backup for one in now.decisions)
        zone = pendulum.timezone(plan.calendar.tz)
        earlier = decide(plan.retention, backups, zone, self._end - _OVERDUE_AFTER)
        # What would have gone then and stays now, for a hold or a lock, is not overdue.
        gone = {one.backup.backup_id for one in earlier if not one.keep}
        return Stock(
            backups=backups,
            overdue=tuple(one.backup.backup_id for one in now.expired if one.backup.backup_id in gone),
            unreadable=tuple(one.message for one in now.unreadable),
        )

    def runbook(self) -> datetime | None:
        """When the page was written that people would read."""
        found = self._repository.list(runbook_key(self._plan.name, ".html"))
        return next((info.modified for info in found), None)

    def deliveries(self) -> tuple[Delivery, ...]:
        """What became of the messages of the period. The key of one begins with its time."""
        prefix = deliveries_prefix(self._plan.name)
        first = f"{prefix}{self._start:%Y%m%d}"
        infos = [info for info in self._repository.list(prefix) if info.key >= first and info.key.endswith(".json")]
        return tuple(self._load(Delivery, info.key) for info in infos)

    def rogues(self, plan: BackupPlan, database: str | Unknown) -> Fact[tuple[RogueSeen, ...]]:
        """What the watchdog has stored, and one look of our own: what cannot be seen now could not be seen then."""
        stored = self.known(self._stored_rogues, f"{ROGUES}{plan.name}/ in {self._repository.url}")
        now: Fact[tuple[RogueSeen, ...]]
        if isinstance(database, Unknown):
            now = database
        else:
            now = self.known(lambda: self._look(plan, database), describe(database))
        found = [fact for fact in (stored, now) if isinstance(fact, Known) and fact.value]
        if len(found) == 1:
            return found[0]  # what was seen was seen, whatever else could not be
        if isinstance(stored, Known) and isinstance(now, Known):
            return Known((*stored.value, *now.value), self._end, f"{stored.source}, {now.source}")
        return stored if isinstance(stored, Unknown) else now

    def _look(self, plan: BackupPlan, dsn: str) -> tuple[RogueSeen, ...]:
        sighting = asyncio.run(look_at_backups(dsn, plan, self._repository))
        if not sighting.rogues:
            refuse_blind(sighting)
        return tuple(RogueSeen(self._end, f"{title(one)} by {origin(one)}", describe(dsn)) for one in sighting.rogues)

    def decryption(self) -> Fact[DecryptionProof]:
        """The last time that somebody read a backup in clear that is encrypted as the newest one is."""
        source = f"verifications and drills in {self._repository.url}"
        found = self.known(self._decryption, source)
        if isinstance(found, Known) and found.value is None:
            return Absent("No backup is encrypted; see BG025.", self._end, source)
        return found  # type: ignore[return-value]

    @cached_property
    def _records(self) -> tuple[BackupRecord, ...]:
        return tuple(catalog.backups(self._repository, self._plan.name))

    def _decryption(self) -> DecryptionProof | None:
        best: DecryptionProof | None = None
        encrypted = [record for record in self._records if record.snapshot.plan.get("recipients")]
        for record in encrypted:
            if _recipients(record) != _recipients(encrypted[-1]):
                continue  # who holds the keys of before need not hold those of now
            proofs = [best or DecryptionProof(None), *self._proofs(record)]
            best = max(proofs, key=lambda proof: "" if proof.at is None else proof.at.isoformat())
        return best

    def _proofs(self, record: BackupRecord) -> Iterator[DecryptionProof]:
        verification = catalog.last_verification(self._repository, record)
        if verification is not None and (when := _inside(verification)) is not None:
            key = backup.verification_key(record.plan_name, record.backup_id)
            yield DecryptionProof(when, f"Backup {record.backup_id} was decrypted and verified.", key)
        drill = catalog.last_drill(self._repository, record)
        if drill is not None and drill.rto_seconds is not None:
            key = drill_key(record.plan_name, record.backup_id)
            yield DecryptionProof(drill.ended_at, f"Backup {record.backup_id} was decrypted and restored.", key)

    def _stored_rogues(self) -> tuple[RogueSeen, ...]:
        found = []
        for info in self._repository.list(f"{ROGUES}{self._plan.name}/"):
            if info.key.endswith(".json") and not info.key.endswith(OUTCOME):
                seen = self._load(Evidence, info.key)
                found.append(RogueSeen(seen.seen_at, f"{title(seen.backup)} by {origin(seen.backup)}", info.key))
        return tuple(found)

    def _receipts(self) -> Iterator[tuple[str, CommandReceipt]]:
        prefix = f"{COMMANDS}{self._plan.name}/"
        for info in self._repository.list(prefix):
            if "/" not in info.key.removeprefix(prefix) and info.key.endswith(".json"):
                yield info.key, self._load(CommandReceipt, info.key)

    def _run(self, record: BackupRecord) -> Run:
        key = backup.record_key(record.plan_name, record.backup_id)
        plan = record.snapshot.plan
        return Run(record.backup_id, key, record.started_at, record.ended_at, plan, record.impact, record.written_by)

    def _command(self, key: str, receipt: CommandReceipt) -> Run:
        return Run(
            receipt.command_id,
            key,
            receipt.started_at,
            receipt.ended_at,
            receipt.plan,
            receipt.impact,
            receipt.written_by,
            is_backup=False,
        )

    def _load(self, kind: type[T], key: str) -> T:
        return backup.load(kind, read_whole(self._repository, key), key)


def _recipients(record: BackupRecord) -> frozenset[str]:
    return frozenset(record.snapshot.plan["recipients"])


def _inside(verification: Verification) -> datetime | None:
    """When the content of a backup was found right, and so decrypted."""
    found = next((one for one in verification.evidence if one.level is Level.CONSISTENT), None)
    if found is not None and verification.reaches(Level.CONSISTENT):
        return found.at
    return None


def newest_plans(repository: Repository, url: str) -> Iterator[BackupPlan]:
    """The plan of the newest backup of each plan that has one, by name; with ``url`` as its repository, as it
    was found there. Raises :class:`BackupDamaged` and :class:`InvalidPlan` for one that cannot be read."""
    newest: dict[str, str] = dict(catalog.ids(repository, None))
    for name, backup_id in sorted(newest.items()):
        plan = catalog.record_of(repository, name, backup_id).snapshot.plan
        yield BackupPlan.from_dict({**plan, "repository": url})
