"""The options of check, who, tune, record-load, hours: what is asked of a database and of its recorded load."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.cli.arguments import shared

_CHECK = """\
Ask the database, and the repository if one is named, everything that a backup
depends on: privileges, settings, free connections, other backups under way,
space. Each answer comes with what to do about it. The database is not changed;
in the repository a small object is written and removed.
"""
_WHO = """\
Say which backups run against a database right now, whoever started them: since
when, how fast, whose they are, how sure that is, and how to stop them; or that
none does, so that the load has another cause. Takes two seconds, and changes
nothing.

With --plan its rules say which backups of others are allowed; with a
repository a backup that says it is ours has to be in it.

The exit status is 0 if surely nothing but our own backup runs, and 1 if
another does, allowed or not, or if it could not be seen.
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


def add(commands: shared.Commands) -> None:
    """Add these commands."""
    _check(commands)
    _who(commands)
    _tune(commands)
    _record_load(commands)
    _hours(commands)


def _check(commands: shared.Commands) -> None:
    command = shared.command(
        commands, "check", "may a backup begin?", _CHECK, "check --dsn 'host=db.example user=guard'"
    )
    shared.database(command)
    shared.load(command)
    shared.repository(command)


def _who(commands: shared.Commands) -> None:
    example = "who --dsn 'host=db.example user=guard'"
    command = shared.command(commands, "who", "what backs up this database right now?", _WHO, example)
    shared.database(command)
    shared.repository(command)


def _tune(commands: shared.Commands) -> None:
    example = "tune --dsn 'host=db.example user=guard' --for 1h"
    command = shared.command(commands, "tune", "watch a database, and propose limits", _TUNE, example)
    shared.database(command)
    command.add_argument("--for", dest="watch", metavar="TIME", default="10min", help="how long to watch (10min)")


def _record_load(commands: shared.Commands) -> None:
    example = (
        "record-load --dsn 'host=db.example user=guard' \\\n      --repository file:///srv/backups --plan-name shop"
    )
    command = shared.command(commands, "record-load", "keep one measurement of the load", _RECORD_LOAD, example)
    shared.database(command)
    shared.repository(command)
    command.add_argument("--plan-name", metavar="NAME", help='what the cluster is called in the repository ("default")')
    command.add_argument("--for", dest="watch", metavar="TIME", default="10s", help="how long to measure (10s)")


def _hours(commands: shared.Commands) -> None:
    example = "hours --repository file:///srv/backups --plan-name shop \\\n      --picture week.svg"
    command = shared.command(commands, "hours", "which hours of the week are quiet", _HOURS, example)
    shared.repository(command)
    command.add_argument("--plan-name", metavar="NAME", help='whose load it is ("default")')
    command.add_argument("--tz", metavar="ZONE", help="time zone to show the week in (the calendar's)")
    command.add_argument("--weeks", type=int, metavar="N", default=8, help="how many weeks count, 1 to 26 (8)")
    command.add_argument(
        "--quiet-below", metavar="SHARE", default="25%", help="share of the peak up to which an hour is quiet (25%%)"
    )
    command.add_argument("--at-least", metavar="TIME", default="2h", help="how long a window must be (2h)")
    command.add_argument("--picture", type=Path, metavar="FILE.svg", help="write the week as a picture, too")
