"""What a plan's calendar holds in store: the next window, changes of clocks, windows that cannot keep its promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from typing import Any

from airflow_backup_guard.core.calendar import OffPeakCalendar, Window
from airflow_backup_guard.core.hours import zone_named
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.units import format_duration, whole_seconds

CLOCKS_AHEAD = timedelta(days=200)
"""How far changes of clocks are looked for: one of each year's two is always within it."""

CONFLICTS_AHEAD = timedelta(days=35)
"""How far windows are held against the promises of a plan."""

_DAY = timedelta(days=1)
_MOST_NAMED = 3


@dataclass(frozen=True)
class NextWindow:
    """Whether a backup may start now, and until when, or when it may next; ``text`` says why not."""

    open: bool
    end: datetime | None
    next_start: datetime | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "open": self.open,
            "end": self.end and self.end.isoformat(),
            "next_start": self.next_start and self.next_start.isoformat(),
            "text": self.text,
        }


@dataclass(frozen=True)
class ClockChange:
    """Clocks of ``tz`` change at ``at``, by ``shift``; ``windows`` is how much more window time that day has."""

    at: datetime
    tz: str
    shift: timedelta
    windows: timedelta

    def __str__(self) -> str:
        way = "forward" if self.shift > timedelta(0) else "back"
        text = f"{self.at:%a %Y-%m-%d}: clocks of {self.tz} go {way} by {format_duration(abs(self.shift))}"
        if not self.windows:
            return f"{text}; windows stay as long as they are"
        more = "longer" if self.windows > timedelta(0) else "shorter"
        return f"{text}; windows of that day are {format_duration(abs(self.windows))} {more}"


def next_window(calendar: OffPeakCalendar, now: datetime) -> NextWindow:
    """How the calendar stands at ``now``."""
    if calendar.always_open:
        return NextWindow(True, None, None, "always open")
    end, following = calendar.window_end(now), calendar.next_start(now)
    if end is not None:
        return NextWindow(True, end, following, f"open until {end:%a %Y-%m-%d %H:%M} ({calendar.tz})")
    return NextWindow(False, None, following, "; ".join(reason.text for reason in calendar.why_closed(now)))


def clock_changes(calendar: OffPeakCalendar, now: datetime, ahead: timedelta = CLOCKS_AHEAD) -> list[ClockChange]:
    """The changes of clocks in the calendar's time zone from ``now`` on, in order; of windows, without blackouts."""
    zone = zone_named(calendar.tz)
    # A blackout of that day, or of the day that it is compared with, is no matter of clocks.
    weekly = replace(calendar, blackouts=(), holidays=(), sources=(), readings=())
    first = now.astimezone(timezone.utc).replace(second=0, microsecond=0)
    days = [first + number * _DAY for number in range(ahead // _DAY + 1)]
    return [
        _change(weekly, zone, _moment_of_change(zone, earlier, later))
        for earlier, later in pairwise(days)
        if _offset(zone, earlier) != _offset(zone, later)
    ]


def conflicts(plan: BackupPlan, now: datetime, last_took: timedelta | None) -> Iterator[str]:
    """Why the plan's windows cannot keep what it promises, in words; ``last_took`` is how long its last backup took.

    A backup counts from its snapshot, so that windows which begin further apart than the RPO must miss it.
    """
    if plan.calendar.always_open:
        return
    windows = list(plan.calendar.windows(now, now + CONFLICTS_AHEAD))
    if not windows:
        yield f"No window opens within {CONFLICTS_AHEAD.days} days."
        return
    if plan.rpo is not None:
        apart = [(first, second) for first, second in pairwise(windows) if _apart(first, second) > plan.rpo]
        if apart:
            yield _too_far_apart(plan.rpo, apart)
    if last_took is not None:
        # The window that is open now is a part of one only.
        short = [one for one in windows if one.start > now and _utc(one.end) - _utc(one.start) < last_took]
        if short:
            took, named = whole_seconds(last_took, least=1), _named(short)
            yield f"The last backup took {took}, which is longer than {len(short)} of the windows to come: {named}."


def _too_far_apart(rpo: timedelta, apart: Sequence[tuple[Window, Window]]) -> str:
    first, second = apart[0]
    times = f", and so {len(apart)} times in {CONFLICTS_AHEAD.days} days" if len(apart) > 1 else ""
    between = f"{first.start:%a %Y-%m-%d %H:%M} and {second.start:%a %Y-%m-%d %H:%M}"
    return (
        f"Windows begin at {between}, {whole_seconds(_apart(first, second))} apart{times}: the RPO of "
        f"{format_duration(rpo)} cannot be kept."
    )


def _named(windows: Sequence[Window]) -> str:
    named = ", ".join(f"{one.start:%a %Y-%m-%d %H:%M}" for one in windows[:_MOST_NAMED])
    return named if len(windows) <= _MOST_NAMED else f"{named} and {len(windows) - _MOST_NAMED} more"


def _apart(first: Window, second: Window) -> timedelta:
    return _utc(second.start) - _utc(first.start)


def _change(calendar: OffPeakCalendar, zone: tzinfo, at: datetime) -> ClockChange:
    shift = _offset(zone, at) - _offset(zone, at - timedelta(minutes=1))
    local = at.astimezone(zone)
    midnight = local.replace(hour=0, minute=0, tzinfo=None)
    day = tuple(edge.replace(tzinfo=zone) for edge in (midnight, midnight + _DAY))
    usual = tuple((midnight + days * _DAY).replace(tzinfo=zone) for days in (7, 8))
    return ClockChange(local, calendar.tz, shift, calendar.open_time(*day) - calendar.open_time(*usual))


def _moment_of_change(zone: tzinfo, earlier: datetime, later: datetime) -> datetime:
    """The first minute with the later offset."""
    before = _offset(zone, earlier)
    while later - earlier > timedelta(minutes=1):
        middle = earlier + (later - earlier) // timedelta(minutes=2) * timedelta(minutes=1)
        earlier, later = (middle, later) if _offset(zone, middle) == before else (earlier, middle)
    return later


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc)
