"""``backup-guard status``: how all plans of a repository stand."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Column, FittingTable, age, duration, lines
from airflow_backup_guard.core.fleet import PlanStatus, Protection, Trend, by_urgency
from airflow_backup_guard.core.names import printable
from airflow_backup_guard.core.units import Size, format_duration
from airflow_backup_guard.engine import fleet
from airflow_backup_guard.repository.open import open_repository


def run(arguments: argparse.Namespace) -> Answer:
    """All plans, the worst first."""
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    name = settings.plan_name(arguments, plan)
    if arguments.plan is not None:
        found = [fleet.status(plan, repository)]
    else:
        found = by_urgency(fleet.statuses(repository, repository.url, name))
    document = {"repository": repository.url, "plans": [one.to_dict() for one in found]}
    if not found:
        of_plan = f" of plan {name}" if name else ""
        return Answer(document, [f"{repository.url} has no backup{of_plan}, and none was begun."], False)
    return Answer(document, [*_text(found)], all(one.good for one in found))


def _text(found: Sequence[PlanStatus]) -> Iterator[RenderableType]:
    yield _table(found)
    for one in found:
        notes = list(_notes(one))
        if notes:
            yield from ("", f"{one.plan_name}:", lines([note] for note in notes))


def _table(found: Sequence[PlanStatus]) -> FittingTable:
    now = datetime.now(timezone.utc)
    columns = [
        Column("PLAN", [one.plan_name for one in found]),
        Column("STANDS", [one.protection.value for one in found]),
        Column("VERIFIED", [_verified(one, now) for one in found]),
        Column(
            "RPO",
            [format_duration(one.rpo) if one.rpo else "none" if one.known else "unknown" for one in found],
            rank=5,
        ),
        Column("DRILL", [_drill(one, now) for one in found], rank=2),
        Column("RUNS", [_runs(one, now) for one in found], rank=1),
        Column("WINDOW", [_window(one, now) for one in found], rank=3),
        Column("BACKUPS", [str(one.backups) if one.known else "" for one in found], rank=6, right=True),
        Column("SIZE", [_trend(one.size, lambda value: str(Size(value))) for one in found], rank=4, right=True),
        Column("DURATION", [_trend(one.seconds, duration) for one in found], rank=7, right=True),
    ]
    if any(one.alerts for one in found):
        columns.append(Column("ALERTS", [str(len(one.alerts) or "") for one in found], rank=4, right=True))
    return FittingTable(columns)


def _verified(one: PlanStatus, now: datetime) -> str:
    if one.recovery_point is None:
        return "unknown" if one.protection is Protection.UNKNOWN else "never"
    return f"{age(one.recovery_point, now)} ago"


def _drill(one: PlanStatus, now: datetime) -> str:
    if one.drill is None:
        return "never" if one.known else "unknown"
    took = duration(one.drill.rto_seconds) if one.drill.rto_seconds is not None else "no answer"
    target = f" of {format_duration(one.rto)}" if one.rto else ""
    return f"{'' if one.drill.passed else 'FAILED, '}{took}{target}, {age(one.drill.ended_at, now)} ago"


def _runs(one: PlanStatus, now: datetime) -> str:
    return ", ".join(f"since {age(copy.since, now)}" for copy in one.running)


def _window(one: PlanStatus, now: datetime) -> str:
    if one.window is None:
        return "unknown"
    if one.window.open:
        return "open" if one.window.end is None else f"open, {_in(one.window.end, now)} left"
    return "none" if one.window.next_start is None else f"in {_in(one.window.next_start, now)}"


def _in(moment: datetime, now: datetime) -> str:
    return age(now, moment.astimezone(timezone.utc))


def _trend(trend: Trend | None, show: Callable[[float], str]) -> str:
    if trend is None:
        return ""
    return f"{show(trend.newest)} {trend.change:+.0%}" if trend.change is not None else show(trend.newest)


def _notes(one: PlanStatus) -> Iterator[RenderableType]:
    if not one.protection.good and not one.problems:
        yield f"{one.reason[:1].upper()}{one.reason[1:]}."
    if one.damaged:
        yield f"Damaged: {', '.join(one.damaged)}; see backup-guard show."
    if one.drill is not None and not one.drill.passed:
        yield printable(one.drill.summary)
    elif one.rto_met is False and one.drill is not None:
        took, target = duration(one.drill.rto_seconds or 0), format_duration(one.rto or timedelta(0))
        yield f"The last drill took {took}, and the RTO is {target}."
    for copy in one.running:
        for order in copy.orders:
            yield f"Backup {copy.backup_id} is {order}"
    for alert in one.alerts:
        lost = f"; {alert.undelivered} channels did not get it" if alert.undelivered else ""
        yield printable(f"Alert, {alert.severity}, {alert.at:%Y-%m-%d %H:%M} UTC: {alert.title}{lost}")
    yield from one.conflicts
    for problem in one.problems:
        yield Text.assemble(problem.message, (f"\n{problem.remedy}", "dim") if problem.remedy else "")
