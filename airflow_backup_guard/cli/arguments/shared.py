"""What several commands have in common: how they are made, and the options that they share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from airflow_backup_guard.cli.errors import WrongUse


class Parser(argparse.ArgumentParser):
    """Says what is wrong by raising, so that ``--json`` covers wrong use, too."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise :class:`WrongUse`."""
        raise WrongUse(f"{message[:1].upper()}{message[1:]}.", remedy=f"See {self.prog} --help.")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def command(commands: Commands, name: str, title: str, about: str, example: str = "") -> Parser:
    """One command: ``title`` is its line in the list of all, ``about`` and ``example`` are its help."""
    epilog = f"example:\n  backup-guard {example}"
    command: Parser = commands.add_parser(name, help=title, description=about, epilog=epilog)
    command.add_argument("--json", action="store_true", help="answer with one JSON document on stdout")
    return command


def database(command: Parser) -> None:
    """Which database."""
    command.add_argument(
        "--dsn", help="how to connect, as libpq has it: 'host=... user=...' or postgresql://... ($BACKUP_GUARD_DSN)"
    )


def load(command: Parser) -> None:
    """Which other database's load counts."""
    command.add_argument(
        "--load-dsn",
        help="where --dsn is a standby: how to connect to its primary, for limits on its load ($BACKUP_GUARD_LOAD_DSN)",
    )


def repository(command: Parser) -> None:
    """Which repository, and which plan."""
    command.add_argument(
        "--repository", metavar="URL", help="file:///absolute/path or s3://bucket/prefix ($BACKUP_GUARD_REPOSITORY)"
    )
    command.add_argument("--plan", type=Path, metavar="FILE", help="plan file, TOML; see backup-guard backup --help")


def plan_name(command: Parser) -> None:
    """Only what is of one plan."""
    command.add_argument("--plan-name", metavar="NAME", help="only backups of this plan")


def one_backup(command: Parser, default: str | None = None) -> None:
    """Which backup; ``default`` if none is named."""
    optional: dict[str, Any] = {"nargs": "?", "default": default} if default else {}
    command.add_argument("backup_id", metavar="BACKUP_ID", help='as "list" shows it, or "latest"', **optional)
    repository(command)
    plan_name(command)


def identity(command: Parser) -> None:
    """What to decrypt with."""
    command.add_argument("--identity", type=Path, metavar="FILE", help="age secret keys, as age-keygen writes them")
