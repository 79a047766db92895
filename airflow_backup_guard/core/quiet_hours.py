"""Windows to propose from a learned week, with the evidence, and how sure they are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.hours import (
    CELL_MINUTES,
    CELLS,
    CELLS_A_DAY,
    Cell,
    LoadWeek,
    clock,
)
from airflow_backup_guard.core.signals import signal_named
from airflow_backup_guard.core.weekly import DAYS
from airflow_backup_guard.errors import InvalidPlan

QUIET_BELOW = 0.25
"""Up to which share of the peak a half hour is quiet, by default."""

AT_LEAST = timedelta(hours=2)
"""How long a window must be to be proposed, by default."""

_SAME = 0.75  # nights that have at least this share in common become one window


class Sureness(str, Enum):
    """How far a proposal can be trusted, from least to most."""

    GUESS = "guess"
    LOW = "low"
    FAIR = "fair"
    HIGH = "high"


@dataclass(frozen=True)
class Proposal:
    """Windows at the same time on one or more days. Their load was at most ``below``, a share of the peak, in all of
    the ``known`` of ``weeks`` that tell; ``values`` are the highest of each signal, in its unit."""

    windows: str
    cells: tuple[int, ...]
    below: float
    known: int
    weeks: int
    values: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.windows}: {self.evidence}"

    @property
    def evidence(self) -> str:
        """For how many weeks it was below what."""
        all_of = f"in {self.known} of {self.weeks} {_plural('week', self.weeks)}"
        unknown = self.weeks - self.known
        rest = f" ({unknown} not known)" if unknown else ""
        return f"at most {percent_up(self.below)} of the peak {all_of}{rest}; {shown(self.values)}"


@dataclass(frozen=True)
class Advice:
    """The windows that were quiet in every week, as text for a plan; None with the reason ``why_none``."""

    calendar: OffPeakCalendar | None
    proposals: tuple[Proposal, ...]
    sureness: Sureness
    reasons: tuple[str, ...]
    why_none: str = ""

    @property
    def code(self) -> str:
        """What can be pasted into a DAG."""
        calendar = self.calendar
        return f'OffPeakCalendar.parse("{calendar}", tz="{calendar.tz}")' if calendar else ""

    @property
    def cells(self) -> frozenset[int]:
        """The half hours in it."""
        return frozenset(cell for proposal in self.proposals for cell in proposal.cells)


def advise(week: LoadWeek, quiet_below: float = QUIET_BELOW, at_least: timedelta = AT_LEAST) -> Advice:
    """Windows of at least that length in which every half hour was quiet in every week.

    ``quiet_below`` is a share of the peak. Raises :class:`InvalidPlan` for one that is none, and for a length of
    nothing or more than a day.
    """
    if not 0 < quiet_below < 1:
        raise InvalidPlan("quiet_below", quiet_below, "a share of the peak, more than 0 and less than 1")
    if not timedelta(0) < at_least <= timedelta(days=1):
        raise InvalidPlan("at_least", str(at_least), 'a duration up to "24h"')
    quiet = [cell.is_quiet(quiet_below) for cell in week.cells]
    fewest = math.ceil(at_least / timedelta(minutes=CELL_MINUTES))
    runs = [run for run in _runs(quiet) if run[1] - run[0] >= fewest]
    groups = _nights((run for run in runs if _is_night(run)), fewest)
    groups += _whole_days(run for run in runs if not _is_night(run))
    proposals = tuple(_proposal(week, group) for group in groups)
    if not proposals:
        return Advice(None, (), _sureness(week, week.cells, quiet_below)[0], (), _why_none(week, quiet_below, fewest))
    text = "; ".join(clause for group in groups for clause in _clauses(group))
    chosen = [week.cells[number] for proposal in proposals for number in proposal.cells]
    sureness, reasons = _sureness(week, chosen, quiet_below)
    return Advice(OffPeakCalendar.parse(text, tz=week.tz), proposals, sureness, reasons)


def parse_share(text: str, field: str = "quiet_below") -> float:
    """Read ``"25%"``; raises :class:`InvalidPlan` naming ``field``."""
    match = re.fullmatch(r"(\d{1,2}(?:\.\d+)?)\s*%", text.strip(), re.ASCII) if isinstance(text, str) else None
    if match is None or not float(match[1]):
        raise InvalidPlan(field, text, 'a share of the peak, such as "25%"')
    return float(match[1]) / 100


def percent(share: float) -> str:
    """``12 %``."""
    return f"{share * 100:.0f} %"


def percent_up(share: float) -> str:
    """The same, rounded up, so that it is true of what is at most that."""
    return f"{math.ceil(round(share * 100, 6))} %"


def shown(values: Mapping[str, float]) -> str:
    """``WAL written 1.2MB/s, commits 30/s``."""
    return ", ".join(f"{signal_named(name).title} {signal_named(name).show(value)}" for name, value in values.items())


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


# Windows from half hours


def _runs(quiet: Sequence[bool]) -> list[tuple[int, int]]:
    """Start and end of each unbroken run of the week, which has no end of its own; an end may be in the next week."""
    if all(quiet):
        return [(0, CELLS)]
    first = quiet.index(False)
    runs: list[tuple[int, int]] = []
    for number in range(first, first + CELLS):
        if not quiet[number % CELLS]:
            continue
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return [(start % CELLS, start % CELLS + end - start) for start, end in runs]


_Group = tuple[tuple[int, ...], int, int]
"""Days, and start and end in half hours from their midnight; the start may be in the evening before."""


def _is_night(run: tuple[int, int]) -> bool:
    return run[1] - run[0] < CELLS_A_DAY


def _whole_days(runs: Iterable[tuple[int, int]]) -> list[_Group]:
    """What lasts for a day or longer is cut at midnight, as no window is longer; days that are then alike are one."""
    days: dict[tuple[int, int], list[int]] = {}
    for start, end in runs:
        while start < end:
            day, of_day = divmod(start, CELLS_A_DAY)
            length = min(end - start, CELLS_A_DAY - of_day)
            days.setdefault((of_day, of_day + length), []).append(day % 7)
            start += length
    return [(tuple(sorted(some)), start, end) for (start, end), some in days.items()]


def _nights(stretches: Iterable[tuple[int, int]], fewest: int) -> list[_Group]:
    """Stretches of several days that are nearly the same become what they have in common, so that it can be read."""
    groups: list[tuple[list[int], int, int, int]] = []
    for first, last in sorted(stretches):
        day, start = divmod(first, CELLS_A_DAY)
        end = start + last - first
        if start >= CELLS_A_DAY // 2 and end > CELLS_A_DAY:  # an evening belongs to the night
            day, start, end = (day + 1) % 7, start - CELLS_A_DAY, end - CELLS_A_DAY
        for position, (days, one_start, one_end, longest) in enumerate(groups):
            common = (max(start, one_start), min(end, one_end))
            longer = max(longest, end - start)
            if day not in days and common[1] - common[0] >= max(_SAME * longer, min(fewest, longer)):
                groups[position] = ([*days, day], *common, longer)
                break
        else:
            groups.append(([day], start, end, end - start))
    return [(tuple(sorted(days)), start, end) for days, start, end, _ in groups]


def _clauses(group: _Group) -> Iterator[str]:
    days, start, end = group
    for day in days:
        day_of_start = (day + start // CELLS_A_DAY) % 7
        until = "24:00" if end == CELLS_A_DAY else clock(end)
        yield f"{DAYS[day_of_start]} {clock(start)}-{until}"


def _proposal(week: LoadWeek, group: _Group) -> Proposal:
    days, start, end = group
    numbers = tuple((day * CELLS_A_DAY + of_day) % CELLS for day in days for of_day in range(start, end))
    cells = [week.cells[number] for number in numbers]
    occurrences = [one for cell in cells for one in cell.occurrences]
    names = [name for name in week.scale.peak if any(name in one.values for one in occurrences)]
    least_known = min(cells, key=lambda cell: (len(cell.known), -len(cell.occurrences)))
    return Proposal(
        str(OffPeakCalendar.parse("; ".join(_clauses(group)), tz=week.tz)),
        numbers,
        max((cell.highest or 0.0 for cell in cells), default=0.0),
        len(least_known.known),
        len(least_known.occurrences),
        {name: max(one.values[name] for one in occurrences if name in one.values) for name in names},
    )


def _why_none(week: LoadWeek, quiet_below: float, fewest: int) -> str:
    loads = [cell.highest for cell in week.cells]
    half = [2 * len(cell.known) >= len(cell.occurrences) > 0 for cell in week.cells]
    known = [cell.number for cell in week.cells if half[cell.number]]
    if len(known) < CELLS // 2:
        return f"Only {len(known)} of {CELLS} half hours of the week are known: record for longer, every 5 minutes."
    best: tuple[float, int] | None = None
    for first in range(CELLS):
        numbers = [(first + offset) % CELLS for offset in range(fewest)]
        if all(half[number] for number in numbers):
            best = min(best or (math.inf, 0), (max(loads[number] or 0.0 for number in numbers), first))
    length = f"{fewest * CELL_MINUTES / 60:g} h"
    if best is None:
        return f"No {length} in a row are known whole: record every 5 minutes."
    load, first = best
    start, end = clock(first), clock(first + fewest)
    return (
        f"No {length} in a row stayed below {percent(quiet_below)} of the peak in every week. "
        f"The quietest begin {DAYS[first // CELLS_A_DAY]} {start}, until {end}: up to {percent_up(load)}."
    )


def _sureness(week: LoadWeek, cells: Sequence[Cell], quiet_below: float) -> tuple[Sureness, tuple[str, ...]]:
    """By weeks, coverage and how much the load of the same half hour varies from week to week."""
    coverage = week.coverage(cells)
    swing = max((_swing(cell) for cell in cells), default=0.0)
    reasons = (
        f"{week.weeks:.1f} weeks of data",
        f"{percent(coverage)} of these hours known",
        f"the same half hour varied by up to {percent_up(swing)} of the peak from week to week",
    )
    if week.weeks < 2:
        return Sureness.GUESS, ("less than two weeks of data, so this is a guess", *reasons[1:])
    if week.weeks >= 6 and coverage >= 0.9 and swing <= quiet_below / 2:
        return Sureness.HIGH, reasons
    return (Sureness.FAIR if week.weeks >= 4 and coverage >= 0.75 else Sureness.LOW), reasons


def _swing(cell: Cell) -> float:
    loads = [one.load for one in cell.occurrences if one.load is not None]
    return max(loads) - min(loads) if loads else 0.0
