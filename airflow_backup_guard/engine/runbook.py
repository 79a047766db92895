"""Gathers what the recovery runbook of a plan says, and keeps the page where that plan's backups are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from airflow_backup_guard import __version__
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.catalog import BackupSummary
from airflow_backup_guard.core.fleet import Problem
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.runbook.facts import Facts, runbook_key
from airflow_backup_guard.core.runbook.text import html, markdown
from airflow_backup_guard.engine import catalog, fleet
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.errors import BackupDamaged, BackupMissing, ObjectMissing
from airflow_backup_guard.repository.base import Repository


def plan_of(repository: Repository, url: str, plan_name: str | None = None) -> BackupPlan:
    """The plan by this name, or the only one there is, as its newest backup was made under, with ``url`` as its
    repository. Raises :class:`BackupMissing` if there is none, or several, or it cannot be read."""
    found = fleet.plans_in(repository, url, plan_name)
    if len(found) > 1:
        raise BackupMissing(
            f"{repository.url} has backups of several plans: {', '.join(one.name for one in found)}.",
            remedy="Say which one, with --plan-name.",
        )
    if not found:
        raise BackupMissing(f"{repository.url} has no backup.", remedy="Give --plan FILE, and make a backup.")
    if found[0].plan is None:
        problem = found[0].problem or Problem("The plan cannot be read.", "")
        raise BackupMissing(problem.message, remedy=problem.remedy or "Give --plan FILE.")
    return found[0].plan


def gather(plan: BackupPlan, repository: Repository, now: datetime | None = None) -> Facts:
    """What there is to say of a plan now. A record that cannot be read is among the problems of its status; raises
    what the repository raises."""
    found = list_backups(repository, plan.name)
    status = fleet.status(plan, repository, now, found)
    problems = list(status.problems)
    newest_first = sorted(found.backups, key=lambda one: (one.taken_at, one.backup_id), reverse=True)
    verified = _records(repository, (one for one in newest_first if one.trust == 2), problems)
    backups = verified or _records(repository, (one for one in newest_first if one.trust == 1), problems)[:1]
    sizes = {one.backup_id: one.database_size for one in found.backups}
    return Facts(
        plan=plan,
        status=replace(status, problems=tuple(problems)),
        version=__version__,
        backup=backups[0] if backups else None,
        before=backups[1] if len(backups) > 1 else None,
        verified=bool(verified),
        drilled_size=sizes.get(status.drill.backup_id) if status.drill else None,
    )


@dataclass(frozen=True)
class Kept:
    """Whether the page is kept, and a sentence on where, or on why it is not."""

    good: bool
    said: str


def keep_runbook(repository: Repository, plan_name: str, plan: BackupPlan | None = None) -> Kept:
    """Write the runbook of a plan anew beside its backups; without a ``plan`` that of its newest backup counts.

    Raises nothing: what goes wrong with the page must not be what fails a drill. Two who write it at once cannot spoil
    it, as each form is replaced whole.
    """
    try:
        facts = gather(plan or plan_of(repository, repository.url, plan_name), repository)
        keys = store(facts, repository)
    except Exception as error:
        return Kept(False, f"The recovery runbook could not be kept beside the backups: {error}")
    return Kept(True, f"The recovery runbook is kept beside the backups, as {' and '.join(keys)}.")


def store(facts: Facts, repository: Repository) -> list[str]:
    """Keep the page in both forms, in place of the one before; returns where. Raises what the repository raises."""
    pages = {runbook_key(facts.plan.name, ".html"): html(facts), runbook_key(facts.plan.name, ".md"): markdown(facts)}
    return [repository.put(key, page.encode()).key for key, page in pages.items()]


def _records(repository: Repository, summaries: Iterable[BackupSummary], problems: list[Problem]) -> list[BackupRecord]:
    """The first two of these that can be read."""
    records: list[BackupRecord] = []
    for one in summaries:
        try:
            records.append(catalog.record_of(repository, one.plan_name, one.backup_id))
        except ObjectMissing:
            continue  # it expired just now
        except BackupDamaged as error:
            problems.append(Problem(error.message, error.remedy))
        if len(records) == 2:
            break
    return records
