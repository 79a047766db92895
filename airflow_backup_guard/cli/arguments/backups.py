"""The options of backup, list, show, verify, restore: making backups, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.cli.arguments import shared

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

  [retention]                # which backups "expire" keeps; without it, all
  keep_daily = 7
  keep_weekly = 4

  [limits]                   # above the first slow down, the second pause
  commit_latency = ["20ms", "100ms"]
"""
_LIST = """\
Show the backups that are whole, what verification found (VERIFIED), how far it
looked (LEVEL), how long ago every byte was known to be right (READ), and which
are held. What cannot be read is named, and the exit status is 1.
"""
_SHOW = """\
Show everything about one backup: its cluster, its copy, what commits felt, and
its plan.
"""
_VERIFY = """\
Hold a backup, as it is stored, against its record, against PostgreSQL's own
manifest and page checksums, and against the WAL that a restore needs. What is
proven is stored beside the backup:

  stored      every object is there, and of the size that was written
  readable    every byte was read back, and is as it was written
  consistent  what the bytes mean is right, too: "verified"

What was read and found right within --max-age is not read again, unless it has
changed in the repository. The exit status is 0 if --level is reached. A backup
that is encrypted needs --identity for "consistent", and is "readable" without.
"""
_VERIFY_EXAMPLES = """\
example:
  backup-guard verify latest --repository file:///srv/backups
  backup-guard verify --all --max-age 30d --max-rate 50MB/s \\
      --repository file:///srv/backups
"""
_RESTORE = """\
Write a backup into an empty folder, check each file meanwhile, and say how to
start PostgreSQL on it. Nothing is ever overwritten, and what a failed restore
wrote is removed again; with --resume it stays, and the same command goes on:
archives and WAL that had been written to their end are read back, not fetched.

Without BACKUP_ID it is the newest backup, or the newest that was done --before
a moment. One that verification found to be damaged, or whose record cannot be
read, is passed over with a warning; it is restored only by its id.

--start starts PostgreSQL and waits until it takes connections, on 127.0.0.1
alone. It archives nothing, follows no primary, and loads no library, until it
is stopped and started in the usual way.
"""
_RESTORE_EXAMPLES = """\
example:
  backup-guard restore latest --to /srv/restored \\
      --repository file:///srv/backups
  backup-guard restore --before '2026-11-23 12:00+01:00' --to /srv/restored \\
      --start --port 5433 --repository file:///srv/backups
"""


def add(commands: shared.Commands) -> None:
    """Add these commands."""
    _backup(commands)
    _list(commands)
    _show(commands)
    _verify(commands)
    _restore(commands)


def _backup(commands: shared.Commands) -> None:
    command = shared.command(commands, "backup", "copy the cluster into the repository", _BACKUP)
    command.epilog = _BACKUP_EXAMPLES
    shared.database(command)
    shared.load(command)
    shared.repository(command)
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


def _list(commands: shared.Commands) -> None:
    command = shared.command(
        commands, "list", "the backups that there are", _LIST, "list --repository file:///srv/backups"
    )
    shared.repository(command)
    shared.plan_name(command)


def _show(commands: shared.Commands) -> None:
    command = shared.command(
        commands, "show", "all about one backup", _SHOW, "show latest --repository file:///srv/backups"
    )
    shared.one_backup(command)
    command.add_argument("--parts", action="store_true", help="also every stored object")
    command.add_argument(
        "--picture", type=Path, metavar="FILE.svg", help="write a picture: what commits felt, and how fast it read"
    )
    shared.identity(command)


def _verify(commands: shared.Commands) -> None:
    command = shared.command(commands, "verify", "what is stored, and is it right?", _VERIFY)
    command.epilog = _VERIFY_EXAMPLES
    command.add_argument("backup_id", metavar="BACKUP_ID", nargs="?", help='as "list" shows it, or "latest"')
    command.add_argument("--all", action="store_true", help="every backup, one after the other")
    # Other names than --level and --max-rate of a plan, which are about making a backup.
    command.add_argument(
        "--level",
        dest="wanted_level",
        choices=("stored", "readable", "consistent"),
        default="consistent",
        help="how far to look (consistent)",
    )
    command.add_argument("--max-age", metavar="TIME", default="7d", help="what was read longer ago is read again (7d)")
    command.add_argument("--full", action="store_true", help="read all of it again")
    command.add_argument(
        "--max-rate", dest="read_rate", metavar="RATE", help="the most that is read from the repository"
    )
    shared.repository(command)
    shared.plan_name(command)
    shared.identity(command)


def _restore(commands: shared.Commands) -> None:
    command = shared.command(commands, "restore", "from a backup to a data directory", _RESTORE)
    command.epilog = _RESTORE_EXAMPLES
    shared.one_backup(command, "latest")
    command.add_argument(
        "--before", metavar="TIME", help="the newest that was done by then, with its zone: '2026-11-23 12:00+01:00'"
    )
    command.add_argument("--to", required=True, type=Path, metavar="DIR", help="the data directory; empty or not there")
    command.add_argument(
        "--tablespace-mapping",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="put the tablespace that was at OLD to NEW; may be repeated; others go where they were",
    )
    shared.identity(command)
    command.add_argument(
        "--owner", metavar="USER", help="who gets the files (as root; else you): the owner of DIR if it is there"
    )
    command.add_argument(
        "--max-rate", dest="read_rate", metavar="RATE", help="the most that is read from the repository, as 50MB/s"
    )
    command.add_argument(
        "--resume", action="store_true", help="go on with what was cut off in DIR, and keep what is written if it fails"
    )
    command.add_argument("--start", action="store_true", help="start PostgreSQL on it, and wait until it is ready")
    command.add_argument(
        "--binaries", type=Path, metavar="DIR", help="its programs, for --start (those of its version found here)"
    )
    command.add_argument("--port", type=int, default=5433, metavar="N", help="its port, for --start (5433)")
    command.add_argument(
        "--start-timeout", default="1h", metavar="TIME", help="how long its recovery may take, for --start (1h)"
    )
