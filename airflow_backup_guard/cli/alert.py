"""``backup-guard alert --test``: a message through every channel, and what became of each."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from datetime import datetime, timezone

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, lines
from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.cli.person import person
from airflow_backup_guard.core.alerts import test_alert
from airflow_backup_guard.core.backup import dump_plain
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.engine.alerting import AlertSender
from airflow_backup_guard.repository.open import open_repository


def run(arguments: argparse.Namespace) -> Answer:
    """Send, wait, and tell."""
    plan = settings.plan(arguments)
    wanted = _wanted(arguments, plan)
    channels = [channel for channel in plan.alerts.channels if channel.name in wanted]
    # Airflow writes to stdout what it has to say while it is imported, and that is where the answer goes.
    with redirect_stdout(sys.stderr), AlertSender(plan, open_repository(plan.repository)) as sender:
        sender.send(test_alert(plan.name, channels, person(), datetime.now(timezone.utc)))
    became = {delivery.channel: delivery for delivery in sender.deliveries}
    document = {"plan_name": plan.name, "deliveries": [dump_plain(delivery) for delivery in sender.deliveries]}
    rows = []
    for channel in channels:
        delivery = became.get(channel.name)
        problem = "no answer in time" if delivery is None else delivery.problem
        rows.append((channel.name, f"not sent: {problem}" if problem else "sent"))
    good = all(said == "sent" for _, said in rows)
    return Answer(document, [f"A test alert of plan {plan.name}:", lines(rows)], good)


def _wanted(arguments: argparse.Namespace, plan: BackupPlan) -> set[str]:
    names = [channel.name for channel in plan.alerts.channels]
    if not names:
        raise WrongUse(
            f"Plan {plan.name} has no alert channels.",
            remedy="Add some to the plan file, as [[alerts.channels]]; see backup-guard alert --help.",
        )
    for name in arguments.channel or ():
        if name not in names:
            raise WrongUse(f"Plan {plan.name} has no alert channel {name}.", remedy=f"It has: {', '.join(names)}.")
    return set(arguments.channel or names)
