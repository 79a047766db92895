"""Checks of what there is to restore from: its age, drills, retention, encryption."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pendulum

from airflow_backup_guard.core.audit.facts import DecryptionProof, Facts, Stock
from airflow_backup_guard.core.audit.values import (
    Evidence,
    Judgement,
    Known,
    fails,
    moment,
    not_applicable,
    passes,
    unknown,
)
from airflow_backup_guard.core.drill import DrillResult, drill_key
from airflow_backup_guard.core.retention import decide
from airflow_backup_guard.core.units import format_duration, whole_seconds

_CLOCKS_DIFFER_BY = timedelta(minutes=5)  # of the store that dates the page, and of the worker that dates the drill


def within_rpo(point: datetime | None, facts: Facts) -> Judgement:
    """The last verified backup is not older than the RPO."""
    if facts.plan.rpo is None:
        return fails("The plan has no RPO: nobody has said how old the last verified backup may be.")
    if point is None:
        return fails("There is no verified backup.")
    age, rpo = whole_seconds(facts.end - point), format_duration(facts.plan.rpo)
    said = f"The last verified backup has everything up to {moment(point)}: it is {age} old, and the RPO is {rpo}."
    return passes(said) if facts.end - point <= facts.plan.rpo else fails(said)


def drilled(drills: Sequence[DrillResult], facts: Facts) -> Judgement:
    """A restore was tried in the period, and the last one passed."""
    recent = _in_period(drills, facts)
    if not recent:
        last = max(drills, key=lambda one: one.ended_at, default=None)
        seen = () if last is None else (_seen(last),)
        return fails(f"No restore was tried between {moment(facts.start)} and {moment(facts.end)}.", *seen)
    said = f"The last of {len(recent)} drills, of backup {recent[-1].backup_id},"
    if not recent[-1].passed:
        return fails(f"{said} failed.", _seen(recent[-1]))
    return passes(f"{said} passed.", _seen(recent[-1]))


def within_rto(drills: Sequence[DrillResult], facts: Facts) -> Judgement:
    """The last drill of the period took no longer than the RTO."""
    if facts.plan.rto is None:
        return fails("The plan has no RTO: nobody has said how long a restore may take.")
    rto = format_duration(facts.plan.rto)
    recent = _in_period(drills, facts)
    if not recent:
        return not_applicable(f"No drill of this period has measured it against the RTO of {rto}; see BG005.")
    took = recent[-1].rto_seconds
    if took is None:
        return fails(f"In the last drill the database never answered, and the RTO is {rto}.", _seen(recent[-1]))
    said = f"In the last drill the database answered after {took:.1f} s, and the RTO is {rto}."
    return (passes if timedelta(seconds=took) <= facts.plan.rto else fails)(said, _seen(recent[-1]))


def retained(stock: Stock, facts: Facts) -> Judgement:
    """Neither is anything there that should have expired, nor anything gone that should have stayed."""
    plan = facts.plan
    if stock.unreadable:
        return unknown("Not all that is stored can be read: " + "; ".join(stock.unreadable))
    if plan.retention.is_empty:
        return fails("The plan has no retention: nobody has said how long backups are kept.")
    problems = []
    if stock.overdue:
        problems.append(f"{len(stock.overdue)} should have expired: {_some(stock.overdue)}.")
    if gone := _gone(stock, facts):
        problems.append(f"{len(gone)} that the last audit saw should still be there: {_some(gone)}.")
    if problems:
        return fails(" ".join(problems))
    seen = " and of those that the last audit saw none is missing" if isinstance(facts.previous, Known) else ""
    return passes(f"The plan {plan.retention}: of {len(stock.backups)} backups none is overdue{seen}.")


def encrypted(stock: Stock, facts: Facts) -> Judgement:
    """The newest backup is encrypted before it leaves the worker, and so is every other."""
    if not stock.backups:
        return unknown("There is no backup.")
    plain = [one.backup_id for one in stock.backups if not one.encrypted]
    if plain:
        return fails(f"{len(plain)} of {len(stock.backups)} backups are stored without encryption: {_some(plain)}.")
    return passes(f"All {len(stock.backups)} backups are encrypted to age recipients.")


def decryptable(proof: DecryptionProof, facts: Facts) -> Judgement:
    """Somebody who has a key has read an encrypted backup in the period."""
    if proof.at is None:
        return fails(
            "No backup that is encrypted as the newest one was ever read in clear: whether anybody has its key is not "
            "proven."
        )
    keys = f"one of the keys of {len(facts.plan.recipients)} recipients at least"
    seen = Evidence(proof.how, proof.at, proof.source)
    if proof.at < facts.start:
        return fails(f"The last proof is of {moment(proof.at)}, before this period.", seen)
    return passes(f"It was proven on {moment(proof.at)}, for {keys}.", seen)


def runbook_is_current(written_at: datetime | None, facts: Facts) -> Judgement:
    """There is a runbook, and it knows of the last drill."""
    if written_at is None:
        return fails("No recovery runbook is kept beside the backups.")
    said = f"The recovery runbook is of {moment(written_at)}"
    if isinstance(facts.drills, Known) and facts.drills.value:
        last = max(facts.drills.value, key=lambda one: one.ended_at)
        if written_at < last.ended_at - _CLOCKS_DIFFER_BY:
            return fails(f"{said}, and the last drill of {moment(last.ended_at)}.", _seen(last))
    return passes(f"{said}, and no drill is newer.")


def _in_period(drills: Sequence[DrillResult], facts: Facts) -> list[DrillResult]:
    found = [one for one in drills if facts.start <= one.ended_at <= facts.end]
    return sorted(found, key=lambda one: one.ended_at)


def _seen(drill: DrillResult) -> Evidence:
    return Evidence(drill.summary, drill.ended_at, drill_key(drill.plan_name, drill.backup_id))


def _gone(stock: Stock, facts: Facts) -> list[str]:
    """Those of the last audit that are not there, and that the retention would keep if they were."""
    if not isinstance(facts.previous, Known):
        return []
    there = {one.backup_id for one in stock.backups}
    gone = {one.backup_id: one for one in facts.previous.value.backups if one.backup_id not in there}
    if not gone:
        return []
    zone = pendulum.timezone(facts.plan.calendar.tz)
    decisions = decide(facts.plan.retention, [*stock.backups, *gone.values()], zone, facts.end)
    return [one.backup.backup_id for one in decisions if one.keep and one.backup.backup_id in gone]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
