"""The options of status: how all plans of a repository stand."""

from __future__ import annotations

from airflow_backup_guard.cli.arguments import shared

_STATUS = """\
Show how every plan of a repository stands, the worst first: whether its last
verified backup is as young as its RPO asks, how long the last restore drill
took, what runs now, and when the next window opens.

  protected    the last verified backup is younger than the RPO
  no rpo       there is one, and the plan does not say how old it may become
  late         it is older than that
  unprotected  there is no verified backup
  unknown      what there is could not be read

A plan is as its newest backup was made under, or as --plan FILE says. The exit
status is 1 if a plan is not protected, if its last drill failed or took longer
than its RTO, or if a backup is damaged or something could not be read.
"""


def add(commands: shared.Commands) -> None:
    """Add this command."""
    command = shared.command(
        commands, "status", "is every plan protected?", _STATUS, "status --repository file:///srv/backups"
    )
    shared.repository(command)
    shared.plan_name(command)
