"""``backup-guard run``: a command that makes backups by itself, guarded."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stdout

from rich.console import RenderableType

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, lines
from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.cli.progress import command_progress
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.alert_conditions import done_to_command
from airflow_backup_guard.core.backup import dump_plain
from airflow_backup_guard.core.command import GuardedCommand, check_options, check_words
from airflow_backup_guard.core.command_report import command_title, receipt_lines
from airflow_backup_guard.engine.alert_watch import alerting
from airflow_backup_guard.engine.command import Output, run_command
from airflow_backup_guard.engine.command_output import StreamOutput, file_output
from airflow_backup_guard.engine.priority import give_way
from airflow_backup_guard.repository.keys import check_key
from airflow_backup_guard.repository.open import open_repository

_DOING = "Ending the command; a second signal ends this at once, and the command is ended after that."


def run(arguments: argparse.Namespace) -> Answer:
    """Run the command; the exit status is its own."""
    dsn = settings.dsn(arguments)
    plan, repository_url, load_dsn = settings.plan_and_repository(arguments)
    if arguments.store is not None:
        check_key(arguments.store)
        if repository_url is None:
            raise WrongUse("--store needs a repository.", remedy=f"Give --repository, or set {settings.REPOSITORY}.")
    if arguments.output == "-" and arguments.json:
        raise WrongUse("--output - and --json both want stdout.", remedy="Give --output a file.")
    paces = arguments.output is not None or arguments.store is not None
    io_class = None if arguments.io_class == "none" else arguments.io_class
    max_stop, grace = check_options(arguments.max_stop, arguments.grace, arguments.nice, io_class)
    command = GuardedCommand(
        words=check_words(arguments.words),
        environment=dict(os.environ),
        paces_stdout=paces,
        max_stop=max_stop,
        grace=grace,
        nice=arguments.nice,
        io_class=io_class,
    )
    if paces:
        give_way()  # what the command writes goes through this process
    repository = open_repository(repository_url) if repository_url else None
    output = _output(arguments.output)
    with (
        stop_on_signals(_DOING) as stop,
        command_progress() as (show, write_line),
        redirect_stdout(sys.stderr),  # for what Airflow writes while a channel imports it
        alerting(plan, repository, done=done_to_command) as watch,
    ):
        receipt = run_command(
            plan,
            command,
            dsn,
            stop=stop,
            repository=repository,
            output=output,
            store=arguments.store,
            on_line=write_line,
            on_progress=show,
            on_load=watch.load,
            outside_window=arguments.outside_window,
            load_dsn=load_dsn,
        )
    text: list[RenderableType] = [command_title(receipt), "", lines(receipt_lines(receipt))]
    status = 1 if receipt.exit_status is None else receipt.exit_status
    return Answer(dump_plain(receipt), text, status == 0, status, aside=arguments.output == "-")


def _output(path: str | None) -> Output | None:
    if path is None:
        return None
    return StreamOutput(sys.stdout.buffer) if path == "-" else file_output(path)
