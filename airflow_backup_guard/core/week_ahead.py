"""The seven days to come, half hour by half hour: windows and blackouts of a calendar, over the usual load of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any

from airflow_backup_guard.core.agenda import CLOCKS_AHEAD, ClockChange, clock_changes, conflicts
from airflow_backup_guard.core.calendar import Forbidden, OffPeakCalendar, Window
from airflow_backup_guard.core.fleet import Problem
from airflow_backup_guard.core.hours import CELL_MINUTES, CELLS_A_DAY, clock, zone_named
from airflow_backup_guard.core.hours_report import HoursReport
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.weekly import DAYS

AHEAD = timedelta(days=14)
"""How far windows and blackouts are listed."""

_DAYS = 7
_CELL = timedelta(minutes=CELL_MINUTES)


@dataclass(frozen=True)
class HalfHour:
    """A half hour of one day: ``clock`` is when it begins (``02:30``), ``open`` and ``forbidden`` for how much of it a
    window is open, and a blackout forbids.

    ``load`` is the usual one as a share of the peak, None if it is not known. ``busy``: within a window, and not quiet.
    """

    clock: str
    open: timedelta
    forbidden: timedelta
    load: float | None = None
    busy: bool = False


@dataclass(frozen=True)
class DayAhead:
    """One day, of 48 half hours whatever its clocks do: one that they skip has no time in it."""

    day: date
    half_hours: tuple[HalfHour, ...]


@dataclass(frozen=True)
class WeekAhead:
    """What a plan's calendar has in store; ``hours`` is what is known of its load, None if nothing was recorded."""

    plan_name: str
    calendar: OffPeakCalendar
    days: tuple[DayAhead, ...]
    windows: tuple[Window, ...]
    forbidden: tuple[Forbidden, ...]
    clocks: tuple[ClockChange, ...]
    conflicts: tuple[str, ...]
    hours: HoursReport | None
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(
        cls,
        plan: BackupPlan,
        hours: HoursReport | None,
        now: datetime,
        last_took: timedelta | None,
        problems: Sequence[Problem] = (),
    ) -> WeekAhead:
        """As it is seen at ``now``; ``hours`` must be by the clock of the plan's calendar."""
        calendar = plan.calendar
        # A calendar that is always open has no windows to list.
        windows = () if calendar.always_open else calendar.windows(now, now + AHEAD)
        drifts = hours.standing.drifts if hours is not None and hours.standing is not None else ()
        return cls(
            plan_name=plan.name,
            calendar=calendar,
            days=tuple(_days(calendar, hours, now)),
            windows=tuple(windows),
            forbidden=tuple(calendar.forbidden(now, now + AHEAD)),
            clocks=tuple(clock_changes(calendar, now, CLOCKS_AHEAD)),
            conflicts=(*conflicts(plan, now, last_took), *map(str, drifts)),
            hours=hours,
            problems=tuple(problems),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; loads are shares of the peak, times of half hours in minutes."""
        return {
            "plan_name": self.plan_name,
            "calendar": str(self.calendar),
            "tz": self.calendar.tz,
            "always_open": self.calendar.always_open,
            "days": [
                {
                    "day": day.day.isoformat(),
                    "name": DAYS[day.day.weekday()],
                    "half_hours": [
                        {
                            "clock": one.clock,
                            "open": one.open / timedelta(minutes=1),
                            "forbidden": one.forbidden / timedelta(minutes=1),
                            "load": one.load,
                            "busy": one.busy,
                        }
                        for one in day.half_hours
                    ],
                }
                for day in self.days
            ],
            "windows": [{"start": one.start.isoformat(), "end": one.end.isoformat()} for one in self.windows],
            "forbidden": [
                {
                    "start": one.start.isoformat(),
                    "end": one.end.isoformat(),
                    "because": one.because.value,
                    "text": one.text,
                }
                for one in self.forbidden
            ],
            "clocks": [{"at": one.at.isoformat(), "text": str(one)} for one in self.clocks],
            "conflicts": list(self.conflicts),
            "about": self.hours and self.hours.about,
            "verdict": self.hours and self.hours.verdict(),
            "problems": [{"message": one.message, "remedy": one.remedy} for one in self.problems],
        }


def _days(calendar: OffPeakCalendar, hours: HoursReport | None, now: datetime) -> Iterator[DayAhead]:
    zone = zone_named(calendar.tz)
    first = now.astimezone(zone).date()
    edges = [_utc(first, zone) - timedelta(hours=2), _utc(first + timedelta(days=_DAYS), zone) + timedelta(hours=2)]
    opened = [(_to_utc(one.start), _to_utc(one.end)) for one in calendar.windows(*edges)]
    forbidden = [(_to_utc(one.start), _to_utc(one.end)) for one in calendar.forbidden(*edges)]
    busy = hours.standing.busy if hours is not None and hours.standing is not None else frozenset()
    for number in range(_DAYS):
        day = first + timedelta(days=number)
        yield DayAhead(
            day,
            tuple(
                HalfHour(
                    clock(of_day),
                    _overlap(start, end, opened),
                    _overlap(start, end, forbidden),
                    hours.week.cells[cell].usual if hours is not None else None,
                    cell in busy,
                )
                for of_day, (start, end) in enumerate(_half_hours(day, zone))
                for cell in [day.weekday() * CELLS_A_DAY + of_day]
            ),
        )


def _half_hours(day: date, zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
    """From when to when each half hour of a day is, in UTC: one that is shown twice is both and what lies between."""
    for of_day in range(CELLS_A_DAY):
        begins = datetime.combine(day, time()) + of_day * _CELL
        start, end = (edge.replace(tzinfo=zone).astimezone(timezone.utc) for edge in (begins, begins + _CELL))
        skipped = start.astimezone(zone).replace(tzinfo=None) != begins
        yield start, start if skipped else end


def _overlap(start: datetime, end: datetime, stretches: Sequence[tuple[datetime, datetime]]) -> timedelta:
    """For how much of the time from ``start`` to ``end`` one of some stretches, which may overlap, holds."""
    total, reached = timedelta(0), start
    for opening, closing in sorted(stretches):
        opening, closing = max(opening, reached), min(closing, end)
        if opening < closing:
            total, reached = total + (closing - opening), closing
    return total


def _utc(day: date, zone: tzinfo) -> datetime:
    return _to_utc(datetime.combine(day, time(), zone))


def _to_utc(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp(), timezone.utc)
