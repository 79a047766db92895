"""What a calendar holds in store: the next window, clocks that change, promises that its windows cannot keep."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.core.agenda import CLOCKS_AHEAD, clock_changes, conflicts, next_window

UTC = timezone.utc
NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)  # a Tuesday
HOUR = timedelta(hours=1)


def plan(windows: str, tz: str = "UTC", blackouts: tuple[str, ...] = (), rpo: str | None = None) -> BackupPlan:
    """A plan with these windows."""
    calendar = OffPeakCalendar.parse(windows, tz=tz, blackouts=blackouts)
    return BackupPlan(name="shop", connection="shop", repository="file:///srv/backups", calendar=calendar, rpo=rpo)


def test_the_next_window_says_why_it_is_not_open() -> None:
    """In a window its end is told, outside of it when the next opens and why it is closed now."""
    calendar = plan("daily 01:00-05:00").calendar
    closed = next_window(calendar, NOW)
    assert (closed.open, closed.next_start) == (False, datetime(2026, 11, 25, 1, tzinfo=UTC))
    assert "outside of daily 01:00-05:00" in closed.text
    opened = next_window(calendar, datetime(2026, 11, 25, 2, tzinfo=UTC))
    assert (opened.open, opened.end) == (True, datetime(2026, 11, 25, 5, tzinfo=UTC))
    assert next_window(plan("daily 00:00-24:00").calendar, NOW).to_dict()["open"] is True


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ("daily 01:00-05:00", "windows of that day are 1h shorter"),
        ("Mon-Sat 01:00-05:00", "windows stay as long as they are"),
        ("daily 12:00-13:00", "windows stay as long as they are"),
    ],
)
def test_a_change_of_clocks_says_what_it_does_to_windows(windows: str, said: str) -> None:
    """Of the hour that is skipped in Berlin, those windows lose one that are open then."""
    (found,) = clock_changes(plan(windows, "Europe/Berlin").calendar, NOW)
    assert found.at.astimezone(UTC) == datetime(2027, 3, 28, 1, tzinfo=UTC)
    assert str(found) == f"Sun 2027-03-28: clocks of Europe/Berlin go forward by 1h; {said}"


def test_a_blackout_is_no_change_of_clocks() -> None:
    """A blackout on the day of the change, or a week later, does not count as what the clocks do."""
    calendar = plan("daily 12:00-13:00", "Europe/Berlin", blackouts=("2027-03-28", "2027-04-04")).calendar
    (found,) = clock_changes(calendar, NOW)
    assert found.windows == timedelta(0)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["UTC", "America/Los_Angeles", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tehran"]),
)
def test_every_change_of_clocks_is_found_at_its_minute(now: datetime, tz: str) -> None:
    """At each moment that is told the clock jumps by what is told, and between two of them it does not jump."""
    calendar = plan("daily 01:00-05:00", tz).calendar
    zone = pendulum.timezone(tz)
    found = clock_changes(calendar, now)
    for change in found:
        at = change.at.astimezone(UTC)
        before, after = ((at + step).astimezone(zone).utcoffset() for step in (-timedelta(minutes=1), timedelta(0)))
        assert before is not None
        assert after is not None
        assert after - before == change.shift != timedelta(0)
    total = sum((change.shift for change in found), timedelta(0))
    minute = now.replace(second=0, microsecond=0)
    ends = [(minute + step).astimezone(zone).utcoffset() for step in (timedelta(0), CLOCKS_AHEAD)]
    assert ends[1] is not None
    assert ends[0] is not None
    assert ends[1] - ends[0] == total


def test_windows_too_far_apart_cannot_keep_the_rpo() -> None:
    """Weekly windows and an RPO of a day are a conflict; daily ones are none; no RPO is none."""
    (said,) = conflicts(plan("Sat 01:00-05:00", rpo="26h"), NOW, None)
    assert said == (
        "Windows begin at Sat 2026-11-28 01:00 and Sat 2026-12-05 01:00, 7d apart, and so 4 times in 35 days: "
        "the RPO of 1d 2h cannot be kept."
    )
    assert not list(conflicts(plan("daily 01:00-05:00", rpo="26h"), NOW, None))
    assert not list(conflicts(plan("Sat 01:00-05:00"), NOW, None))


def test_a_blackout_may_cost_the_rpo() -> None:
    """A blackout over one night of a daily window is named with the windows around it."""
    (said,) = conflicts(plan("daily 01:00-05:00", blackouts=("2026-11-27",), rpo="26h"), NOW, None)
    assert "Thu 2026-11-26 01:00 and Sat 2026-11-28 01:00, 2d apart: " in said


def test_a_backup_longer_than_its_windows_is_a_conflict() -> None:
    """Windows that are shorter than the last backup took are named, the first three; the open one is not judged."""
    found = plan("daily 01:00-02:00; Sat,Sun 10:00-18:00")
    (said,) = conflicts(found, NOW, 2 * HOUR)
    assert "longer than 35 of the windows to come: Wed 2026-11-25 01:00" in said
    assert said.endswith("and 32 more.")
    assert not list(conflicts(found, NOW, HOUR))
    assert not list(conflicts(plan("daily 00:00-24:00"), NOW, 99 * HOUR))
