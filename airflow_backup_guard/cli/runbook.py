"""``backup-guard runbook``: how to get this very cluster back."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from rich.console import RenderableType

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Command, lines
from airflow_backup_guard.cli.written import write_file
from airflow_backup_guard.core.runbook.facts import Facts
from airflow_backup_guard.core.runbook.text import html, markdown
from airflow_backup_guard.engine import runbook
from airflow_backup_guard.repository.open import open_repository


def run(arguments: argparse.Namespace) -> Answer:
    """Write the runbook of one plan."""
    given = settings.plan(arguments)
    repository = open_repository(given.repository)
    plan = given if arguments.plan is not None else runbook.plan_of(repository, given.repository, arguments.plan_name)
    facts = runbook.gather(plan, repository)
    stored = runbook.store(facts, repository) if arguments.store else []
    written = [
        write_file(option, path, write(facts), "runbook")
        for option, path, write in (("--html", arguments.html, html), ("--markdown", arguments.markdown, markdown))
        if path is not None
    ]
    document = {
        "plan_name": plan.name,
        "good": not facts.gaps,
        "gaps": [{"message": gap.said, "remedy": gap.todo} for gap in facts.gaps],
        "backup_id": facts.backup and facts.backup.backup_id,
        "verified": facts.verified,
        "stored": stored,
        "markdown": markdown(facts),
    }
    told = [*written, *(f"It is kept in {repository.url} as {key}." for key in stored)]
    text = [*_summary(facts, told)] if written or stored else [Command(markdown(facts))]
    return Answer(document, text, not facts.gaps)


def _summary(facts: Facts, told: list[str]) -> Iterator[RenderableType]:
    yield from told
    if facts.gaps:
        yield from ("", "What is missing or wrong:", lines([str(gap)] for gap in facts.gaps))
