"""The tab of a copy or a guarded command: from its task while it runs, from the repository afterwards and for what was
before the last ten minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.backup import is_backup_id
from airflow_backup_guard.core.control import Orders
from airflow_backup_guard.core.copy_picture import CopyPicture, of_live, of_telemetry
from airflow_backup_guard.engine import control
from airflow_backup_guard.engine.shown import Kept, kept_of_command, kept_of_copy
from airflow_backup_guard.errors import InvalidPlan
from airflow_backup_guard.operators.live import STATE_KEY
from airflow_backup_guard.ui.instances import Instance, kept, problem
from airflow_backup_guard.ui.plans import PlanTask
from airflow_backup_guard.ui.reading import PATIENCE, Remembered, problem_text, repository_of, within

_SILENT_SECONDS = 15
_LIVE = ("time", "done", "total", "rate", "allowed_rate", "state", "reason", "level", "finish", "window_end", "late")
_DRAWN = ("commit_latency", "read_latency", "wal_rate")
_orders: Remembered[list[str]] = Remembered(3)


@dataclass(frozen=True)
class _Named:
    """Whom orders are for, as far as it takes to read them."""

    backup_id: str
    plan_name: str
    plan: dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """The copy, or the command, of a task instance. ``number`` is the backup's id or the command's; "" if it has yet
    to begin. ``live`` is what the task keeps, empty if that is of an earlier try."""

    step: str
    plan: BackupPlan | None
    number: str
    live: dict[str, Any]


def subject_of(task: PlanTask, instance: Instance) -> Subject:
    """Whom the tab is about; raises :class:`InvalidPlan` for a plan that this release cannot read."""
    live = kept(instance, STATE_KEY)
    if not instance.over and instance.started_at and live.get("time", 0) < instance.started_at.timestamp():
        live = {}
    plan = BackupPlan.from_dict(task.plans[0]) if task.plans else None
    number = str(live.get("backup_id", ""))
    if not is_backup_id(number):  # it becomes part of a key
        number = ""
    return Subject(task.step, plan, number, live)


def view(task: PlanTask, instance: Instance, *, after: float | None) -> dict[str, Any]:
    """The document; with ``after``, a time, only what is new since then."""
    notes: list[str] = []
    try:
        subject = subject_of(task, instance)
    except InvalidPlan as error:
        subject = Subject(task.step, None, "", kept(instance, STATE_KEY))
        notes.append(f"This release cannot read the plan: {error}")
    picture, found = of_live(subject.live), Kept()
    if after is None and subject.number and subject.plan is not None:
        try:
            found = _kept(subject, subject.plan)
            picture = of_telemetry(found.telemetry).followed_by(picture)
        except Exception as error:  # whatever is wrong with the repository, the rest of the page is not
            notes.append(problem_text(error))
    shown = picture if after is None else picture.after(after)
    if instance.running and subject.live and time.time() - subject.live["time"] > _SILENT_SECONDS:
        notes.append(f"The task has told nothing for {time.time() - subject.live['time']:.0f} s.")
    if instance.running and not subject.live:
        notes.append("It has yet to begin.")
    why = problem(instance)
    if instance.over and not subject.live and not why:
        notes.append("It ended before it had anything to show: its log says why.")
    return {
        "kind": subject.step,
        "plan": subject.plan.name if subject.plan else str(subject.live.get("plan", "")),
        "repository": subject.plan.repository if subject.plan else "",
        "number": subject.number,
        "running": instance.running,
        "over": instance.over,
        "task_state": instance.state or "not scheduled yet",
        "now": time.time(),
        "live": {name: subject.live.get(name) for name in _LIVE} if subject.live else None,
        "columns": shown.columns(),
        "pauses": _pauses(shown),
        "limits": _limits(subject),
        "of_standby": "read_latency" in subject.live.get("limits", {}),
        "outcome": why or found.outcome,
        "receipt": [list(pair) for pair in found.receipt],
        "notes": [*notes, *found.notes],
        "orders": _orders_in_force(subject) if instance.running else [],
        "rates": [str(subject.plan.min_rate), str(subject.plan.max_rate)] if subject.plan else [],
    }


def forget_orders(subject: Subject) -> None:
    """Show a new order at once."""
    _orders.forget(subject.number)


def _kept(subject: Subject, plan: BackupPlan) -> Kept:
    read: Callable[..., Kept] = kept_of_command if subject.step == "command" else kept_of_copy
    return within(PATIENCE, lambda: read(repository_of(plan), plan.name, subject.number))


def _pauses(picture: CopyPicture) -> list[dict[str, Any]]:
    return [asdict(pause) for pause in picture.pauses]


def _limits(subject: Subject) -> dict[str, dict[str, float | None]]:
    """By signal; relative ones only where the task has told them, with the baseline that it measured."""
    told = subject.live.get("limits")
    if told is not None:
        return {name: told[name] for name in _DRAWN if name in told}
    limits = {name: limit for name, limit in subject.plan.limits if limit and name in _DRAWN} if subject.plan else {}
    return {name: {"max": _finite(limit.max), "critical": _finite(limit.critical)} for name, limit in limits.items()}


def _finite(value: float) -> float | None:
    return None if value == inf else value


def _orders_in_force(subject: Subject) -> list[str]:
    plan = subject.plan
    if plan is None or not subject.number:
        return []

    def read() -> list[str]:
        named = _Named(subject.number, plan.name, {})
        orders: Orders = within(PATIENCE, lambda: control.orders_to(repository_of(plan), named))
        return [str(order) for order in (orders.stop, orders.pause, orders.limit) if order is not None]

    try:
        return _orders.get(subject.number, read)
    except Exception as error:
        return [f"Orders cannot be read: {problem_text(error)}"]
