"""The week ahead as a value: half hours, whatever the clocks do, over the load that was learned."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.core.hours import learn
from airflow_backup_guard.core.hours_report import HoursReport
from airflow_backup_guard.core.quiet_hours import advise
from airflow_backup_guard.core.week_ahead import WeekAhead
from airflow_backup_guard.core.window_drift import standing
from tests.load_weeks import NOW, record_weeks, shop_whose_batch_moved

UTC = timezone.utc
TZ = "America/Los_Angeles"
HALF = timedelta(minutes=30)
ZONES = ["UTC", TZ, "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"]
WINDOWS = ["daily 01:00-05:00", "daily 22:15-03:10", "Sat,Sun 00:00-24:00", "Mon 00:00-24:00", "Sun 01:45-02:20"]


def plan(windows: str, tz: str, blackouts: tuple[str, ...] = ()) -> BackupPlan:
    """A plan with these windows."""
    calendar = OffPeakCalendar.parse(windows, tz=tz, blackouts=blackouts)
    return BackupPlan(name="shop", connection="shop", repository="file:///srv/backups", calendar=calendar)


def midnight(day: date, tz: str) -> datetime:
    """When a day begins by the clock of ``tz``."""
    return pendulum.datetime(day.year, day.month, day.day, tz=tz)


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(ZONES),
    st.sampled_from(WINDOWS),
)
def test_the_half_hours_have_all_window_time_of_the_week(now: datetime, tz: str, windows: str) -> None:
    """Seven days of 48 half hours: what is open in them is what the calendar says, in weeks when clocks change, too."""
    found = plan(windows, tz)
    days = WeekAhead.of(found, None, now, None).days
    assert [len(day.half_hours) for day in days] == [48] * 7
    opened = sum((one.open for day in days for one in day.half_hours), timedelta())
    edges = midnight(days[0].day, tz), midnight(days[-1].day + timedelta(days=1), tz)
    assert opened == found.calendar.open_time(*edges)


def test_an_hour_that_the_clock_skips_has_no_time() -> None:
    """On the day that clocks go forward in Berlin, the hour from two is not there, and the next one is as usual."""
    now = datetime(2027, 3, 27, 12, tzinfo=UTC)
    sunday = WeekAhead.of(plan("daily 01:00-05:00", "Europe/Berlin"), None, now, None).days[1]
    assert [one.open for one in sunday.half_hours[1:9]] == [
        timedelta(0),
        HALF,
        HALF,
        *[timedelta(0)] * 2,
        HALF,
        HALF,
        HALF,
    ]


@pytest.mark.parametrize("always", [True, False])
def test_a_blackout_is_over_the_windows(always: bool) -> None:
    """What a blackout forbids is not open, and is told with its name."""
    made = plan("daily 00:00-24:00" if always else "daily 01:00-05:00", "UTC", ("2026-11-25 (launch)",))
    found = WeekAhead.of(made, None, NOW, None)
    launch = found.days[2]
    assert launch.day == date(2026, 11, 25)
    assert all((one.open, one.forbidden) == (timedelta(0), HALF) for one in launch.half_hours)
    assert [one.text for one in found.forbidden] == ["the blackout 2026-11-25 (launch)"]


def test_a_calendar_that_is_always_open_lists_no_windows() -> None:
    """Every half hour is open, and there is no list of windows without end."""
    found = WeekAhead.of(plan("daily 00:00-24:00", "UTC"), None, NOW, None)
    assert not found.windows
    assert {one.open for day in found.days for one in day.half_hours} == {HALF}


def test_load_lies_under_the_half_hours_of_its_weekday() -> None:
    """The days begin with today; each has the load of its own weekday, and windows that drifted are conflicts."""
    made = plan("daily 01:00-05:00", TZ)
    week = learn(record_weeks(8, shop_whose_batch_moved), TZ, NOW)
    assert week is not None
    hours = HoursReport("shop", week, advise(week), made.calendar, standing(week, made.calendar))
    found = WeekAhead.of(made, hours, NOW, None)
    monday, tuesday = found.days[:2]
    assert monday.day.weekday() == 0
    busy = [one.clock for one in tuesday.half_hours if one.busy]
    assert busy == ["02:00", "02:30"]
    assert monday.half_hours[24].load == week.cells[24].usual
    assert tuesday.half_hours[24].load == week.cells[48 + 24].usual
    (said,) = found.conflicts
    assert "no longer quiet on Tuesdays from 02:00 to 03:00" in said
    document = found.to_dict()
    assert document["days"][1]["half_hours"][4] == {
        "clock": "02:00",
        "open": 30.0,
        "forbidden": 0.0,
        "load": week.cells[48 + 4].usual,
        "busy": True,
    }
