"""Whether a run may start now: the window it was due in, and how much of a window must be left for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_backup_guard.core.calendar import OffPeakCalendar, Window
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.units import whole_seconds

_HORIZON = timedelta(days=366)
_ASK_AGAIN = timedelta(minutes=5)


@dataclass(frozen=True)
class WindowReading:
    """What the calendar says of a run at one moment.

    ``late``: it cannot start now, and the window that it was due in has closed, or has too little left.
    ``next_start`` is when it can start, None if it can now, or not within a year.
    """

    opened: bool
    late: bool
    window_end: datetime | None
    next_start: datetime | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for XCom and reports."""
        return {
            "gate": "off-peak",
            "opened": self.opened,
            "window_end": self.window_end and self.window_end.isoformat(),
            "text": self.text,
        }


def time_needed(
    plan: BackupPlan, now: datetime, last_took: timedelta | None, calendar: OffPeakCalendar | None = None
) -> timedelta:
    """How much of a window must be left for a backup to start; ``last_took`` is how long the last one took.

    ``calendar`` is the plan's own unless its sources were read. A forecast that is longer than every window of the year
    to come counts as none: waiting would be in vain, and ``at_window_end`` says what becomes of the copy.
    """
    if isinstance(plan.min_remaining, timedelta):
        return plan.min_remaining
    if plan.min_remaining is None or last_took is None or _next_with(calendar or plan.calendar, now, last_took) is None:
        return timedelta(0)
    return last_took


def read_calendar(calendar: OffPeakCalendar, now: datetime, due: datetime, needed: timedelta) -> WindowReading:
    """Hold the present moment against the calendar, for a run that was ``due`` then, and needs ``needed`` of a window.

    A run that can start now is not late, whatever it was due in: what matters is when the database is read.
    """
    end = calendar.window_end(now)
    here = f"{calendar} ({calendar.tz})"
    if end is not None and _between(now, end) >= needed:
        until = "which never closes" if calendar.always_open else f"until {end}"
        if needed and not calendar.always_open:
            until += f"; {whole_seconds(_between(now, end))} are left, and {whole_seconds(needed)} needed"
        return WindowReading(True, False, end, None, f"inside of {here}, {until}")
    found = _next_with(calendar, now, needed)
    late, missed = _missed(calendar, now, due, needed)
    text = "; ".join(closed.text for closed in calendar.why_closed(now))
    if end is not None:
        left = whole_seconds(_between(now, end))
        text = f"inside of {here}, but only {left} are left, and {whole_seconds(needed)} needed"
    elif late:
        text += f"; the window that this run was due in closed {missed}"
    if found is None:
        return WindowReading(False, late, end, None, f"{text}; no window within a year leaves {whole_seconds(needed)}")
    if end is None and found.start <= now:
        # A window is open as far as is known, but what a calendar of others forbids is not known.
        text += f"; it is asked again in {whole_seconds(_ASK_AGAIN)}"
        return WindowReading(False, late, None, now + _ASK_AGAIN, text)
    return WindowReading(False, late, end, found.start, f"{text}; the next window opens {found.start}")


def _missed(calendar: OffPeakCalendar, now: datetime, due: datetime, needed: timedelta) -> tuple[bool, datetime | None]:
    """Whether the window that a run was due in can no longer take it, and when that closes."""
    end = calendar.window_end(due)
    if end is None:
        coming = _next_with(calendar, due, needed)
        end = coming and coming.end
    return end is not None and _between(now, end) < max(needed, timedelta.resolution), end


def _next_with(calendar: OffPeakCalendar, moment: datetime, needed: timedelta) -> Window | None:
    """The first stretch of window time from ``moment`` on that is as long as that, within a year."""
    windows = calendar.windows(moment, moment + _HORIZON)
    return next((window for window in windows if _between(window.start, window.end) >= needed), None)


def _between(start: datetime, end: datetime) -> timedelta:
    # In UTC: within one zone, Python takes the difference of what clocks on the wall show.
    return end.astimezone(timezone.utc) - start.astimezone(timezone.utc)
