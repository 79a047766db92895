"""``backup-guard expire``: which backups stay, which go, and why; and, with ``--yes``, the going."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Command, lines, word
from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.expiry import Expiry
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.retention import Decision, RetentionPolicy, check_abandoned_after
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.expire import expire, policy_of, propose
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.open import open_repository

_BY_HAND = "Left alone: see what it is, and remove it by hand"
_OPTIONS = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "min_age")


def run(arguments: argparse.Namespace) -> Answer:
    """Propose, and do it if it was asked for."""
    plan = settings.plan(arguments)
    options = {name: given for name in _OPTIONS if (given := getattr(arguments, name)) is not None}
    policy = RetentionPolicy.from_dict(options) if options else None
    abandoned_after = check_abandoned_after(arguments.abandoned_after)
    repository = open_repository(plan.repository)
    plan_name = _plan_name(repository, settings.plan_name(arguments, plan))
    if plan_name is None:
        return Answer({"repository": repository.url, "backups": []}, [f"{repository.url} has no backup."])
    policy, tz = _rules(repository, plan_name, policy, plan if arguments.plan else None)
    expiry = propose(repository, plan_name, policy, tz, abandoned_after=abandoned_after)
    if arguments.yes:
        with stop_on_signals("Stopping after this backup; a second signal ends this at once.") as stop:
            expiry = expire(expiry, repository, stop=stop)
    document = {"repository": repository.url, **expiry.to_dict()}
    good = not expiry.unreadable and not expiry.failures
    return Answer(document, [*_text(expiry, repository, _again(arguments))], good)


def _plan_name(repository: Repository, named: str | None) -> str | None:
    """The plan that was named, or the only one that there is."""
    if named is not None:
        return named
    names = sorted({plan for plan, _ in catalog.ids(repository, None)})
    if len(names) > 1:
        raise WrongUse(
            f"{repository.url} has backups of several plans: {', '.join(names)}.",
            remedy="Say whose shall expire, with --plan-name or --plan: each plan has its own rules.",
        )
    return names[0] if names else None


def _rules(
    repository: Repository, plan_name: str, given: RetentionPolicy | None, plan: BackupPlan | None
) -> tuple[RetentionPolicy, str]:
    """Retention and time zone: of the options, then of the plan file, then of the plan's newest backup."""
    if plan is not None:
        return given or plan.retention, plan.calendar.tz
    policy, tz = policy_of(repository, plan_name)
    return given or policy, tz


def _again(arguments: argparse.Namespace) -> Command:
    """The same command, but for real."""
    given = {name: getattr(arguments, name) for name in ("plan", "repository", "plan_name", *_OPTIONS)}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    waiting = [] if arguments.abandoned_after == "7d" else [f"--abandoned-after={arguments.abandoned_after}"]
    return Command(f"backup-guard {shlex.join(['expire', *options, *waiting, '--yes'])}")


def _text(expiry: Expiry, repository: Repository, again: Command) -> Iterator[RenderableType]:
    kept, expired = expiry.kept, expiry.expired
    yield f"Plan {expiry.plan_name} in {repository.url} {expiry.policy}, by the clock of {expiry.tz}."
    if kept:
        yield from ("", f"{'Kept' if expiry.done else 'Keep'}, {_total(kept)}:", lines(_row(one) for one in kept))
    if expired:
        yield from ("", f"{'Expired' if expiry.done else 'Expire'}, {_total(expired)}:")
        yield lines(_row(one) for one in expired)
    if expiry.left_over:
        yield from ("", "Belongs to no backup:")
        yield lines([one.backup_id, str(one) if one.known else f"{one}. {_BY_HAND}"] for one in expiry.left_over)
    problems = [(one.message, one.remedy) for one in expiry.unreadable]
    problems += [(one.message, one.remedy) for one in expiry.failures]
    if problems:
        yield from ("", "Left alone, as it cannot be read or removed:")
        yield lines([Text.assemble(message, (f"\n{remedy}", "dim"))] for message, remedy in problems)
    yield ""
    yield from _what_now(expiry, again)


def _what_now(expiry: Expiry, again: Command) -> Iterator[RenderableType]:
    if not expiry.expired and not expiry.swept:
        yield "There is nothing to remove." if not expiry.done else "Nothing was removed."
    elif expiry.done:
        yield f"Removed: {Size(expiry.freed)}."
    else:
        yield f"Nothing was removed. This frees {Size(expiry.freed)}:"
        yield again


def _row(decision: Decision) -> tuple[str, Text, str]:
    verdict = decision.backup.verdict
    return decision.backup.backup_id, word(verdict.value if verdict else "not yet"), "; ".join(decision.reasons)


def _total(decisions: Sequence[Decision]) -> str:
    count, size = len(decisions), sum(one.backup.stored_size for one in decisions)
    return f"{count} backup{'s' if count != 1 else ''} of {Size(size)}"
