"""The options of ``backup-guard``, and help that needs no other documentation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from airflow_backup_guard import __version__
from airflow_backup_guard.cli.errors import WrongUse

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

example:
  export BACKUP_GUARD_DSN='host=db.example user=guard'
  export BACKUP_GUARD_REPOSITORY=file:///srv/backups
  backup-guard check
  backup-guard backup
  backup-guard verify latest
  backup-guard restore latest --to /srv/restored
"""
_CHECK = """\
Ask the database, and the repository if one is named, everything that a backup
depends on: privileges, settings, free connections, other backups under way,
space. Each answer comes with what to do about it. The database is not changed;
in the repository a small object is written and removed.
"""
_TUNE = """\
Watch the load of a database for a while, and propose limits for its plan that
it does not reach by itself. No backup is made, and nothing is changed.

A plan works without them: the copy follows the commits. Limits are guard rails
for what no application should meet. Watch the hours that matter, at best a
whole busy day; Ctrl-C ends it early.
"""
_RECORD_LOAD = """\
Measure the load of a database for some seconds, and keep it in the repository,
half a year at most. Run it every five minutes (cron, or the Airflow operator):
after two weeks "hours" can tell the quiet ones.

The exit status is 1 if the load could not be measured. That is kept as well:
what is not known never counts as quiet.
"""
_HOURS = """\
Show the week as the recorded load shows it, propose windows in which it was
quiet in every week, with the evidence, and say how sure that is. Windows of
the plan (of --plan, or else of its newest backup) are held against the load
of the last three weeks.

The exit status is 1 if windows of the plan are not quiet.
"""
_BACKUP = """\
Check, then copy the whole cluster into the repository at a rate that follows
the load of the database, and report what its commits felt. A backup that is
stopped or fails removes what it stored.

What is promised can be kept in a plan file; options go above it. Without one,
a backup may start at any time.
"""
_BACKUP_EXAMPLES = """\
example:
  backup-guard backup --dsn 'host=db.example user=guard' \\
      --repository s3://bucket/prefix --max-rate 50MB/s

example of a plan file, for backup-guard backup --plan shop.toml:
  name = "shop"
  repository = "s3://bucket/prefix"
  max_rate = "100MB/s"       # what is read at most, and below it
  min_rate = "1MB/s"         # what that falls to when the database is loaded
  checkpoint = "spread"      # or "fast": at once, with a burst of I/O
  compression_level = 3      # of zstd, 1 (fast) to 19 (small)
  recipients = []            # age public keys to encrypt to

  [calendar]                 # when a backup may start
  windows = "Mon-Fri 01:00-05:00; Sat,Sun 00:00-08:00"
  tz = "America/Los_Angeles"

  [limits]                   # above the first slow down, the second pause
  commit_latency = ["20ms", "100ms"]
"""
_LIST = """\
Show the backups that are whole, and whether each was read back (VERIFIED).
"""
_SHOW = """\
Show everything about one backup: its cluster, its copy, what commits felt, and
its plan.
"""
_VERIFY = """\
Read every stored byte of a backup, and hold it against the backup's record,
PostgreSQL's own manifest, and the WAL that a restore needs. The result is
stored beside the backup.

The exit status is 0 only for "verified". A backup that is encrypted needs
--identity for that, and is at best "readable" without.
"""
_RUNNING = """\
Show the backups that have begun and not ended, and the orders that are in
force for each. One whose worker died is shown as well, until the next backup
of its cluster: only the answer to an order proves that a copy lives.
"""
_PAUSE = """\
Let a copy that runs only trickle, at its plan's min_rate, until "resume". It
does not stop reading for good, as the server would cut it off.
"""
_RESUME = """\
Take back "pause": the copy reads as fast again as the load of the database
allows. A pause for the load itself is not taken back: that ends with the load.
"""
_LIMIT = """\
Let a copy that runs read no faster than RATE, from its plan's min_rate to its
max_rate, and slower where the load demands it; "none" takes that back.
"""
_STOP = """\
End a copy that runs, and remove what it stored. The database is rid of it
within two seconds. If Airflow retries the task, that try begins anew.
"""
_ORDER = """
The order goes through the repository, from any machine that can write there,
and is obeyed within two seconds. The exit status is 0 once the copy says so.
"""
_RESTORE = """\
Write a backup into an empty folder, check each file meanwhile, and say how to
start PostgreSQL on it. Nothing is ever overwritten, and what a failed restore
wrote is removed again.
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong by raising, so that ``--json`` covers wrong use, too."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise :class:`WrongUse`."""
        raise WrongUse(f"{message[:1].upper()}{message[1:]}.", remedy=f"See {self.prog} --help.")


_Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def parser() -> Parser:
    """The parser; what it returns has ``command``, ``json`` and what that command takes."""
    top = Parser(prog="backup-guard", description=_ABOUT, epilog=_EXAMPLES)
    top.add_argument("--version", action="version", version=f"airflow-backup-guard {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    _check(commands)
    _tune(commands)
    _record_load(commands)
    _hours(commands)
    _backup(commands)
    _control(commands)
    _list(commands)
    _show(commands)
    _verify(commands)
    _restore(commands)
    return top


def _check(commands: _Commands) -> None:
    command = _command(commands, "check", "may a backup begin?", _CHECK, "check --dsn 'host=db.example user=guard'")
    _database(command)
    _load(command)
    _repository(command)


def _tune(commands: _Commands) -> None:
    example = "tune --dsn 'host=db.example user=guard' --for 1h"
    command = _command(commands, "tune", "watch a database, and propose limits", _TUNE, example)
    _database(command)
    command.add_argument("--for", dest="watch", metavar="TIME", default="10min", help="how long to watch (10min)")


def _record_load(commands: _Commands) -> None:
    example = (
        "record-load --dsn 'host=db.example user=guard' \\\n      --repository file:///srv/backups --plan-name shop"
    )
    command = _command(commands, "record-load", "keep one measurement of the load", _RECORD_LOAD, example)
    _database(command)
    _repository(command)
    command.add_argument("--plan-name", metavar="NAME", help='what the cluster is called in the repository ("default")')
    command.add_argument("--for", dest="watch", metavar="TIME", default="10s", help="how long to measure (10s)")


def _hours(commands: _Commands) -> None:
    example = "hours --repository file:///srv/backups --plan-name shop \\\n      --picture week.svg"
    command = _command(commands, "hours", "which hours of the week are quiet", _HOURS, example)
    _repository(command)
    command.add_argument("--plan-name", metavar="NAME", help='whose load it is ("default")')
    command.add_argument("--tz", metavar="ZONE", help="time zone to show the week in (the calendar's)")
    command.add_argument("--weeks", type=int, metavar="N", default=8, help="how many weeks count, 1 to 26 (8)")
    command.add_argument(
        "--quiet-below", metavar="SHARE", default="25%", help="share of the peak up to which an hour is quiet (25%%)"
    )
    command.add_argument("--at-least", metavar="TIME", default="2h", help="how long a window must be (2h)")
    command.add_argument("--picture", type=Path, metavar="FILE.svg", help="write the week as a picture, too")


def _backup(commands: _Commands) -> None:
    command = _command(commands, "backup", "copy the cluster into the repository", _BACKUP)
    command.epilog = _BACKUP_EXAMPLES
    _database(command)
    _load(command)
    _repository(command)
    command.add_argument("--plan-name", metavar="NAME", help='what the cluster is called in the repository ("default")')
    command.add_argument("--max-rate", metavar="RATE", help="the most that is read from the database (100MB/s)")
    command.add_argument("--min-rate", metavar="RATE", help="what that falls to under load (1MB/s)")
    command.add_argument(
        "--checkpoint", choices=("spread", "fast"), help="wait for a gentle checkpoint (spread), or force one (fast)"
    )
    command.add_argument("--level", type=int, metavar="N", help="zstd level, 1 (fast) to 19 (small) (3)")
    command.add_argument(
        "--recipient", action="append", metavar="age1...", help="age public key to encrypt to; may be repeated"
    )
    command.add_argument("--outside-window", action="store_true", help="start now, even outside of the plan's calendar")


def _control(commands: _Commands) -> None:
    at = "--repository file:///srv/backups"
    command = _command(commands, "running", "the copies that run, and their orders", _RUNNING, f"running {at}")
    _repository(command)
    _plan_name(command)
    why = "--reason 'checkout is slow'"
    for name, title, about, example in (
        ("pause", "let a copy that runs only trickle", _PAUSE, f"pause {why} \\\n      {at}"),
        ("resume", "let it read as fast as the load allows", _RESUME, f"resume {at}"),
        ("limit", "let it read no faster than this", _LIMIT, f"limit 20MB/s {why} \\\n      {at}"),
        ("stop", "end it, and clean up", _STOP, f"stop {why} \\\n      {at}"),
    ):
        command = _command(commands, name, title, about + _ORDER, example)
        if name == "limit":
            command.add_argument("rate", metavar="RATE", help='such as 20MB/s, or "none"')
        command.add_argument(
            "backup_id", metavar="BACKUP_ID", nargs="?", default="running", help="not needed if only one runs"
        )
        command.add_argument("--reason", metavar="TEXT", default="", help="why; it is kept with the order")
        command.add_argument("--by", metavar="NAME", help="who gives the order (you, as user@host)")
        _repository(command)
        _plan_name(command)


def _list(commands: _Commands) -> None:
    command = _command(commands, "list", "the backups that there are", _LIST, "list --repository file:///srv/backups")
    _repository(command)
    _plan_name(command)


def _show(commands: _Commands) -> None:
    command = _command(commands, "show", "all about one backup", _SHOW, "show latest --repository file:///srv/backups")
    _one_backup(command)
    command.add_argument("--parts", action="store_true", help="also every stored object")
    command.add_argument(
        "--picture", type=Path, metavar="FILE.svg", help="write a picture: what commits felt, and how fast it read"
    )
    _identity(command)


def _verify(commands: _Commands) -> None:
    example = "verify latest --repository file:///srv/backups"
    command = _command(commands, "verify", "read a backup back, and judge it", _VERIFY, example)
    _one_backup(command)
    _identity(command)


def _restore(commands: _Commands) -> None:
    example = "restore latest --to /srv/restored \\\n      --repository file:///srv/backups"
    command = _command(commands, "restore", "from a backup to a data directory", _RESTORE, example)
    _one_backup(command)
    command.add_argument("--to", required=True, type=Path, metavar="DIR", help="the data directory; empty or not there")
    command.add_argument(
        "--tablespace-mapping",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="put the tablespace that was at OLD to NEW; may be repeated; others go where they were",
    )
    _identity(command)
    command.add_argument(
        "--owner", metavar="USER", help="who gets the files (as root; else you): the owner of DIR if it is there"
    )


def _command(commands: _Commands, name: str, title: str, about: str, example: str = "") -> Parser:
    epilog = f"example:\n  backup-guard {example}"
    command: Parser = commands.add_parser(name, help=title, description=about, epilog=epilog)
    command.add_argument("--json", action="store_true", help="answer with one JSON document on stdout")
    return command


def _database(command: Parser) -> None:
    command.add_argument(
        "--dsn", help="how to connect, as libpq has it: 'host=... user=...' or postgresql://... ($BACKUP_GUARD_DSN)"
    )


def _load(command: Parser) -> None:
    command.add_argument(
        "--load-dsn",
        help="where --dsn is a standby: how to connect to its primary, for limits on its load ($BACKUP_GUARD_LOAD_DSN)",
    )


def _repository(command: Parser) -> None:
    command.add_argument(
        "--repository", metavar="URL", help="file:///absolute/path or s3://bucket/prefix ($BACKUP_GUARD_REPOSITORY)"
    )
    command.add_argument("--plan", type=Path, metavar="FILE", help="plan file, TOML; see backup-guard backup --help")


def _plan_name(command: Parser) -> None:
    command.add_argument("--plan-name", metavar="NAME", help="only backups of this plan")


def _one_backup(command: Parser) -> None:
    command.add_argument("backup_id", metavar="BACKUP_ID", help='as "list" shows it, or "latest"')
    _repository(command)
    _plan_name(command)


def _identity(command: Parser) -> None:
    command.add_argument("--identity", type=Path, metavar="FILE", help="age secret keys, as age-keygen writes them")
