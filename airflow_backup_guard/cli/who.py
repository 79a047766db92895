"""``backup-guard who``: what backs up this database right now, since when, how fast, whose it is, how to stop it."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Command, lines
from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.rogue import Owner, RunningBackup, Sighting
from airflow_backup_guard.core.rogue_text import facts, how_to_stop, plain, title
from airflow_backup_guard.core.signals import SIGNALS
from airflow_backup_guard.core.signs import Certainty
from airflow_backup_guard.engine.watchdog import look_with_load
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.connection import describe
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.open import open_repository

# What a person looks at first, in this order.
_LOAD = ("commit_latency", "read_latency", "active_sessions", "io_waits", "lock_waits", "wal_rate", "commit_rate")
_STYLES = {Certainty.CERTAIN: "bold red", Certainty.LIKELY: "bold yellow", Certainty.POSSIBLE: "bold"}


def run(arguments: argparse.Namespace) -> Answer:
    """Look twice within a second, and at the load meanwhile."""
    dsn = settings.dsn(arguments)
    plan, repository, problem = _plan(arguments)
    sighting, load = asyncio.run(look_with_load(dsn, plan, repository))
    foreign = _foreign(sighting)
    document = {
        "server": describe(dsn),
        "at": sighting.at.isoformat(),
        "blind": list(sighting.blind),
        "backups": [
            {
                **plain(backup),
                "rogue": backup.rogue,
                "how_to_stop": [command for command, _ in how_to_stop(backup, sighting) if command],
            }
            for backup in sighting.backups
        ],
        "in_window": sighting.in_window if plan is not None else None,
        "load": dict(load.values),
        "works": list(sighting.works),
    }
    text: list[RenderableType] = [_verdict(sighting, foreign, describe(dsn)), ""]
    for backup in sighting.backups:
        text += [*_about(backup, sighting), ""]
    text += [Text("load", style="bold"), lines(_load(load, sighting))]
    if problem:
        text += ["", problem]
    return Answer(document, text, not foreign and not sighting.blind)


def _plan(arguments: argparse.Namespace) -> tuple[BackupPlan | None, Repository | None, str]:
    """Plan and repository as far as they are named. A repository that is away must not keep back the answer."""
    if not (arguments.plan or arguments.repository or os.environ.get(settings.REPOSITORY)):
        return None, None, ""
    found = settings.plan(arguments)
    plan = found if arguments.plan else None  # without a plan file there are no windows, and no rules
    try:
        return plan, open_repository(found.repository), ""
    except BackupGuardError as error:
        return plan, None, f"The repository cannot be asked whose backups these are: {error}"


def _foreign(sighting: Sighting) -> list[RunningBackup]:
    sure = [found for found in sighting.backups if found.certainty is not Certainty.POSSIBLE]
    return [found for found in sure if found.owner is not Owner.OURS]


def _verdict(sighting: Sighting, foreign: Sequence[RunningBackup], server: str) -> Text:
    if foreign:
        count = "A backup runs that is" if len(foreign) == 1 else f"{len(foreign)} backups run that are"
        named = ", ".join(title(found) + (", which the plan allows" if found.allowed else "") for found in foreign)
        verdict = f"{count} not ours, on {server}: {named}."
        style = "bold yellow" if all(found.allowed for found in foreign) else "bold red"
    elif sighting.blind:
        verdict, style = f"Whether a backup runs on {server} cannot be seen.", "bold yellow"
    elif any(found.owner is Owner.OURS for found in sighting.backups):
        verdict, style = f"Only our own backup runs on {server}, and it follows the load.", "bold green"
    elif sighting.backups:
        verdict, style = f"Nothing on {server} is surely a backup; what might be one is below.", "bold yellow"
    else:
        verdict, style = f"No backup runs on {server}: its load is not a backup.", "bold green"
    blind = "".join(f"\n{reason}" for reason in sighting.blind)
    return Text.assemble((verdict, style), blind)


def _about(backup: RunningBackup, sighting: Sighting) -> Iterator[RenderableType]:
    yield Text(title(backup), style=_STYLES[backup.certainty])
    yield lines(facts(backup, sighting.at))
    yield "  to stop it:"
    for command, does in how_to_stop(backup, sighting):
        if command:
            yield Command(f"    {command}")
        yield lines([("  " if command else "", Text(does, style="dim"))])


def _load(load: LoadSample, sighting: Sighting) -> Iterator[tuple[str, str]]:
    for name in _LOAD:
        if name in load.values:
            yield SIGNALS[name].title, SIGNALS[name].show(load.values[name])
        elif name not in load.absent:
            yield SIGNALS[name].title, f"unknown ({load.unavailable.get(name, load.missing)})"
    yield "also at work", ", ".join(sighting.works) or "no VACUUM, ANALYZE, CREATE INDEX or COPY FROM"
