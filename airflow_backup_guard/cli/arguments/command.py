"""The options of run, which guards a command that makes backups by itself, and its exit statuses."""

from __future__ import annotations

from airflow_backup_guard.cli.arguments import shared
from airflow_backup_guard.errors import (
    BackupGuardError,
    BackupStopped,
    BudgetSpent,
    CommandNotExecutable,
    CommandNotFound,
)

_BUDGET, _OURS, _NOT_EXECUTABLE, _NOT_FOUND, _STOPPED = 124, 125, 126, 127, 143
_RUN = """\
Run any command that makes backups (pgBackRest, Barman, pg_dump, a script), and
hold it to what the load of the database allows. Where that load is high, the
command runs for a share of the time only: its processes are stopped and
continued in turn. With --output or --store its stdout is passed on at a rate
instead, from min_rate to max_rate of the plan.

Its log goes to stderr, line by line, without the passwords that we know of. If
the guard dies, even by kill -9, the command is ended. The report says what the
commits of the database felt.

The command may start at any time, unless --plan has a calendar.
"""
_EXAMPLES = """\
exit status:
  that of the command, 128 + n if signal n ended it; and of the guard itself
  124  it ended the command: its window, max_pause or max_duration is over
  125  it failed, or refused: wrong use, outside of the window, processes that
       the command left behind
  126  the command cannot be run            127  the command is not found
  143  the guard was stopped, and ended the command

example:
  backup-guard run --dsn 'host=db.example user=guard' -- \\
      pgbackrest --stanza=shop backup
  backup-guard run --dsn 'host=db.example user=guard' --output shop.dump -- \\
      pg_dump --format=custom --dbname=shop
"""


def add(commands: shared.Commands) -> None:
    """Add this command."""
    command = shared.command(commands, "run", "guard a command that makes backups", _RUN)
    command.usage = "backup-guard run [options] -- CMD ..."
    command.epilog = _EXAMPLES
    shared.database(command)
    shared.load(command)
    shared.repository(command)
    command.add_argument("--plan-name", metavar="NAME", help='what the cluster is called in the repository ("default")')
    command.add_argument("--max-rate", metavar="RATE", help="the most that --output or --store take (100MB/s)")
    command.add_argument("--min-rate", metavar="RATE", help="what that falls to under load (1MB/s)")
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--output", metavar="FILE", help="where its stdout goes, once it has succeeded; - for ours, at once"
    )
    where.add_argument("--store", metavar="NAME", help="store its stdout in the repository by this name")
    command.add_argument("--max-stop", metavar="TIME", default="10s", help="the longest that it stands still (10s)")
    command.add_argument("--grace", metavar="TIME", default="3s", help="from SIGTERM to SIGKILL, to end it (3s)")
    command.add_argument("--nice", type=int, metavar="N", default=10, help="its niceness, 0 to 19 (10)")
    command.add_argument(
        "--io-class",
        choices=("best-effort", "idle", "none"),
        default="best-effort",
        help="its place at the disk: behind others (best-effort), only when nobody else is there, or as it is",
    )
    command.add_argument("--outside-window", action="store_true", help="start now, even outside of the plan's calendar")
    command.add_argument("words", nargs="+", metavar="CMD", help="the command and its arguments, after --")


def status_of(error: BackupGuardError) -> int:
    """The exit status for what kept the command from ending by itself."""
    match error:
        case BackupStopped():
            return _STOPPED
        case BudgetSpent():
            return _BUDGET
        case CommandNotFound():
            return _NOT_FOUND
        case CommandNotExecutable():
            return _NOT_EXECUTABLE
    return _OURS
