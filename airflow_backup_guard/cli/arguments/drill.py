"""The options of drill: a restore that is tried, and thrown away."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.cli.arguments import shared

_DRILL = """\
Restore a backup into a scratch folder, run a private PostgreSQL on it that
nobody can reach over the network and that archives, replicates and preloads
nothing, look whether it is good, and clear all of it away. The result is
stored beside the backup.

What is looked at is in the plan ([drill], rto, rpo): of --plan, or else of the
backup itself. It takes PostgreSQL of the backup's major version on this
machine, and room for the whole database.

The exit status is 0 only if the drill passed.
"""
_EXAMPLE = """\
drill latest --repository file:///srv/backups

example of what a plan file says of drills:
  rto = "2h"                 # how long a restore may take

  [drill]
  amcheck = "full"           # "off", "heap" (tables), "full" (and indexes)
  extensions = ["postgis"]   # what a database must have
  scratch = "/srv/drills"    # where; a temporary folder without it
  max_rate = "200MB/s"       # what is read of the repository at most

  [drill.checks.orders]      # a number from min up, or true
  database = "shop"
  sql = "SELECT count(*) FROM orders"
  min = 1000

  [drill.checks."newest order"]
  database = "shop"
  sql = "SELECT max(created_at) FROM orders"
  max_age = "1h"             # when the backup was taken
"""


def add(commands: shared.Commands) -> None:
    """Add this command."""
    command = shared.command(commands, "drill", "restore a backup on trial, and look at it", _DRILL, _EXAMPLE)
    command.add_argument(
        "backup_id", metavar="BACKUP_ID", nargs="?", default="latest", help='as "list" shows it (latest)'
    )
    shared.repository(command)
    shared.plan_name(command)
    shared.identity(command)
    command.add_argument(
        "--scratch", type=Path, metavar="DIR", help="an empty folder, or one that is not there yet; a temporary one"
    )
    command.add_argument("--keep", action="store_true", help="leave what was restored there, its server stopped")
