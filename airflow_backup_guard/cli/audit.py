"""``backup-guard audit``: is what was promised so? And are the audits that are kept those that were made?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, lines, word
from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.cli.written import write_file
from airflow_backup_guard.core.audit.examine import parse_accepted
from airflow_backup_guard.core.audit.html import html
from airflow_backup_guard.core.audit.report import NO_PLANS, markdown, ordered, state, title_of, verdict_line
from airflow_backup_guard.core.audit.values import AcceptedRisk, Finding
from airflow_backup_guard.core.backup import dump_plain
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.units import parse_duration
from airflow_backup_guard.engine.audit import Audited, Subject, audit, audited_plans, chain
from airflow_backup_guard.engine.audit_evidence import newest_plans
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.open import open_repository


def run(arguments: argparse.Namespace) -> Answer:
    """Audit, or look at the audits that there are."""
    if arguments.verify_chain:
        return _verify_chain(arguments)
    if arguments.expect:
        raise WrongUse("--expect is about audits that are stored.", remedy="Give --verify-chain, too.")
    now = datetime.now(timezone.utc)
    start = now - parse_duration(arguments.period, "--period")
    accepted = _accepted(arguments.accept)
    plans = _plans(arguments)
    made = audit(_subjects(arguments, plans), start=start, accepted=accepted, now=now)
    audits = [one.audit for one in made]
    written = [
        write_file(option, path, write(audits), "report")
        for option, path, write in (("--html", arguments.html, html), ("--markdown", arguments.markdown, markdown))
        if path is not None
    ]
    document = {
        "good": bool(made) and all(one.good for one in made),
        "title": title_of(audits),
        "audits": [_document(one) for one in made],
    }
    return Answer(document, [*_text(made), *written], document["good"] is True)


def _plans(arguments: argparse.Namespace) -> list[BackupPlan]:
    if not arguments.plans:
        given = settings.plan(_as_one(arguments, None))
        found = newest_plans(open_repository(given.repository), given.repository)
        return [plan for plan in found if arguments.plan_name in (None, plan.name)]
    plans = [settings.plan(_as_one(arguments, path)) for path in arguments.plans]
    names = [plan.name for plan in plans]
    for name in names:
        if names.count(name) > 1:
            raise WrongUse(f"Two plan files have the name {name}.", remedy="Give each plan once.")
    return plans


def _as_one(arguments: argparse.Namespace, path: Path | None) -> argparse.Namespace:
    """The arguments as a command of one plan has them; a name chooses among the plans of a repository only."""
    return argparse.Namespace(repository=arguments.repository, plan=path)


def _subjects(arguments: argparse.Namespace, plans: Sequence[BackupPlan]) -> list[Subject]:
    named = dict(_dsn_of(text) for text in arguments.dsn_of)
    if strangers := sorted(set(named) - {plan.name for plan in plans}):
        raise WrongUse(f"No plan {strangers[0]} is audited.", remedy="Correct --dsn-of.")
    given = arguments.dsn is not None or settings.DSN in os.environ
    if given and len(plans) > 1:
        raise WrongUse("One connection is given, and several plans.", remedy="Give --dsn-of PLAN=DSN for each.")
    if given and plans:
        named.setdefault(plans[0].name, settings.dsn(arguments))
    return [Subject(plan, _opening(plan), _connecting(named.get(plan.name))) for plan in plans]


def _dsn_of(text: str) -> tuple[str, str]:
    name, equals, dsn = text.partition("=")
    if not equals or not name:
        raise WrongUse("--dsn-of needs a plan and a connection.", remedy="Such as --dsn-of shop='host=db.example'.")
    return name, settings.dsn(argparse.Namespace(dsn=dsn))


def _opening(plan: BackupPlan) -> Callable[[], Repository]:
    return lambda: open_repository(plan.repository)


def _connecting(dsn: str | None) -> Callable[[], str | None]:
    return lambda: dsn


def _accepted(path: Path | None) -> tuple[AcceptedRisk, ...]:
    if path is None:
        return ()
    values = settings.read_toml(path, "--accept")
    if set(values) != {"accepted"}:
        raise WrongUse(f"{path} has other things than [[accepted]].", remedy="See backup-guard audit --help.")
    return parse_accepted(values["accepted"])


def _document(one: Audited) -> dict[str, Any]:
    about = {"good": one.good, "key": one.key, "sha256": one.sha256, "problem": one.problem}
    return {**about, **dump_plain(one.audit)}


def _text(made: Sequence[Audited]) -> Iterator[RenderableType]:
    if not made:
        yield NO_PLANS
    for one in made:
        yield f"Plan {one.audit.plan_name}. {verdict_line(one.audit)}"
        yield lines(_row(finding) for finding in ordered(one.audit.findings))
        if one.problem:
            yield one.problem
        else:
            yield f"Stored as {one.key}. Keep its SHA-256 elsewhere: {one.sha256}"
        yield ""
    yield f"{title_of([one.audit for one in made])}."


def _row(finding: Finding) -> list[RenderableType]:
    remedy = finding.remedy if finding.is_problem else f"Accepted by {finding.accepted}" if finding.accepted else ""
    more = Text(f"\n{remedy}" if remedy else "", style="dim")
    shown = word(state(finding).split(" (")[0].split(",")[0])
    return [finding.check, shown, Text.assemble(f"{finding.title}. {finding.said}{_changed(finding)}", more)]


def _changed(finding: Finding) -> str:
    return f" ({finding.change.value})" if finding.change is not None else ""


def _verify_chain(arguments: argparse.Namespace) -> Answer:
    if arguments.plans:
        plans = _plans(arguments)
        places = [(plan.name, open_repository(plan.repository)) for plan in plans]
    else:
        repository = open_repository(settings.plan(_as_one(arguments, None)).repository)
        names = [arguments.plan_name] if arguments.plan_name else audited_plans(repository)
        places = [(name, repository) for name in names]
    if arguments.expect and len(places) > 1:
        raise WrongUse("One digest is expected, and there are several plans.", remedy="Give --plan-name.")
    results = [chain(repository, name, arguments.expect) for name, repository in places]
    good = bool(results) and all(result.audits and not result.problems for result in results)
    text: list[RenderableType] = [] if results else ["No audit is stored there."]
    for result in results:
        if result.problems or not result.audits:
            text.append(f"The audits of plan {result.plan_name} are not those that were made:")
            text.append(lines([problem] for problem in result.problems or ("there is none.",)))
        else:
            text.append(f"Plan {result.plan_name}: {result.audits} audits, each as it was made. SHA-256 of the newest:")
            text.append(f"  {result.sha256}")
    return Answer({"good": good, "chains": [dump_plain(result) for result in results]}, text, good)
