"""What is kept of a game day: who took part, when, and how each act went."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Any


class Outcome(str, Enum):
    """How an act ended."""

    DONE = "done"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Played:
    """One act as it was played; ``latency`` is the 95th percentile of an order at its end, in seconds, None where
    nobody could order."""

    act: str
    outcome: Outcome
    seconds: float
    hints: int
    latency: float | None


@dataclass(frozen=True)
class Summary:
    """A whole game day of one trainee."""

    trainee: str
    began: datetime
    unattended: bool
    acts: tuple[Played, ...]

    @property
    def passed(self) -> bool:
        """Whether every act was done, none skipped."""
        return all(played.outcome is Outcome.DONE for played in self.acts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        acts = [{**asdict(played), "outcome": played.outcome.value} for played in self.acts]
        return {
            "trainee": self.trainee,
            "began": self.began.isoformat(timespec="seconds"),
            "unattended": self.unattended,
            "passed": self.passed,
            "acts": acts,
        }


def as_markdown(summary: Summary) -> str:
    """One page for the compliance file."""
    how = "played without a person" if summary.unattended else "played by the trainee"
    result = "every act was done" if summary.passed else "not every act was done"
    rows = [
        f"| {number} | {played.act} | {played.outcome.value} | {played.seconds:.0f} s | {played.hints} |"
        for number, played in enumerate(summary.acts, 1)
    ]
    lines = [
        "# Game day: a backup at noon",
        "",
        f"* Trainee: {summary.trainee}",
        f"* Date: {summary.began:%Y-%m-%d %H:%M} UTC",
        f"* Result: {result}; {how}",
        "",
        "| | act | outcome | time | hints |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "Each act counts as done only after the database, or the repository, was seen to be as it should.",
    ]
    return "\n".join([*lines, ""])
