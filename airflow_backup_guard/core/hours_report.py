"""What people are told of quiet hours: the week as a heat map, windows to propose, windows that are not quiet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.hours import CELL_MINUTES, CELLS_A_DAY, LoadWeek, clock
from airflow_backup_guard.core.quiet_hours import Advice, percent, shown
from airflow_backup_guard.core.weekly import DAYS
from airflow_backup_guard.core.window_drift import Standing

_HALVES = 60 // CELL_MINUTES
_HIGHEST = 99
_MARKS = {
    " ": "",
    "+": "your window",
    "*": "proposed",
    "#": "both",
    "!": "your window, not quiet",
}


@dataclass(frozen=True)
class Hour:
    """One hour of the heat map: ``text`` is its usual load in percent of the peak, or ``?``, and a mark."""

    text: str
    usual: float | None


@dataclass(frozen=True)
class HoursReport:
    """All that is known of the quiet hours of one plan; ``standing`` is None if it has no windows."""

    plan_name: str
    week: LoadWeek
    advice: Advice
    calendar: OffPeakCalendar | None = None
    standing: Standing | None = None

    @property
    def good(self) -> bool:
        """False if windows of the plan are not quiet."""
        return self.standing is None or not self.standing.drifts

    @property
    def title(self) -> str:
        """One line."""
        if not self.good:
            return f"Windows of {self.plan_name} are not quiet"
        if self.standing is not None and self.standing.unknown:
            return f"Windows of {self.plan_name} are quiet as far as they are known"
        return f"Quiet hours of {self.plan_name}"

    def __str__(self) -> str:
        rows = [heading(), *(f"{day} {''.join(hour.text for hour in hours)}" for day, hours in heat_map(self))]
        text = [
            self.about,
            "",
            *(row.rstrip() for row in rows),
            *legend(self),
            "",
            *self.windows(),
            "",
            *self.verdict(),
        ]
        return "\n".join(text).rstrip()

    @property
    def about(self) -> str:
        """What it is made of."""
        week = self.week
        failed = f", {week.failed} of them without the load" if week.failed else ""
        return (
            f"Load of {self.plan_name} by the clock of {week.tz}: {week.entries} entries in {week.weeks:.1f} weeks"
            f"{failed}. The peak: {shown(week.scale.peak)}."
        )

    def windows(self) -> list[str]:
        """How the windows of the plan stand."""
        if self.standing is None or self.calendar is None:
            return []
        lines = [str(drift) for drift in self.standing.drifts]
        if self.standing.unknown:
            lines.append(f"Of your windows, these hours are not known: {self.standing.unknown_text}.")
        return lines or [f"Your windows, {self.calendar}, are quiet."]

    def verdict(self) -> list[str]:
        """What is proposed, with the evidence, and how sure that is."""
        advice = self.advice
        if advice.calendar is None:
            return [f"No window is proposed. {advice.why_none}"]
        sure = f"How sure: {advice.sureness.value} ({'; '.join(advice.reasons)})."
        return ["Proposed:", *(f"  {proposal}" for proposal in advice.proposals), sure, f"  {advice.code}"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; loads are shares of the peak, rates in bytes and commits per second, latencies in seconds."""
        week, advice, standing = self.week, self.advice, self.standing
        usual = [None if cell.usual is None else round(cell.usual, 4) for cell in week.cells]
        return {
            "plan_name": self.plan_name,
            "good": self.good,
            "title": self.title,
            "tz": week.tz,
            "since": week.since.isoformat(),
            "until": week.until.isoformat(),
            "entries": week.entries,
            "failed": week.failed,
            "during_backups": week.during_backups,
            "coverage": round(week.coverage(), 4),
            "peak": dict(week.scale.peak),
            "half_hours": {day: usual[n * CELLS_A_DAY : (n + 1) * CELLS_A_DAY] for n, day in enumerate(DAYS)},
            "proposal": {
                "calendar": advice.calendar and advice.calendar.to_dict(),
                "code": advice.code,
                "why_none": advice.why_none,
                "sureness": advice.sureness.value,
                "reasons": list(advice.reasons),
                "windows": [
                    {
                        "windows": proposal.windows,
                        "below": proposal.below,
                        "weeks": proposal.weeks,
                        "known_weeks": proposal.known,
                        "highest": dict(proposal.values),
                        "text": str(proposal),
                    }
                    for proposal in advice.proposals
                ],
            },
            "configured": standing
            and {
                "calendar": self.calendar and self.calendar.to_dict(),
                "unknown": standing.unknown_text,
                "drifts": [
                    {
                        "window": drift.window,
                        "days": list(drift.days),
                        "start": drift.start,
                        "end": drift.end,
                        "signal": drift.signal,
                        "recent": drift.recent,
                        "others": drift.others,
                        "was_quiet": drift.was_quiet,
                        "text": str(drift),
                    }
                    for drift in standing.drifts
                ],
            },
        }


def heading() -> str:
    """The hours above the heat map."""
    return "    " + "".join(f"{hour:2} " for hour in range(24))


def heat_map(report: HoursReport) -> Iterator[tuple[str, list[Hour]]]:
    """The days, each with its 24 hours. An hour shows the busier of its halves, and ``?`` if either is not known."""
    for day, name in enumerate(DAYS):
        first = day * CELLS_A_DAY
        yield name, [_hour(report, range(n, n + _HALVES)) for n in range(first, first + CELLS_A_DAY, _HALVES)]


def legend(report: HoursReport) -> list[str]:
    """What the numbers and marks mean, as far as there are such."""
    used = {hour.text[-1] for _, hours in heat_map(report) for hour in hours}
    marks = ", ".join(f"{mark} {meaning}" for mark, meaning in _MARKS.items() if meaning and mark in used)
    numbers = f"Each number: the usual load, in percent of the peak ({_HIGHEST} also above); ? not known."
    return [numbers, *([f"{marks}."] if marks else [])]


def _hour(report: HoursReport, numbers: range) -> Hour:
    halves = [report.week.cells[number].usual for number in numbers]
    known = [load for load in halves if load is not None]
    usual = max(known) if len(known) == len(halves) else None
    number = "?" if usual is None else str(min(_HIGHEST, round(usual * 100)))
    return Hour(f"{number:>2}{_mark(report, frozenset(numbers))}", usual)


def _mark(report: HoursReport, numbers: frozenset[int]) -> str:
    proposed = numbers <= report.advice.cells
    standing = report.standing
    if standing is None or not numbers & standing.cells:
        return "*" if proposed else " "
    if numbers & standing.busy:
        return "!"
    return "#" if proposed else "+"


def cell_text(report: HoursReport, number: int) -> str:
    """One half hour in words: ``Tue 02:30: usually 12 % of the peak, at most 20 %, in 8 of 8 weeks``."""
    cell = report.week.cells[number]
    when = f"{DAYS[number // CELLS_A_DAY]} {clock(number)}"
    if cell.usual is None or cell.highest is None:
        return f"{when}: not known"
    weeks = f"{len(cell.known)} of {len(cell.occurrences)} weeks"
    return f"{when}: usually {percent(cell.usual)} of the peak, at most {percent(cell.highest)}, known in {weeks}"
