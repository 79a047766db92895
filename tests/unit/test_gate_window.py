"""The gate on the calendar: whether a run may start now, and whether it is too late for the window it was due in."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.core.due import WindowReading, read_calendar, time_needed

NIGHTS = OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC")
ALWAYS = OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC")
HALF_HOUR = timedelta(minutes=30)


def at(hour: int, minute: int = 0, day: int = 10) -> datetime:
    """A moment of March 2026 in UTC."""
    return datetime(2026, 3, day, hour, minute, tzinfo=timezone.utc)


def read(now: datetime, due: datetime, needed: timedelta = HALF_HOUR) -> WindowReading:
    """The reading of a calendar that is open from one to five."""
    return read_calendar(NIGHTS, now, due, needed)


@pytest.mark.parametrize(
    ("now", "due", "opened", "late", "next_start"),
    [
        (at(1), at(1), True, False, None),
        (at(4, 30), at(1), True, False, None),
        (at(4, 31), at(1), False, True, at(1, day=11)),
        (at(6), at(1), False, True, at(1, day=11)),
        (at(0, 30), at(0, 30), False, False, at(1)),
        (at(2), at(0, 30), True, False, None),
        (at(6), at(0, 30), False, True, at(1, day=11)),
        (at(4, 50), at(4, 50), False, True, at(1, day=11)),
        (at(12), at(12), False, False, at(1, day=11)),
        (at(2), at(1, day=3), True, False, None),
        (at(12), at(1, day=3), False, True, at(1, day=11)),
    ],
    ids=[
        "at its start",
        "just enough left",
        "too little left",
        "the window is over",
        "early",
        "due before, started within",
        "due before, started after",
        "due when too little was left",
        "triggered by day",
        "of another night, but it can start",
        "of another night, and it cannot",
    ],
)
def test_when_a_run_may_start(now: datetime, due: datetime, opened: bool, late: bool, next_start: Any) -> None:
    """Open while enough is left; late once the window it was due in cannot take it."""
    reading = read(now, due)
    assert (reading.opened, reading.late, reading.next_start) == (opened, late, next_start)
    assert reading.to_dict()["opened"] is opened


def test_without_a_need_any_moment_of_a_window_will_do() -> None:
    """As long as it is one."""
    assert read(at(4, 59), at(1), timedelta(0)).opened
    reading = read(at(5), at(1), timedelta(0))
    assert not reading.opened
    assert reading.late


def test_the_text_says_what_is_left_and_what_was_missed() -> None:
    """Whoever reads it in a log needs no calendar."""
    assert read(at(4), at(1)).text.endswith("until 2026-03-10 05:00:00+00:00; 1h are left, and 30min needed")
    assert "inside of daily 01:00-05:00 (UTC), but only 10min are left, and 30min needed" in read(at(4, 50), at(1)).text
    text = read(at(12), at(1)).text
    assert "outside of" in text
    assert "the window that this run was due in closed 2026-03-10 05:00:00+00:00" in text
    assert "the next window opens 2026-03-11 01:00:00+00:00" in text
    assert "was due in" not in read(at(12), at(12)).text


def test_windows_that_are_too_short_are_passed_over() -> None:
    """The weekend's window is the first that is long enough; what is in no window of a year is said to be."""
    calendar = OffPeakCalendar.parse("Mon-Fri 01:00-02:00; Sat 01:00-09:00", tz="UTC")
    reading = read_calendar(calendar, at(1), at(1), timedelta(hours=3))  # a Tuesday
    assert (reading.opened, reading.late, reading.next_start) == (False, True, at(1, day=14))
    never = read_calendar(calendar, at(1), at(1), timedelta(hours=9))
    assert (never.opened, never.next_start) == (False, None)
    assert "no window within a year leaves 9h" in never.text


def test_a_calendar_that_never_closes_is_always_in_time() -> None:
    """However long it takes, and whenever it was due."""
    reading = read_calendar(ALWAYS, at(12), at(1, day=1), timedelta(days=300))
    assert reading.opened
    assert "which never closes" in reading.text


def test_the_night_of_the_clock_change_counts_real_hours() -> None:
    """In New York, 00:30 to 03:30 is two hours on March 8, 2026, and four on November 1."""
    calendar = OffPeakCalendar.parse("daily 00:30-03:30", tz="America/New_York")
    spring = datetime(2026, 3, 8, 5, 30, tzinfo=timezone.utc)
    assert not read_calendar(calendar, spring, spring, timedelta(hours=2, seconds=1)).opened
    assert read_calendar(calendar, spring, spring, timedelta(hours=2)).opened
    autumn = datetime(2026, 11, 1, 4, 30, tzinfo=timezone.utc)
    assert read_calendar(calendar, autumn, autumn, timedelta(hours=4)).opened


def plan(min_remaining: Any) -> BackupPlan:
    """A plan for the nights."""
    return BackupPlan(
        name="shop", connection="shop", repository="file:///srv", calendar=NIGHTS, min_remaining=min_remaining
    )


@pytest.mark.parametrize(
    ("given", "last", "needed"),
    [
        (None, timedelta(hours=2), timedelta(0)),
        ("30m", timedelta(hours=2), HALF_HOUR),
        ("forecast", timedelta(hours=2), timedelta(hours=2)),
        ("forecast", None, timedelta(0)),
        ("forecast", timedelta(hours=4), timedelta(hours=4)),
        ("forecast", timedelta(hours=5), timedelta(0)),
    ],
)
def test_how_much_time_is_needed(given: Any, last: timedelta | None, needed: timedelta) -> None:
    """What the plan says, or what the last backup took, unless no window is as long as that."""
    assert time_needed(plan(given), at(12), last) == needed


MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(timezone.utc))
CALENDARS = st.sampled_from(
    [
        NIGHTS,
        OffPeakCalendar.parse("Mon-Fri 01:00-02:00; Sat 22:00-09:00", tz="Australia/Lord_Howe"),
        OffPeakCalendar.parse("daily 00:30-03:30", tz="America/New_York"),
    ]
)


@given(CALENDARS, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)), st.timedeltas(timedelta(0), HALF_HOUR * 4))
def test_what_is_promised_holds(calendar: OffPeakCalendar, now: datetime, age: timedelta, needed: timedelta) -> None:
    """Open means that enough is left; closed means that it opens at ``next_start``; nothing is both open and late."""
    reading = read_calendar(calendar, now, now - age, needed)
    end = calendar.window_end(now)
    left = end.astimezone(timezone.utc) - now if end is not None else None
    assert reading.opened == (left is not None and left >= needed)
    assert not (reading.opened and reading.late)
    if reading.next_start is not None:
        assert reading.next_start.astimezone(timezone.utc) > now
        assert read_calendar(calendar, reading.next_start, now - age, needed).opened


def test_a_calendar_of_others_that_is_not_known_keeps_the_gate_closed_and_is_asked_again() -> None:
    """Within a window: not late, not open, and neither looked at again at once nor left to the next night."""
    calendar = OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC", blackouts=["https://example.com/maintenance.ics"])
    reading = read_calendar(calendar, at(2), at(1), HALF_HOUR)
    assert not reading.opened
    assert not reading.late
    assert reading.next_start == at(2, 5)
    assert "maintenance.ics" in reading.text
    outside = read_calendar(calendar, at(6), at(6), HALF_HOUR)
    assert outside.next_start == at(1, day=11)
