"""Whether the windows of a plan are still quiet, held against a learned week."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from statistics import median

from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.hours import (
    CELL_MINUTES,
    CELLS_A_DAY,
    LoadWeek,
    Occurrence,
    cell_of,
    clock,
    zone_named,
)
from airflow_backup_guard.core.quiet_hours import QUIET_BELOW, percent
from airflow_backup_guard.core.signals import signal_named
from airflow_backup_guard.core.weekly import DAYS

RECENT_WEEKS = 3
"""How many weeks count as now."""

_FEWEST = 2
_NAMES = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


@dataclass(frozen=True)
class Drift:
    """Half hours of a window that are not quiet any more, from ``start`` to ``end`` (``02:30``) on some ``days``.

    ``window`` is when that window begins. ``signal`` decides; ``recent`` is its median, in its unit, over the last
    ``times``, and ``load`` that as a share of the peak. ``others`` is its median elsewhere, as ``against`` says; None
    if there is nothing to compare with. ``was_quiet`` tells whether these half hours were quiet in the weeks before.
    """

    window: str
    days: tuple[str, ...]
    start: str
    end: str
    cells: tuple[int, ...]
    signal: str
    recent: float
    load: float
    times: int
    others: float | None
    against: str
    was_quiet: bool

    def __str__(self) -> str:
        signal = signal_named(self.signal)
        names = [_NAMES[DAYS.index(day)] for day in self.days]
        days = "on " + " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        if len(names) == len(DAYS):
            days = "every day"
        verdict = "is no longer quiet" if self.was_quiet else "is not quiet"
        elsewhere = f", against {signal.show(self.others)} {self.against}" if self.others is not None else ""
        return (
            f"Your {self.window} window {verdict} {days} from {self.start} to {self.end}: median {signal.title} "
            f"{signal.show(self.recent)} the last {self.times} times ({percent(self.load)} of the peak){elsewhere}."
        )


@dataclass(frozen=True)
class Standing:
    """How the windows of a plan stand: ``cells`` are their half hours, ``unknown`` those of them that are not known."""

    cells: frozenset[int]
    drifts: tuple[Drift, ...]
    unknown: tuple[int, ...]

    @property
    def busy(self) -> frozenset[int]:
        """The half hours that are not quiet."""
        return frozenset(cell for drift in self.drifts for cell in drift.cells)

    @property
    def unknown_text(self) -> str:
        """``Sat 01:00-03:00, Sun 01:00-03:00``."""
        return ", ".join(f"{DAYS[day]} {clock(start)}-{_end(end)}" for day, start, end in _stretches(self.unknown))


def standing(week: LoadWeek, calendar: OffPeakCalendar, quiet_below: float = QUIET_BELOW) -> Standing:
    """Hold a calendar's windows of the last three weeks, blackouts left out, against the load in them.

    A half hour is not quiet if the median of its load was above ``quiet_below``, a share of the peak, over at least two
    times; one night is none of a drift. It is unknown if it is not known whole for any of them.
    """
    inside = _inside(week, calendar)
    recent = {
        number: [one for one in week.cells[number].occurrences if (one.day, number) in inside]
        for number in sorted({number for _, number in inside})
    }
    busy = {number for number, found in recent.items() if _is_busy(found, quiet_below)}
    alike: dict[tuple[int, int, str], list[int]] = {}
    for day, start, end in _stretches(busy):
        window = inside[max(key for key in inside if key[1] == day * CELLS_A_DAY + start)]
        alike.setdefault((start, end, window), []).append(day)
    drifts = [
        _drift(week, recent, busy, window, days, range(start, end), quiet_below)
        for (start, end, window), days in alike.items()
    ]
    unknown = (n for n, found in recent.items() if n not in busy and all(one.unknown for one in found))
    return Standing(frozenset(recent), tuple(drifts), tuple(unknown))


def _inside(week: LoadWeek, calendar: OffPeakCalendar) -> dict[tuple[date, int], str]:
    """Day and number of each half hour in which a window was open, if only in part, and when that window began."""
    since, zone = week.until - timedelta(weeks=RECENT_WEEKS), zone_named(week.tz)
    inside: dict[tuple[date, int], str] = {}
    # A window is cut off where the question begins, so that it would seem to begin there.
    for window in calendar.windows(since - timedelta(weeks=1), week.until):
        # Plain datetimes: pendulum's own forget their zone when something is added to them in datetime's UTC.
        start, end = (datetime.fromtimestamp(edge.timestamp(), timezone.utc) for edge in window)
        moments, moment = [end - timedelta(seconds=1)], start
        while moment < end:
            moments.append(moment)
            moment += timedelta(minutes=CELL_MINUTES)
        began = f"{start.astimezone(zone):%H:%M}"
        inside.update({cell_of(moment, zone): began for moment in moments if moment >= since})
    return inside


def _is_busy(found: Sequence[Occurrence], quiet_below: float) -> bool:
    loads = [one.load for one in found if one.load is not None]
    return len(loads) >= _FEWEST and median(loads) > quiet_below


def _drift(
    week: LoadWeek,
    recent: dict[int, list[Occurrence]],
    busy: set[int],
    window: str,
    days: Sequence[int],
    of_day: range,
    quiet_below: float,
) -> Drift:
    cells = [day * CELLS_A_DAY + offset for day in days for offset in of_day]
    now = [one for number in cells for one in recent[number]]
    medians = {name: _median(now, name) for name in week.scale.peak}
    load, signal = week.scale.load({name: value for name, value in medians.items() if value is not None}) or (0.0, "")
    earlier = [one for number in cells for one in week.cells[number].occurrences if one not in recent[number]]
    elsewhere = [
        one
        for number, found in recent.items()
        if number not in busy and number % CELLS_A_DAY in of_day
        for one in found
    ]
    loads = [one.load for one in earlier if one.load is not None]
    was_quiet = bool(loads) and median(loads) <= quiet_below
    others, against = _median(elsewhere, signal), "on the other days"
    if others is None and was_quiet:
        others, against = _median(earlier, signal), "in the weeks before"
    return Drift(
        window,
        tuple(DAYS[day] for day in sorted(days)),
        clock(of_day.start),
        _end(of_day.stop),
        tuple(cells),
        signal,
        medians[signal] or 0.0,
        load,
        len({one.day for one in now}),
        others,
        against if others is not None else "",
        was_quiet,
    )


def _median(occurrences: Iterable[Occurrence], signal: str) -> float | None:
    values = [one.values[signal] for one in occurrences if signal in one.values]
    return median(values) if values else None


def _stretches(numbers: Iterable[int]) -> list[tuple[int, int, int]]:
    """Day, and start and end in half hours of it, of each run of half hours that follow each other on a day."""
    found: list[tuple[int, int, int]] = []
    for number in sorted(numbers):
        day, offset = divmod(number, CELLS_A_DAY)
        if found and found[-1][0] == day and found[-1][2] == offset:
            found[-1] = (day, found[-1][1], offset + 1)
        else:
            found.append((day, offset, offset + 1))
    return found


def _end(offset: int) -> str:
    return "24:00" if offset == CELLS_A_DAY else clock(offset)
