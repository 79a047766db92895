"""The command ``backup-guard``: watches the load, backs up, controls, lists, verifies, restores, with no Airflow."""

from __future__ import annotations

import argparse
import io
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
    as_json = "--json" in given  # known even where the rest cannot be parsed
    try:
        answer = _run(parser().parse_args(given))
        answer.show(as_json)
        sys.stdout.flush()
    except BackupGuardError as error:
        return _failed(error, as_json)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return BAD
    except BrokenPipeError:
        # Whoever read our output has enough of it; Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BAD
    return GOOD if answer.good else BAD


def _run(arguments: argparse.Namespace) -> Answer:
    # What a command needs is loaded for that command only: --help and wrong use answer at once.
    match arguments.command:
        case "check":
            from airflow_backup_guard.cli.check import run
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
        case "show":
            from airflow_backup_guard.cli.catalog import show as run
        case "running":
            from airflow_backup_guard.cli.control import show_running as run
        case "pause" | "resume" | "limit" | "stop":
            from airflow_backup_guard.cli.control import give_order as run
        case "verify":
            from airflow_backup_guard.cli.verify import run
        case _:
            from airflow_backup_guard.cli.restore import run
    return run(arguments)


def _failed(error: BackupGuardError, as_json: bool) -> int:
    message, remedy = without_secrets(error.message), without_secrets(error.remedy)
    if as_json:
        kind = type(error).__name__
        answer = {"type": kind, "message": message, "remedy": remedy, "retryable": error.retryable}
        print(json.dumps({"error": answer}, indent=2, ensure_ascii=False))
    else:
        for text in filter(None, [f"backup-guard: {message}", remedy]):
            print(_wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr)
    return WRONG_USE if isinstance(error, WrongUse | InvalidPlan) else BAD


def _wrapped(text: str) -> str:
    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines()
    )
