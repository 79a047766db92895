"""``backup-guard record-load`` and ``hours``: record the load for weeks, and learn from it when to back up."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Command, lines
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.cli.written import write_file
from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.hours_picture import hours_svg
from airflow_backup_guard.core.hours_report import HoursReport, heading, heat_map, legend
from airflow_backup_guard.core.load_history import LOAD_SIGNALS, LoadEntry
from airflow_backup_guard.core.quiet_hours import parse_share
from airflow_backup_guard.core.signals import signal_named
from airflow_backup_guard.core.units import parse_duration
from airflow_backup_guard.engine import catalog, load_history
from airflow_backup_guard.errors import BackupMissing
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.open import open_repository

# Shares of the peak; every number is there without its colour, too.
_STYLES = ((0.1, "black on green"), (0.25, "black on bright_green"), (0.6, "black on yellow"), (9e9, "white on red"))


def record_load(arguments: argparse.Namespace) -> Answer:
    """Record one entry."""
    dsn = settings.dsn(arguments)
    plan = settings.plan(arguments)
    seconds = parse_duration(arguments.watch, "--for").total_seconds()
    with stop_on_signals() as stop:
        entry = load_history.record(dsn, open_repository(plan.repository), plan.name, seconds=seconds, stop=stop)
    rows = [[signal_named(name).title, _shown(name, entry)] for name in LOAD_SIGNALS]
    if entry.backup:
        rows.append(["backup", "a guarded backup runs; its own load does not count"])
    text: list[RenderableType] = [f"Recorded for plan {plan.name} in {plan.repository}:", lines(rows)]
    if entry.unknown:
        text.append("The load is not known now, and these minutes will not count as quiet.")
    return Answer({"plan_name": plan.name, **entry.to_dict()}, text, not entry.unknown)


def hours(arguments: argparse.Namespace) -> Answer:
    """Show the week, propose windows, and hold those of the plan against the load."""
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    report = load_history.report(
        repository,
        plan.name,
        plan.calendar if arguments.plan is not None else _last_calendar(repository, plan.name),
        tz=arguments.tz,
        weeks=arguments.weeks,
        quiet_below=parse_share(arguments.quiet_below, "--quiet-below"),
        at_least=parse_duration(arguments.at_least, "--at-least"),
    )
    if report is None:
        why = f"No load of plan {plan.name} is recorded in {repository.url}."
        return Answer({"plan_name": plan.name, "entries": 0}, [why, "See backup-guard record-load --help."], False)
    text: list[RenderableType] = [report.about, "", *_heat_map(report), *legend(report), ""]
    for paragraph in report.windows():
        text += [paragraph, ""]
    *said, last = report.verdict()
    text += [*said, Command(last) if report.advice.calendar else last]
    if arguments.picture is not None:
        text += ["", write_file("--picture", arguments.picture, hours_svg(report), "picture")]
    return Answer(report.to_dict(), text, report.good)


def _last_calendar(repository: Repository, plan_name: str) -> OffPeakCalendar | None:
    """The windows under which the plan's newest backup was made."""
    try:
        record = catalog.find(repository, "latest", plan_name)
    except BackupMissing:
        return None
    return OffPeakCalendar.from_dict(record.snapshot.plan["calendar"])


def _heat_map(report: HoursReport) -> Iterator[RenderableType]:
    yield Text(heading(), style="bold", no_wrap=True)
    for day, row in heat_map(report):
        cells = ((hour.text, "" if hour.usual is None else _style(hour.usual)) for hour in row)
        yield Text.assemble(f"{day} ", *cells, no_wrap=True)


def _style(share: float) -> str:
    return next(style for limit, style in _STYLES if share <= limit)


def _shown(name: str, entry: LoadEntry) -> str:
    if name in entry.values:
        return signal_named(name).show(entry.values[name])
    return f"unknown ({entry.unavailable[name]})"
