"""The options of runbook: how to get one cluster back."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.cli.arguments import shared

_RUNBOOK = """\
Write the recovery runbook of one cluster: whom to call, which backup to
restore, every command, how long it takes, how much room, what to look at, what
never to do. It is made of what is stored: it needs no database and no Airflow.

Without --plan, the plan is that of the newest backup. Without --html and
--markdown it is written to stdout, as Markdown. Each drill and each
verification keeps it beside the backups, as runbooks/PLAN/runbook.html and .md;
--store does that, too.

The exit status is 1 if the page begins with something that is missing or wrong:
no verified backup, no drill that passed, an RPO or RTO that is missed, a plan
without contacts, something unreadable.
"""
_EXAMPLE = """\
runbook --plan-name shop --html shop.html \\
      --repository file:///srv/backups

example of what a plan file says of people:
  contacts = [
    ["Database on call", "+1 555 0100"],
    ["Alice, who has the age key", "alice@example.com"],
  ]
"""


def add(commands: shared.Commands) -> None:
    """Add this command."""
    command = shared.command(commands, "runbook", "how to get this cluster back, to print", _RUNBOOK, _EXAMPLE)
    shared.repository(command)
    command.add_argument("--plan-name", metavar="NAME", help="of the plans in the repository, this one")
    command.add_argument("--html", type=Path, metavar="FILE", help="write it there, to read and print")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="write it there as Markdown")
    command.add_argument("--store", action="store_true", help="keep it beside the backups")
