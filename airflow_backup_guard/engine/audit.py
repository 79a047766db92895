"""Audits plans, keeps each audit where that plan's backups are, and tells whether what is kept is what was made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.audit.chain import ChainResult, digests_of, verify_chain
from airflow_backup_guard.core.audit.document import (
    DIGESTS,
    SUFFIXES,
    FileDigest,
    PlanAudit,
    audits_prefix,
    digest_list,
    file_name,
    number_of,
)
from airflow_backup_guard.core.audit.examine import examine
from airflow_backup_guard.core.audit.facts import Facts
from airflow_backup_guard.core.audit.html import html
from airflow_backup_guard.core.audit.report import markdown
from airflow_backup_guard.core.audit.values import Absent, AcceptedRisk, Fact, Known, Unknown
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.engine.audit_evidence import gather, nothing_known
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, ObjectExists
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole

PERIOD = timedelta(days=92)
"""A quarter, the longest that there is."""

_TRIES = 5


@dataclass(frozen=True)
class Subject:
    """A plan to audit, and how to get at what it names; each may raise when it is asked. Without a ``dsn`` what the
    database knows is unknown."""

    plan: BackupPlan
    repository: Callable[[], Repository]
    dsn: Callable[[], str | None]


@dataclass(frozen=True)
class Audited:
    """One audit; ``key`` and ``sha256`` of its JSON as it is stored, or why it is not stored."""

    audit: PlanAudit
    key: str = ""
    sha256: str = ""
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether it passed and is kept."""
        return self.audit.good and not self.problem


def audit(
    subjects: Iterable[Subject],
    *,
    start: datetime | None = None,
    accepted: Sequence[AcceptedRisk] = (),
    now: datetime | None = None,
) -> list[Audited]:
    """Audit each plan from ``start`` (a quarter ago) to now, and store what was found. Raises nothing of ours."""
    end = now or datetime.now(timezone.utc)
    return [_one(subject, start or end - PERIOD, end, accepted) for subject in subjects]


def chain(repository: Repository, plan_name: str, expected: str = "") -> ChainResult:
    """Verify all audits of a plan that are stored; see :func:`verify_chain`. Raises what the repository raises."""
    return verify_chain(plan_name, dict(_stored(repository, plan_name)), expected)


def last_audit(repository: Repository, plan_name: str) -> PlanAudit | None:
    """The newest audit of a plan that is stored, None if there is none; raises :class:`BackupDamaged` if it cannot be
    read, and what the repository raises."""
    prefix = audits_prefix(plan_name)
    numbers = [number_of(info.key.removeprefix(prefix)) or 0 for info in repository.list(prefix)]
    return stored_audit(repository, plan_name, max(numbers)) if any(numbers) else None


def stored_audit(repository: Repository, plan_name: str, number: int) -> PlanAudit:
    """An audit of a plan by its number; raises ``ObjectMissing``, :class:`BackupDamaged`, and what the repository
    raises."""
    key = f"{audits_prefix(plan_name)}{file_name(number, '.json')}"
    return backup.load(PlanAudit, read_whole(repository, key), key)


def audited_plans(repository: Repository) -> list[str]:
    """The names of all plans that have audits."""
    return sorted({info.key.split("/")[1] for info in repository.list("audits/") if info.key.count("/") == 2})


def _one(subject: Subject, start: datetime, end: datetime, accepted: Sequence[AcceptedRisk]) -> Audited:
    plan = subject.plan
    try:
        repository = subject.repository()
        last = _last(repository, plan.name, end)
    except Exception as error:  # of Airflow's connections, too: one plan's must not hide what is known of others
        facts = nothing_known(plan, start, end, f"The repository cannot be used: {error}")
        return Audited(_document(facts, accepted, _Last(0, Absent("", end, ""))), problem=f"It is not stored: {error}")
    facts = gather(plan, repository, _database(subject, end), start, end, last.audit)
    for _ in range(_TRIES):
        made = _document(replace(facts, previous=last.audit), accepted, last)
        try:
            return _store(repository, made)
        except ObjectExists:
            last = _last(repository, plan.name, end)  # somebody else audits it, too
        except BackupGuardError as error:
            return Audited(made, problem=f"It is not stored: {error}")
    return Audited(made, problem="It is not stored: too many audits of this plan are made at once.")


def _database(subject: Subject, now: datetime) -> str | Unknown:
    try:
        dsn = subject.dsn()
        reason = "The audit was given no connection to the database."
    except Exception as error:  # of Airflow's connections, too
        dsn, reason = None, f"The connection to the database cannot be had: {error}"
    return Unknown(reason, now, subject.plan.connection) if dsn is None else dsn


@dataclass(frozen=True)
class _Last:
    """The newest audit that is stored, its number, and the digests of its files; number 0 if there is none."""

    number: int
    audit: Fact[PlanAudit]
    digests: tuple[FileDigest, ...] = ()


def _last(repository: Repository, plan_name: str, now: datetime) -> _Last:
    prefix = audits_prefix(plan_name)
    names = [info.key.removeprefix(prefix) for info in repository.list(prefix)]
    number = max((number_of(name) or 0 for name in names), default=0)
    if number == 0:
        return _Last(0, Absent("There is no earlier audit to compare with.", now, f"{repository.url}/{prefix}"))
    files = {
        name: read_whole(repository, f"{prefix}{name}")
        for suffix in SUFFIXES
        if (name := file_name(number, suffix)) in names
    }
    key = file_name(number, ".json")
    found: Fact[PlanAudit]
    try:
        before = backup.load(PlanAudit, files.get(key, b""), f"{prefix}{key}")
        found = Known(before, before.at, f"{prefix}{key}")
        if file_name(number, DIGESTS) not in names:
            files = _complete(repository, before)  # it was cut short, or is being stored just now
    except BackupDamaged as error:
        found = Unknown(str(error), now, f"{prefix}{key}")
    return _Last(number, found, digests_of(files, number))


def _document(facts: Facts, accepted: Sequence[AcceptedRisk], last: _Last) -> PlanAudit:
    return PlanAudit(
        format=backup.FORMAT,
        number=last.number + 1,
        plan_name=facts.plan.name,
        repository=facts.plan.repository,
        plan=facts.plan.to_dict(),
        start=facts.start,
        at=facts.end,
        by=facts.version,
        findings=examine(facts, accepted),
        backups=facts.stock.value.backups if isinstance(facts.stock, Known) else (),
        before=last.digests,
        before_at=last.audit.value.at if isinstance(last.audit, Known) else None,
    )


def _store(repository: Repository, made: PlanAudit) -> Audited:
    """The JSON first, which takes the number; raises :class:`ObjectExists` if somebody else has."""
    key = f"{audits_prefix(made.plan_name)}{file_name(made.number, '.json')}"
    stored = repository.put(key, backup.dump(made), if_absent=True)
    _complete(repository, made)
    return Audited(made, stored.key, stored.sha256)


def _complete(repository: Repository, made: PlanAudit) -> dict[str, bytes]:
    """Store what is to lie beside the JSON of an audit, as far as it does not yet, and the digests of all; returns the
    files that have digests, as they are stored. Whoever made it may do so at the same time, or have died."""
    prefix = audits_prefix(made.plan_name)

    def put(suffix: str, data: bytes) -> bytes:
        key = f"{prefix}{file_name(made.number, suffix)}"
        try:
            repository.put(key, data, if_absent=True)
        except ObjectExists:
            return read_whole(repository, key)
        return data

    files = {
        file_name(made.number, ".json"): read_whole(repository, f"{prefix}{file_name(made.number, '.json')}"),
        file_name(made.number, ".html"): put(".html", html([made]).encode()),
        file_name(made.number, ".md"): put(".md", markdown([made]).encode()),
    }
    put(DIGESTS, digest_list(digests_of(files, made.number)))
    return files


def _stored(repository: Repository, plan_name: str) -> Iterator[tuple[str, bytes]]:
    prefix = audits_prefix(plan_name)
    for info in repository.list(prefix):
        yield info.key.removeprefix(prefix), read_whole(repository, info.key)
