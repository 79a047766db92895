"""``backup-guard verify``: is what is stored what was backed up?"""

from __future__ import annotations

import argparse
from collections import Counter

from rich.console import RenderableType

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, duration, lines, word
from airflow_backup_guard.cli.check import check_rows
from airflow_backup_guard.cli.progress import byte_progress
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.backup import dump_plain
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.core.verification import ObjectState, Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.repository.open import open_repository

_MEANINGS = {
    Verdict.VERIFIED: "verified: every byte is as it was written, and every file as PostgreSQL's manifest says.",
    Verdict.READABLE: "readable: every byte is as it was written. To look inside, give --identity FILE.",
    Verdict.DAMAGED: "DAMAGED: do not rely on it.",
    Verdict.UNKNOWN: "of unknown state: not all of it could be looked at, so do not rely on it.",
}


def run(arguments: argparse.Namespace) -> Answer:
    """Read one backup whole."""
    plan = settings.plan(arguments)
    identities = settings.identities(arguments.identity)
    repository = open_repository(plan.repository)
    record = catalog.find(repository, arguments.backup_id, settings.plan_name(arguments, plan))
    with stop_on_signals() as stop, byte_progress("verifying") as show:
        result = verify(record, repository, identities=identities, stop=stop, on_progress=show)
    object_rows: list[list[RenderableType]] = [
        [word(o.state.value), o.key, o.detail] for o in result.objects if o.state is not ObjectState.OK
    ]
    states = Counter(o.state.value for o in result.objects)
    text: list[RenderableType] = [
        f"Backup {record.backup_id} of plan {record.plan_name} is {_MEANINGS[result.verdict]}",
        "",
        lines(
            [
                ["read", f"{Size(result.bytes_read)} in {duration(result.seconds)}"],
                ["objects", ", ".join(f"{count} {state}" for state, count in states.items())],
                ["files", f"{result.files} as the manifest says"],
            ]
        ),
        "",
        lines([*object_rows, *check_rows(result.checks)]),
    ]
    document = {**dump_plain(result), "plan_name": record.plan_name, "problems": result.problems}
    return Answer(document, text, result.verdict is Verdict.VERIFIED)
