"""``backup-guard drill``: would a restore of this backup work, and how long would it take?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from rich.console import RenderableType

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, duration, lines
from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.cli.progress import byte_progress
from airflow_backup_guard.cli.rows import check_rows
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.backup import BackupRecord, dump_plain
from airflow_backup_guard.core.drill import DrillResult
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.drill import drill
from airflow_backup_guard.engine.priority import give_way
from airflow_backup_guard.engine.runbook import keep_runbook
from airflow_backup_guard.repository.open import open_repository

_DOING = {"recovery": "starting PostgreSQL on it", "checks": "looking at it"}


def run(arguments: argparse.Namespace) -> Answer:
    """Drill one backup."""
    identities = settings.identities(arguments.identity)
    given = settings.plan(arguments)
    repository = open_repository(given.repository)
    record = catalog.find(repository, arguments.backup_id, settings.plan_name(arguments, given))
    if not identities and any(part.key.endswith(".age") for part in record.parts):
        raise WrongUse(
            f"Backup {record.backup_id} is encrypted.", remedy="Give --identity FILE with its age secret key."
        )
    plan = given if arguments.plan is not None else BackupPlan.from_dict(record.snapshot.plan)
    kept: list[str] = []
    give_way()
    with stop_on_signals() as stop, byte_progress("restoring") as show:
        result = drill(
            plan,
            record,
            repository,
            scratch=arguments.scratch,
            identities=identities,
            stop=stop,
            on_progress=show,
            on_stage=_tell,
            on_kept=(lambda data: kept.append(str(data))) if arguments.keep else None,
        )
    runbook = keep_runbook(repository, record.plan_name, given if arguments.plan is not None else None)
    document = {
        **dump_plain(result),
        "problems": result.problems,
        "kept": kept[0] if kept else None,
        "runbook": runbook.said,
    }
    return Answer(document, [*_text(result, record, kept), "", runbook.said], result.passed)


def _tell(stage: str) -> None:
    if stage in _DOING and not sys.stderr.isatty():
        print(_DOING[stage], file=sys.stderr, flush=True)


def _text(result: DrillResult, record: BackupRecord, kept: list[str]) -> Iterator[RenderableType]:
    verdict = "passed its drill" if result.passed else "FAILED its drill"
    yield f"Backup {record.backup_id} of plan {record.plan_name} {verdict}, on {result.server}."
    yield ""
    reached = "never: the server did not answer" if result.rto_seconds is None else duration(result.rto_seconds)
    rows = [[stage.name, duration(stage.seconds)] for stage in result.stages]
    yield lines([*rows, ["achieved RTO", reached], ["achieved RPO", duration(max(result.rpo_seconds, 0))]])
    yield ""
    yield lines(check_rows(result.checks))
    for data in kept:
        yield ""
        yield f"What was restored is in {data}: remove the folder that it is in once you are done."
        yield "Started as it is, it takes its own settings again, its archiving among them: see postgresql.conf first."
