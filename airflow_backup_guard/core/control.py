"""Orders to a copy, or a guarded command, that runs: pause, resume, limit, stop; which are in force, and the pace that
obeys them.

Keys below a repository's root::

    control/<plan>/<backup_id>/000001.json     one order, written once: of two at once, neither is lost
    control/<plan>/<backup_id>/000001.obeyed   empty: the copy obeys that order
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.core.units import Rate

OBEYED = ".obeyed"
"""How the key of an order's answer ends, in place of ``.json``."""

_LONGEST_TEXT = 200


class Action(str, Enum):
    """What an order asks for."""

    PAUSE = "pause"
    RESUME = "resume"
    LIMIT = "limit"
    STOP = "stop"


@dataclass(frozen=True)
class Order:
    """One order, who gave it and why. ``max_rate`` is that of a limit, as ``"20MB/s"``; None lifts the limit."""

    format: int
    action: Action
    by: str
    reason: str
    at: datetime
    max_rate: str | None = None

    def __post_init__(self) -> None:
        if self.max_rate is not None:
            Rate.parse(self.max_rate, "max_rate")

    @property
    def rate(self) -> Rate | None:
        """The limit in bytes per second."""
        return None if self.max_rate is None else Rate.parse(self.max_rate)

    @property
    def origin(self) -> str:
        """``alice@db1: checkout is slow``, in one line that is safe to print, whoever wrote it."""
        text = f"{self.by}: {self.reason}" if self.reason else self.by
        line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
        return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"

    def __str__(self) -> str:
        done = {
            Action.PAUSE: "paused",
            Action.RESUME: "resumed",
            Action.LIMIT: f"limited to {self.rate}" if self.max_rate else "limit lifted",
            Action.STOP: "stopped",
        }
        return f"{done[self.action]} by {self.origin}"


class Controlled(Protocol):
    """What orders are given to: the snapshot of a copy, or the receipt of a guarded command."""

    @property
    def backup_id(self) -> str: ...

    @property
    def plan_name(self) -> str: ...

    @property
    def plan(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Orders:
    """What is in force."""

    pause: Order | None = None
    limit: Order | None = None
    stop: Order | None = None

    def after(self, order: Order) -> Orders:
        """What is in force once one more order was given."""
        match order.action:
            case Action.PAUSE:
                return replace(self, pause=order)
            case Action.RESUME:
                return replace(self, pause=None)
            case Action.LIMIT:
                return replace(self, limit=order if order.max_rate else None)
            case Action.STOP:
                return replace(self, stop=order)


def obey(pace: Pace, orders: Orders) -> Pace:
    """The pace that the load allows, lowered to what was ordered; never below its floor, and never above itself."""
    if orders.pause is not None:
        return replace(pace, rate=pace.floor, state=PaceState.PAUSED, reason=str(orders.pause))
    if orders.limit is not None and orders.limit.rate is not None:
        rate = max(orders.limit.rate, pace.floor)
        if rate < pace.rate:
            return replace(pace, rate=rate, state=PaceState.THROTTLED, reason=str(orders.limit))
    return pace


CONTROL = "control/"
"""Where the orders to all copies lie."""


def orders_prefix(plan: str, backup_id: str) -> str:
    """Where the orders to one copy lie."""
    return f"{CONTROL}{plan}/{backup_id}/"


def order_key(plan: str, backup_id: str, number: int) -> str:
    """Where one order lies; they count from 1."""
    return f"{orders_prefix(plan, backup_id)}{number:06}.json"
