"""Gathers what there is to see of one plan, one backup and one week; what cannot be read is told beside the rest."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TypeVar

import pendulum

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.drill import DRILLS, DrillResult
from airflow_backup_guard.core.fleet import Problem
from airflow_backup_guard.core.hours_report import HoursReport
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.plan_details import BackupDetails, PlanDetails, RogueEvent
from airflow_backup_guard.core.retention import decide
from airflow_backup_guard.core.rogue_text import origin, title
from airflow_backup_guard.core.week_ahead import WeekAhead
from airflow_backup_guard.engine import catalog, fleet, load_history
from airflow_backup_guard.engine.audit import last_audit
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.engine.recovery_point import last_duration
from airflow_backup_guard.engine.response import OUTCOME, ROGUES, Evidence, Outcome
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, ObjectMissing
from airflow_backup_guard.repository.base import ObjectInfo, Repository
from airflow_backup_guard.repository.read import read_whole

_READERS = 8  # fewer than the connections that boto3 keeps
_MOST_DRILLS = 30
_MOST_ROGUES = 20
T = TypeVar("T")


def details(plan: BackupPlan, repository: Repository, now: datetime | None = None) -> PlanDetails:
    """One plan, with its newest drills and rogue backups. Raises what the repository raises.

    Why a backup is kept is what the plan's retention says of what listings remember; an expiry reads it all anew, and
    asks for locks in the repository, too.
    """
    now = now or datetime.now(timezone.utc)
    found = list_backups(repository, plan.name)
    decided = decide(plan.retention, found.backups, pendulum.timezone(plan.calendar.tz), now)
    problems: list[Problem] = []
    drills = _newest(repository, f"{DRILLS}{plan.name}/", _MOST_DRILLS)
    rogues = [one for one in _newest(repository, f"{ROGUES}{plan.name}/", None) if not one.key.endswith(OUTCOME)]
    audit = _known(lambda: last_audit(repository, plan.name), problems)
    read_drills = _each(drills, lambda one: _load(repository, DrillResult, one.key), problems)
    return PlanDetails(
        status=fleet.status(plan, repository, now, found),
        retention=f"{plan.retention}, by the clock of {plan.calendar.tz}",
        decisions=tuple(reversed(decided)),
        drills=tuple(sorted(read_drills, key=lambda one: one.ended_at, reverse=True)),
        rogues=tuple(_each(rogues[:_MOST_ROGUES], lambda one: _rogue(repository, one.key), problems)),
        problems=tuple(problems),
        audit=audit,
    )


def backup_details(plan: BackupPlan, repository: Repository, backup_id: str) -> tuple[BackupDetails, list[Problem]]:
    """One backup, and what beside its record could not be read; raises ``ObjectMissing`` and :class:`BackupDamaged`."""
    record = catalog.record_of(repository, plan.name, backup_id)
    problems: list[Problem] = []
    verification = _known(lambda: catalog.last_verification(repository, record), problems)
    drill = _known(lambda: catalog.last_drill(repository, record), problems)
    return BackupDetails(record, plan.repository, verification, drill), problems


def week_ahead(plan: BackupPlan, repository: Repository, now: datetime | None = None) -> WeekAhead:
    """What a plan's calendar has in store, over the load that was recorded.

    Without a repository that answers it is the calendar alone, and the reason is among the problems.
    """
    now = now or datetime.now(timezone.utc)
    hours: HoursReport | None = None
    last_took: timedelta | None = None
    problems = []
    try:
        hours = load_history.report(repository, plan.name, plan.calendar, tz=plan.calendar.tz, now=now)
        last_took = last_duration(repository, plan.name)
    except BackupGuardError as error:
        problems.append(Problem(error.message, error.remedy))
    return WeekAhead.of(plan, hours, now, last_took, problems)


def _known(find: Callable[[], T | None], problems: list[Problem]) -> T | None:
    try:
        return find()
    except ObjectMissing:
        return None  # removed just now
    except BackupDamaged as error:
        problems.append(Problem(error.message, error.remedy))
        return None


def _newest(repository: Repository, prefix: str, most: int | None) -> list[ObjectInfo]:
    listed = [info for info in repository.list(prefix) if info.key.endswith(".json")]
    return sorted(listed, key=lambda info: (info.modified, info.key), reverse=True)[:most]


def _each(listed: list[ObjectInfo], read: Callable[[ObjectInfo], T], problems: list[Problem]) -> list[T]:
    def one(info: ObjectInfo) -> T | Problem | None:
        try:
            return read(info)
        except ObjectMissing:
            return None  # removed just now
        except BackupDamaged as error:
            return Problem(error.message, error.remedy)

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(one, listed))
    problems += [one for one in found if isinstance(one, Problem)]
    return [one for one in found if one is not None and not isinstance(one, Problem)]


def _load(repository: Repository, kind: type[T], key: str) -> T:
    return backup.load(kind, read_whole(repository, key), key)


def _rogue(repository: Repository, key: str) -> RogueEvent:
    seen = _load(repository, Evidence, key)
    try:
        outcome = _load(repository, Outcome, key.removesuffix(".json") + OUTCOME)
        became = "; ".join([outcome.state, *(f"{one.action}: {one.reason}" for one in outcome.actions)])
    except (ObjectMissing, BackupDamaged):
        became = ""
    return RogueEvent(seen.seen_at, title(seen.backup), origin(seen.backup), seen.in_window, became)
