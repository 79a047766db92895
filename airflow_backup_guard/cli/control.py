"""``backup-guard running``, ``pause``, ``resume``, ``limit`` and ``stop``: a hand on a copy or a guarded command that
runs elsewhere."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from datetime import datetime, timezone

from rich.console import RenderableType

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, lines
from airflow_backup_guard.cli.person import person
from airflow_backup_guard.cli.record import version
from airflow_backup_guard.core.backup import FORMAT, dump_plain
from airflow_backup_guard.core.control import Action, Order, Orders
from airflow_backup_guard.core.units import Rate, Size
from airflow_backup_guard.engine import control
from airflow_backup_guard.repository.open import open_repository

_EFFECTS = {
    Action.PAUSE: "It only trickles now, until backup-guard resume.",
    Action.RESUME: "It reads as fast as the load of the database allows.",
    Action.LIMIT: "It reads no faster than that, and slower where the load demands it.",
    Action.STOP: "It has ended, and what it stored is removed.",
}


def show_running(arguments: argparse.Namespace) -> Answer:
    """The backups and guarded commands that run, and what is in force for each."""
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    name = settings.plan_name(arguments, plan)
    found = [(snapshot, control.orders_to(repository, snapshot)) for snapshot in control.running(repository, name)]
    commands = [
        (receipt, control.orders_to(repository, receipt)) for receipt in control.running_commands(repository, name)
    ]
    document = {
        "repository": repository.url,
        "running": [
            {
                "backup_id": snapshot.backup_id,
                "plan_name": snapshot.plan_name,
                "taken_at": snapshot.taken_at.isoformat(),
                "size": snapshot.size,
                "orders": dump_plain(orders),
            }
            for snapshot, orders in found
        ],
        "commands": [
            {
                "command_id": receipt.command_id,
                "plan_name": receipt.plan_name,
                "started_at": receipt.started_at.isoformat(),
                "command": list(receipt.command),
                "orders": dump_plain(orders),
            }
            for receipt, orders in commands
        ],
    }
    of_plan = f" of plan {name}" if name else ""
    text: list[RenderableType] = [] if found or commands else [f"In {repository.url} no backup{of_plan} runs."]
    for snapshot, orders in found:
        rows = [("cluster", f"{Size(snapshot.size)}, PostgreSQL {version(snapshot.cluster.server_version)}")]
        rows += _rows(snapshot.taken_at, orders)
        text += [f"Backup {snapshot.backup_id} of plan {snapshot.plan_name}", lines(rows)]
    for receipt, orders in commands:
        rows = [("command", shlex.join(receipt.command)), *_rows(receipt.started_at, orders)]
        text += [f"Command {receipt.command_id} of plan {receipt.plan_name}", lines(rows)]
    return Answer(document, text)


def give_order(arguments: argparse.Namespace) -> Answer:
    """Give one order, and wait until the copy obeys it."""
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    action = Action(arguments.command)
    order = Order(
        format=FORMAT,
        action=action,
        by=arguments.by or person(),
        reason=arguments.reason,
        at=datetime.now(timezone.utc),
        max_rate=_max_rate(arguments.rate) if action is Action.LIMIT else None,
    )
    snapshot = control.find(repository, arguments.backup_id, settings.plan_name(arguments, plan))
    outcome = control.carry_out(repository, snapshot, order)
    if outcome.obeyed is None:
        effect = (
            f"No copy has answered within {control.OBEY_SECONDS:.0f}s: it has yet to begin, its worker is dead, or it "
            "cannot read the repository. The order stays, and is obeyed as soon as a copy reads it."
        )
    elif not outcome.obeyed:
        effect = "The copy has ended before it read the order; see backup-guard list."
    elif action is Action.STOP and not outcome.ended:
        effect = "It obeys, and is still removing what it stored."
    else:
        effect = f"Obeyed after {outcome.seconds}s. {_EFFECTS[action]}"
    document = {
        "backup_id": snapshot.backup_id,
        "plan_name": snapshot.plan_name,
        "order": dump_plain(order),
        "obeyed": bool(outcome.obeyed),
        "seconds": outcome.seconds,
        "ended": outcome.ended,
    }
    what = f"Backup {snapshot.backup_id} of plan {snapshot.plan_name}: {order}"
    return Answer(document, [what, effect], bool(outcome.obeyed))


def _rows(begun: datetime, orders: Orders) -> Iterator[tuple[str, str]]:
    yield "begun", f"{begun:%Y-%m-%d %H:%M:%S} UTC"
    in_force = [order for order in (orders.stop, orders.pause, orders.limit) if order is not None]
    for order in in_force:
        yield "order", f"{order}, at {order.at:%H:%M:%S} UTC"
    if not in_force:
        yield "orders", "none: its pace follows the load"


def _max_rate(text: str) -> str | None:
    return None if text == "none" else f"{int(Rate.parse(text, 'limit'))}B/s"
