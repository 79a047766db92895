"""When a copy will be done, and whether that is in time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.outlook import Outlook

NOON = datetime(2024, 6, 1, 12, tzinfo=timezone.utc)
TOTAL = 1_000_000_000


def follow(outlook: Outlook, rates: list[int], start: datetime = NOON) -> datetime:
    """One second at each of these rates, in bytes per second; returns the last moment."""
    done, now = 0, start
    outlook.add(now, done, TOTAL)
    for rate in rates:
        done, now = done + rate, now + timedelta(seconds=1)
        outlook.add(now, done, max(TOTAL - done, 0))
    return now


def test_a_steady_copy_is_extrapolated() -> None:
    """1 GB at 5 MB/s takes 200 s, and that is known after twenty seconds."""
    outlook = Outlook(None)
    follow(outlook, [5_000_000] * 19)
    assert outlook.finish is None
    follow(outlook := Outlook(None), [5_000_000] * 30)
    assert outlook.finish == NOON + timedelta(seconds=200)
    assert not outlook.is_late


def test_it_is_late_after_a_minute_and_in_time_again_at_once() -> None:
    """A pause of less than a minute is no news; a pace that misses the window is; one that recovers no longer is."""
    outlook = Outlook(NOON + timedelta(minutes=5))
    follow(outlook, [1_000_000] * 60)
    assert not outlook.is_late
    follow(outlook := Outlook(NOON + timedelta(minutes=5)), [1_000_000] * 85)
    assert outlook.is_late
    follow(outlook := Outlook(NOON + timedelta(minutes=5)), [1_000_000] * 85 + [40_000_000] * 20)
    assert not outlook.is_late


def test_a_copy_that_does_not_move_is_never_done() -> None:
    """No rate, no finish; and a window that has one is missed."""
    outlook = Outlook(NOON + timedelta(hours=1))
    follow(outlook, [0] * 100)
    assert outlook.finish is None
    assert outlook.is_late


@given(st.lists(st.integers(0, 50_000_000), max_size=120), st.integers(1, 600))
def test_the_finish_never_lies_in_the_past(rates: list[int], window_seconds: int) -> None:
    """And a copy that is done within its window by its own forecast is not called late, unless the window is over."""
    outlook = Outlook(NOON + timedelta(seconds=window_seconds))
    now = follow(outlook, rates)
    if outlook.finish is not None:
        assert outlook.finish >= now
        assert outlook.window_end is not None
        assert not (outlook.is_late and outlook.finish <= outlook.window_end)
