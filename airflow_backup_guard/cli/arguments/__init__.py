"""The options of ``backup-guard``, and help that needs no other documentation."""

from __future__ import annotations

from airflow_backup_guard import __version__
from airflow_backup_guard.cli.arguments import (
    alerts,
    audit,
    backups,
    command,
    control,
    drill,
    fleet,
    load,
    retention,
    runbook,
)
from airflow_backup_guard.cli.arguments.shared import Parser

__all__ = ["parser"]

_ABOUT = """\
Back up a whole PostgreSQL cluster without hurting it, read the backup back,
and restore it.

The copy slows down or pauses while the database's own commits are slow, and
leaves nothing behind in the database, whatever becomes of it. Nothing here
needs Airflow to run.
"""
_EXAMPLES = """\
environment:
  BACKUP_GUARD_DSN         in place of --dsn, so that no password shows in the
                           list of processes; libpq's own PGHOST, PGPASSWORD,
                           ~/.pgpass and so on work, too
  BACKUP_GUARD_LOAD_DSN    in place of --load-dsn
  BACKUP_GUARD_REPOSITORY  in place of --repository

exit status:
  0  good      1  the answer is bad, or it failed      2  wrong use
  of "run" that of its command; see backup-guard run --help

example:
  export BACKUP_GUARD_DSN='host=db.example user=guard'
  export BACKUP_GUARD_REPOSITORY=file:///srv/backups
  backup-guard check
  backup-guard backup
  backup-guard verify latest
  backup-guard restore latest --to /srv/restored
"""


def parser() -> Parser:
    """The parser; what it returns has ``command``, ``json`` and what that command takes."""
    top = Parser(prog="backup-guard", description=_ABOUT, epilog=_EXAMPLES)
    top.add_argument("--version", action="version", version=f"airflow-backup-guard {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for family in (load, backups, fleet, drill, retention, command, control, alerts, audit, runbook):
        family.add(commands)
    return top
