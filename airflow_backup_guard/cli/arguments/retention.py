"""The options of expire, hold, release: which backups stay, and how long."""

from __future__ import annotations

from airflow_backup_guard.cli.arguments import shared

_EXPIRE = """\
Show which backups of a plan are kept and which expire, each with the reason,
and what dead copies left behind. Nothing is removed without --yes.

The rules are those of --plan, or else of the plan's newest backup. Options
take the place of all of them; days, weeks, months and years are those of the
plan's time zone, and only those that have a backup count. The newest and the
last verified backup always stay, and so does what is held.

The exit status is 1 if something could not be read or removed.
"""
_HOLD = """\
Keep a backup, whatever the retention says, to the end of a day, or until it is
released. A later hold takes the place of an earlier one.
"""
_RELEASE = """\
Take the hold off a backup. What becomes of it the next "expire" decides.
"""
_AT = "--repository file:///srv/backups"


def add(commands: shared.Commands) -> None:
    """Add these commands."""
    _expire(commands)
    hold = shared.command(
        commands,
        "hold",
        "keep a backup from expiring",
        _HOLD,
        f"hold latest --until 2027-01-01 --reason 'case 4711' \\\n      {_AT}",
    )
    shared.one_backup(hold)
    hold.add_argument("--until", metavar="DATE", help="the last day that it is held, such as 2027-01-01")
    hold.add_argument("--reason", metavar="TEXT", default="", help="why; it is kept with the hold")
    hold.add_argument("--by", metavar="NAME", help="who holds it (you, as user@host)")
    release = shared.command(
        commands, "release", "end the hold on a backup", _RELEASE, f"release 20261123T090000Z-a98c \\\n      {_AT}"
    )
    shared.one_backup(release)


def _expire(commands: shared.Commands) -> None:
    example = f"expire --keep-daily 7 --keep-weekly 4 --min-age 3d \\\n      {_AT}"
    command = shared.command(commands, "expire", "remove the backups that need not be kept", _EXPIRE, example)
    shared.repository(command)
    shared.plan_name(command)
    for period, kept in (
        ("last", "the newest N"),
        ("daily", "the newest of each of N days"),
        ("weekly", "the newest of each of N weeks"),
        ("monthly", "the newest of each of N months"),
        ("yearly", "the newest of each of N years"),
    ):
        command.add_argument(f"--keep-{period}", type=int, metavar="N", help=kept)
    command.add_argument("--min-age", metavar="DURATION", help="none that is younger, such as 7d")
    command.add_argument(
        "--abandoned-after",
        metavar="DURATION",
        default="7d",
        help="how long a copy must have stored nothing to be taken for dead (7d)",
    )
    command.add_argument("--yes", action="store_true", help="remove them")
