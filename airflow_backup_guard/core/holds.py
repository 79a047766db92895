"""Holds: a person's word that a backup stays, whatever the retention says.

Key below a repository's root::

    holds/<plan>/<backup_id>.json          the hold on one backup; a newer one takes its place
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

HOLDS = "holds/"
"""Where the holds of all plans lie."""

_LONGEST_TEXT = 200


@dataclass(frozen=True)
class Hold:
    """Keeps one backup to the end of the day ``until``, or until it is released if that is None."""

    format: int
    until: date | None
    reason: str
    by: str
    at: datetime

    def is_over(self, today: date) -> bool:
        """Whether its last day is past; ``today`` is by the clock of the plan's calendar."""
        return self.until is not None and self.until < today

    def __str__(self) -> str:
        until = "until it is released" if self.until is None else f"until {self.until:%Y-%m-%d}"
        text = f"held {until} by {self.by}: {self.reason}" if self.reason else f"held {until} by {self.by}"
        line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
        return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"


def hold_key(plan: str, backup_id: str) -> str:
    """Where the hold on one backup lies."""
    return f"{HOLDS}{plan}/{backup_id}.json"
