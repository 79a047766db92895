"""``backup-guard hold`` and ``release``: a backup that stays, whatever the retention says."""

from __future__ import annotations

import argparse
from datetime import date

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer
from airflow_backup_guard.cli.person import person
from airflow_backup_guard.core.backup import dump_plain
from airflow_backup_guard.engine import catalog, holds
from airflow_backup_guard.errors import InvalidPlan
from airflow_backup_guard.repository.open import open_repository


def hold(arguments: argparse.Namespace) -> Answer:
    """Hold one backup."""
    until = _date(arguments.until)
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    record = catalog.find(repository, arguments.backup_id, settings.plan_name(arguments, plan))
    made = holds.hold(repository, record, until=until, reason=arguments.reason, by=arguments.by or person())
    document = {"backup_id": record.backup_id, "plan_name": record.plan_name, "hold": dump_plain(made)}
    return Answer(document, [f"Backup {record.backup_id} of plan {record.plan_name} is {made}."])


def release(arguments: argparse.Namespace) -> Answer:
    """End the hold on one backup."""
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    record = catalog.find(repository, arguments.backup_id, settings.plan_name(arguments, plan))
    was_held = holds.release(repository, record)
    what = "is not held any more" if was_held else "was not held"
    document = {"backup_id": record.backup_id, "plan_name": record.plan_name, "was_held": was_held}
    return Answer(document, [f"Backup {record.backup_id} of plan {record.plan_name} {what}."])


def _date(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise InvalidPlan("--until", text, "a date, such as 2027-01-01") from None
