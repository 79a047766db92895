"""``backup-guard backup``: the snapshot, the throttled copy, and the report."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Command, lines
from airflow_backup_guard.cli.progress import copy_progress
from airflow_backup_guard.cli.record import summary
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.pace import PaceState
from airflow_backup_guard.core.report import record_lines
from airflow_backup_guard.engine.alert_watch import alerting
from airflow_backup_guard.engine.copy import Progress, copy
from airflow_backup_guard.engine.priority import give_way
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.repository.open import open_repository


def run(arguments: argparse.Namespace) -> Answer:
    """Back up the cluster, unless it is the wrong time."""
    dsn, (plan, load_dsn) = settings.dsn(arguments), settings.plan_with_load(arguments)
    repository = open_repository(plan.repository)
    slowed: dict[str, str] = {}
    give_way()
    with (
        stop_on_signals() as stop,
        copy_progress(plan.checkpoint) as show,
        redirect_stdout(sys.stderr),  # for what Airflow writes while a channel imports it
        alerting(plan, repository) as watch,
    ):
        snapshot = take_snapshot(plan, dsn, repository, outside_window=arguments.outside_window, load_dsn=load_dsn)
        record = copy(
            plan,
            snapshot,
            dsn,
            repository,
            stop=stop,
            on_progress=_each(_remembering(slowed), show, watch.progress),
            on_load=watch.load,
            outside_window=arguments.outside_window,
            load_dsn=load_dsn,
        )
    where = f"--repository {shlex.quote(plan.repository)}"
    identity = " --identity FILE" if plan.recipients else ""
    verify = f"backup-guard verify {record.backup_id} {where}{identity}"
    restore = f"backup-guard restore {record.backup_id} --to DIR {where}{identity}"
    document = {
        **summary(record),
        "throttle_reasons": list(slowed.values()),
        "commands": {"verify": verify, "restore": restore},
    }
    text = [
        f"Backup {record.backup_id} of plan {plan.name} is stored in {repository.url}.",
        "",
        lines(_report(record, slowed)),
        "",
        "Read it back before you rely on it, and restore it, with:",
        Command(f"  {verify}"),
        Command(f"  {restore}"),
    ]
    return Answer(document, text)


def _each(*listeners: Callable[[Progress], None]) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        for listener in listeners:
            listener(progress)

    return on_progress


def _remembering(slowed: dict[str, str]) -> Callable[[Progress], None]:
    """Keeps the first reason of each kind for not running at full rate in ``slowed``."""

    def on_progress(progress: Progress) -> None:
        if progress.pace.state is not PaceState.RUNNING:
            # Reasons of one kind differ in the value that was measured.
            slowed.setdefault(re.split(r"\d", progress.pace.reason)[0], progress.pace.reason)

    return on_progress


def _report(record: BackupRecord, slowed: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in record_lines(record):
        yield name, value
        if name == "throttled":
            yield from (("", f"slowed down for: {reason}") for reason in slowed.values())
