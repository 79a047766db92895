"""The command ``backup-guard``: watches, backs up, runs, lists, verifies, restores, expires, with no Airflow."""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_backup_guard.cli.arguments import parser
from airflow_backup_guard.cli.errors import WrongUse, without_secrets
from airflow_backup_guard.errors import BackupGuardError, InvalidPlan

if TYPE_CHECKING:
    from airflow_backup_guard.cli.answer import Answer

GOOD, BAD, WRONG_USE = 0, 1, 2
"""The exit statuses."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, with ``sys.argv`` by default; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without UTF-8, or a path that is none, must not be what ends a backup badly.
            stream.reconfigure(errors="backslashreplace")
    # Known even where the rest cannot be parsed; after -- it is a command's own.
    as_json = "--json" in itertools.takewhile(lambda word: word != "--", given)
    try:
        answer = _run(parser().parse_args(given))
        answer.show(as_json)
        sys.stdout.flush()
    except BackupGuardError as error:
        _show_failure(error, as_json)
        return _status_of(error, [*given, ""][0])
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return BAD
    except BrokenPipeError:
        # Whoever read our output has enough of it; Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BAD
    if answer.status is not None:
        return answer.status
    return GOOD if answer.good else BAD


def _run(arguments: argparse.Namespace) -> Answer:
    # What a command needs is loaded for that command only: --help and wrong use answer at once.
    match arguments.command:
        case "check":
            from airflow_backup_guard.cli.check import run
        case "who":
            from airflow_backup_guard.cli.who import run
        case "record-load":
            from airflow_backup_guard.cli.hours import record_load as run
        case "hours":
            from airflow_backup_guard.cli.hours import hours as run
        case "tune":
            from airflow_backup_guard.cli.tune import run
        case "backup":
            from airflow_backup_guard.cli.backup import run
        case "list":
            from airflow_backup_guard.cli.catalog import list_backups as run
        case "status":
            from airflow_backup_guard.cli.fleet import run
        case "show":
            from airflow_backup_guard.cli.catalog import show as run
        case "running":
            from airflow_backup_guard.cli.control import show_running as run
        case "pause" | "resume" | "limit" | "stop":
            from airflow_backup_guard.cli.control import give_order as run
        case "run":
            from airflow_backup_guard.cli.command import run
        case "alert":
            from airflow_backup_guard.cli.alert import run
        case "audit":
            from airflow_backup_guard.cli.audit import run
        case "runbook":
            from airflow_backup_guard.cli.runbook import run
        case "drill":
            from airflow_backup_guard.cli.drill import run
        case "expire":
            from airflow_backup_guard.cli.expire import run
        case "hold":
            from airflow_backup_guard.cli.hold import hold as run
        case "release":
            from airflow_backup_guard.cli.hold import release as run
        case "verify":
            from airflow_backup_guard.cli.verify import run
        case _:
            from airflow_backup_guard.cli.restore import run
    return run(arguments)


def _show_failure(error: BackupGuardError, as_json: bool) -> None:
    message, remedy = without_secrets(error.message), without_secrets(error.remedy)
    if as_json:
        kind = type(error).__name__
        answer = {"type": kind, "message": message, "remedy": remedy, "retryable": error.retryable}
        print(json.dumps({"error": answer}, indent=2, ensure_ascii=False))
    else:
        for text in filter(None, [f"backup-guard: {message}", remedy]):
            print(_wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr)


def _status_of(error: BackupGuardError, command: str) -> int:
    if command == "run":
        # The statuses of a command that is run for somebody are its own, so ours keep out of its way.
        from airflow_backup_guard.cli.arguments.command import status_of

        return status_of(error)
    return WRONG_USE if isinstance(error, WrongUse | InvalidPlan) else BAD


def _wrapped(text: str) -> str:
    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines()
    )
