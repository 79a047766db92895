"""``backup-guard verify``: is what is stored what was backed up?"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Column, FittingTable, duration, lines, word
from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.cli.progress import byte_progress
from airflow_backup_guard.cli.rows import check_rows, level_rows
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.backup import BackupRecord, dump_plain, parts_prefix
from airflow_backup_guard.core.units import Rate, Size, parse_duration
from airflow_backup_guard.core.verification import Level, ObjectState, ObjectVerdict, Verdict, Verification
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.runbook import keep_runbook
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, ObjectMissing, RestoreRefused
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.open import open_repository

_MOST_OBJECTS = 10
_MEANINGS = {
    Verdict.VERIFIED: "verified: every byte is as it was written, and every file as PostgreSQL's manifest says.",
    Verdict.READABLE: "readable: every byte is as it was written.",
    Verdict.DAMAGED: "DAMAGED: do not rely on it.",
    Verdict.UNKNOWN: "of unknown state: not all of it was read, so do not rely on it.",
}


def run(arguments: argparse.Namespace) -> Answer:
    """Verify one backup, or all."""
    if arguments.all == (arguments.backup_id is not None):
        raise WrongUse("Which backup?", remedy='Give an id as "backup-guard list" shows it, "latest", or --all.')
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    name = settings.plan_name(arguments, plan)
    options: dict[str, Any] = {
        "level": Level(arguments.wanted_level),
        "max_age": None if arguments.full else parse_duration(arguments.max_age, "--max-age"),
        "max_rate": Rate.parse(arguments.read_rate, "--max-rate") if arguments.read_rate else None,
        "identities": settings.identities(arguments.identity),
    }
    with stop_on_signals() as stop:
        if arguments.all:
            answer = _all(repository, name, stop, options)
            names = sorted({verified for verified, _ in catalog.ids(repository, name)})
        else:
            record = catalog.find(repository, arguments.backup_id, name)
            answer = _one(record, repository, stop, options)
            names = [record.plan_name]
    for one in names:
        kept = keep_runbook(repository, one, plan if arguments.plan is not None else None)
        if not kept.good:
            print(kept.said, file=sys.stderr)
    return answer


def _one(record: BackupRecord, repository: Repository, stop: Stop, options: dict[str, Any]) -> Answer:
    with byte_progress("verifying") as show:
        result = verify(record, repository, stop=stop, on_progress=show, **options)
    states = Counter(o.state.value for o in result.objects)
    text: list[RenderableType] = [
        f"Backup {record.backup_id} of plan {record.plan_name} is {_meaning(result)}",
        "",
        lines(level_rows(result)),
        "",
        lines(
            [
                ["read", f"{Size(result.bytes_read)} in {duration(result.seconds)}{_not_again(record, result)}"],
                ["objects", ", ".join(f"{count} {state}" for state, count in states.items())],
            ]
        ),
        "",
        *_object_rows(result.objects, parts_prefix(record.plan_name, record.backup_id)),
        lines(check_rows(result.checks)),
    ]
    return Answer(_document(record, result), text, _is_good(result, options["level"]))


def _all(repository: Repository, name: str | None, stop: Stop, options: dict[str, Any]) -> Answer:
    results: list[tuple[BackupRecord, Verification]] = []
    unreadable: list[BackupGuardError] = []
    found = list(catalog.ids(repository, name))
    for number, (plan, backup_id) in enumerate(found, 1):
        try:
            record = catalog.record_of(repository, plan, backup_id)
        except ObjectMissing:
            continue  # somebody removed it just now
        except BackupDamaged as error:
            unreadable.append(error)
            continue
        with byte_progress(f"verifying {number}/{len(found)}") as show:
            try:
                results.append((record, verify(record, repository, stop=stop, on_progress=show, **options)))
            except RestoreRefused as error:
                unreadable.append(error)  # each backup may have been encrypted to other keys
    wrong = [(record, result) for record, result in results if not _is_good(result, options["level"])]
    text: list[RenderableType] = [_table(results) if results else f"{repository.url} has no backup to verify."]
    for record, result in wrong:
        text += ["", f"Backup {record.backup_id} of plan {record.plan_name}:"]
        text.append(lines([problem] for problem in result.problems[:_MOST_OBJECTS] or ["not all of it was read"]))
    if unreadable:
        text += ["", "Unreadable:", lines([Text.assemble(e.message, (f"\n{e.remedy}", "dim"))] for e in unreadable)]
    document = {
        "repository": repository.url,
        "verifications": [_document(record, result) for record, result in results],
        "unreadable": [{"message": error.message, "remedy": error.remedy} for error in unreadable],
    }
    return Answer(document, text, not wrong and not unreadable)


def _is_good(result: Verification, wanted: Level) -> bool:
    return result.verdict is not Verdict.DAMAGED and result.reaches(wanted)


def _meaning(result: Verification) -> str:
    if any(found.state is ObjectState.LOCKED for found in result.objects) and result.verdict is Verdict.READABLE:
        return f"{_MEANINGS[Verdict.READABLE]} To look inside, give --identity FILE."
    if result.verdict is Verdict.UNKNOWN and result.level is Level.STORED:
        return "stored: every object is there, of the size that was written. It was not read."
    return _MEANINGS[result.verdict]


def _not_again(record: BackupRecord, result: Verification) -> str:
    if result.bytes_read >= record.stored_size or result.read_at is None:
        return ""
    age = duration(max((result.verified_at - result.read_at) / timedelta(seconds=1), 0))
    return f"; the oldest reading is {age} old, and --full reads all of it again"


def _document(record: BackupRecord, result: Verification) -> dict[str, Any]:
    return {
        **dump_plain(result),
        "plan_name": record.plan_name,
        "level": result.level.value if result.level else None,
        "problems": result.problems,
    }


def _table(results: Sequence[tuple[BackupRecord, Verification]]) -> FittingTable:
    return FittingTable(
        [
            Column("BACKUP", [record.backup_id for record, _ in results]),
            Column("PLAN", [record.plan_name for record, _ in results], rank=3),
            Column("VERDICT", [result.verdict.value for _, result in results]),
            Column("LEVEL", [result.level.value if result.level else "none" for _, result in results], rank=1),
            Column("STORED", [str(Size(record.stored_size)) for record, _ in results], rank=4, right=True),
            Column("READ", [str(Size(result.bytes_read)) for _, result in results], rank=2, right=True),
        ]
    )


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
