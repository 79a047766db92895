"""Gathers how plans stand from their repositories, in a few requests each; what cannot be read costs nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.agenda import conflicts, next_window
from airflow_backup_guard.core.alert_log import Delivery, deliveries_prefix
from airflow_backup_guard.core.backup import Attempt, BackupRecord
from airflow_backup_guard.core.catalog import Catalog
from airflow_backup_guard.core.control import Orders
from airflow_backup_guard.core.drill import DRILLS, DrillResult
from airflow_backup_guard.core.fleet import (
    PlanStatus,
    Problem,
    RunningCopy,
    Trend,
    judge_protection,
    last_verified,
    open_alerts,
    unknown_status,
    unreachable_status,
)
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import control
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, InvalidPlan, ObjectMissing
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole

ALERTS_SINCE = timedelta(days=1)
"""How far back messages are looked at."""

_MOST_MESSAGES = 20
_MOST_TRIED = 5
_AT_ONCE = 4  # each reads with several threads of its own


@dataclass(frozen=True)
class FoundPlan:
    """A plan that a repository has backups or attempts of; ``plan`` is that of the newest one, or there is a
    ``problem``."""

    name: str
    plan: BackupPlan | None
    problem: Problem | None = None


def status(
    plan: BackupPlan, repository: Repository, now: datetime | None = None, found: Catalog | None = None
) -> PlanStatus:
    """How one plan stands; ``found`` is the listing of its backups, if the caller has it. Raises what the repository
    raises where nothing at all can be known of it.

    A record, a drill or a message that cannot be read is among the problems.
    """
    now = now or datetime.now(timezone.utc)
    found = found or list_backups(repository, plan.name)
    backups = sorted(found.backups, key=lambda one: (one.taken_at, one.backup_id))
    verified = last_verified(backups)
    point = verified.taken_at if verified else None
    protection, reason = judge_protection(point, plan.rpo, now, bool(found.unreadable))
    newest = backups[-1] if backups else None
    problems = list(_unreadable(found))
    last_took = timedelta(seconds=newest.seconds) if newest else None
    return PlanStatus(
        plan_name=plan.name,
        repository=plan.repository,
        at=now,
        protection=protection,
        reason=reason,
        rpo=plan.rpo,
        rto=plan.rto,
        recovery_point=point,
        backups=len(backups),
        damaged=tuple(one.backup_id for one in backups if one.verdict is Verdict.DAMAGED),
        newest=newest,
        last_verified=verified,
        drill=_latest_drill(repository, plan.name, problems),
        running=tuple(_running(repository, plan.name)),
        window=next_window(plan.calendar, now),
        alerts=open_alerts(_messages(repository, plan.name, now, problems)),
        size=Trend.of([float(one.database_size) for one in backups]),
        seconds=Trend.of([one.seconds for one in backups]),
        conflicts=tuple(conflicts(plan, now, last_took)),
        problems=tuple(problems),
    )


def statuses(repository: Repository, url: str, plan_name: str | None = None) -> list[PlanStatus]:
    """How all plans of a repository stand, or one of them, by name; raises what the repository raises."""
    found = plans_in(repository, url, plan_name)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda one: _status_of(one, repository, url), found))


def plans_in(repository: Repository, url: str, plan_name: str | None = None) -> list[FoundPlan]:
    """The plans that a repository knows, by name, as their newest backup or attempt was made under; with ``url`` as
    their repository, as it was found there."""
    by_plan: dict[str, list[str]] = defaultdict(list)
    for prefix in (backup.RECORDS, "attempts/"):
        for info in repository.list(f"{prefix}{plan_name}/" if plan_name else prefix):
            plan, _, name = info.key.removeprefix(prefix).partition("/")
            if name.endswith(".json") and backup.is_backup_id(name.removesuffix(".json")):
                by_plan[plan].append(info.key)
    # Of one backup, the record comes after its attempt: it is what counts.
    newest_first = {
        name: sorted(keys, key=lambda key: (key.rpartition("/")[2], key), reverse=True)
        for name, keys in by_plan.items()
    }
    return [_found(repository, url, name, newest_first[name]) for name in sorted(newest_first)]


def _found(repository: Repository, url: str, name: str, newest_first: Sequence[str]) -> FoundPlan:
    problem = Problem(f"Plan {name} was removed from {repository.url} just now.", "")
    for key in newest_first[:_MOST_TRIED]:
        try:
            kind: type[BackupRecord | Attempt] = BackupRecord if key.startswith(backup.RECORDS) else Attempt
            plan = backup.load(kind, read_whole(repository, key), key).snapshot.plan
            return FoundPlan(name, BackupPlan.from_dict({**plan, "name": name, "repository": url}))
        except ObjectMissing:
            continue
        except (BackupDamaged, InvalidPlan) as error:
            problem = Problem(f"The plan is not known: {error.message}", error.remedy)
    return FoundPlan(name, None, problem)


def _status_of(found: FoundPlan, repository: Repository, url: str) -> PlanStatus:
    now = datetime.now(timezone.utc)
    if found.plan is None:
        problem = found.problem or Problem("Its plan is not known.", "")
        return unknown_status(found.name, url, problem, now)
    try:
        return status(found.plan, repository, now)
    except BackupGuardError as error:
        return unreachable_status(found.plan, Problem(error.message, error.remedy), now)


def _unreadable(found: Catalog) -> Iterator[Problem]:
    return (Problem(one.message, one.remedy) for one in found.unreadable)


def _latest_drill(repository: Repository, plan_name: str, problems: list[Problem]) -> DrillResult | None:
    listed = [info for info in repository.list(f"{DRILLS}{plan_name}/") if info.key.endswith(".json")]
    for info in sorted(listed, key=lambda info: (info.modified, info.key), reverse=True)[:_MOST_TRIED]:
        try:
            return backup.load(DrillResult, read_whole(repository, info.key), info.key)
        except ObjectMissing:
            continue  # its backup expired just now
        except BackupDamaged as error:
            problems.append(Problem(error.message, error.remedy))
    return None


def _running(repository: Repository, plan_name: str) -> Iterator[RunningCopy]:
    for snapshot in control.running(repository, plan_name):
        orders = control.orders_to(repository, snapshot)
        yield RunningCopy(snapshot.backup_id, snapshot.taken_at, snapshot.size, _in_force(orders))


def _in_force(orders: Orders) -> tuple[str, ...]:
    return tuple(str(order) for order in (orders.stop, orders.pause, orders.limit) if order is not None)


def _messages(repository: Repository, plan_name: str, now: datetime, problems: list[Problem]) -> list[Delivery]:
    """The newest messages of the last day; the key of one begins with its time."""
    prefix = deliveries_prefix(plan_name)
    first = f"{prefix}{(now - ALERTS_SINCE).astimezone(timezone.utc):%Y%m%dT%H%M%S}"
    keys = [info.key for info in repository.list(prefix) if info.key >= first and info.key.endswith(".json")]
    found = []
    for key in keys[-_MOST_MESSAGES:]:
        try:
            found.append(backup.load(Delivery, read_whole(repository, key), key))
        except ObjectMissing:
            continue
        except BackupDamaged as error:
            problems.append(Problem(error.message, error.remedy))
    return found
