"""``backup-guard verify``: is what is stored what was backed up?"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, duration, lines, word
from airflow_backup_guard.cli.check import check_rows
from airflow_backup_guard.cli.progress import byte_progress
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.backup import dump_plain, parts_prefix
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.core.verification import ObjectState, ObjectVerdict, Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.repository.open import open_repository

_MOST_OBJECTS = 10
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
        *_object_rows(result.objects, parts_prefix(record.plan_name, record.backup_id)),
        lines(check_rows(result.checks)),
    ]
    document = {**dump_plain(result), "plan_name": record.plan_name, "problems": result.problems}
    return Answer(document, text, result.verdict is Verdict.VERIFIED)


def _object_rows(objects: Sequence[ObjectVerdict], prefix: str) -> Iterator[RenderableType]:
    wrong = [verdict for verdict in objects if verdict.state is not ObjectState.OK]
    if wrong:
        yield f"Not as it should be, under {prefix}:"
        yield lines(
            [word(verdict.state.value), Text.assemble(verdict.key.removeprefix(prefix), (f"\n{verdict.detail}", "dim"))]
            for verdict in wrong[:_MOST_OBJECTS]
        )
        if len(wrong) > _MOST_OBJECTS:
            yield f"  and {len(wrong) - _MOST_OBJECTS} more, which --json has"
        yield ""
