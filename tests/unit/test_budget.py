"""What bounds a copy beside the load."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, Rate
from airflow_backup_guard.core.budget import Budget, forecast

NIGHT = OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC")
ONE = datetime(2026, 3, 2, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def plan(**values: object) -> BackupPlan:
    """A plan of four hours a night."""
    defaults: dict[str, object] = {"calendar": NIGHT, "max_rate": "10MB/s"}
    return BackupPlan(name="shop", connection="shop", repository="file:///srv", **{**defaults, **values})


@pytest.mark.parametrize(
    ("at_window_end", "floored", "said"),
    [("finish", False, None), ("floor", True, None), ("stop", False, "its off-peak window ended at 05:00 UTC")],
)
def test_the_end_of_the_window(at_window_end: str, floored: bool, said: str | None) -> None:
    """Before it nothing happens; from it on, what the plan says."""
    budget = Budget.of(plan(at_window_end=at_window_end), ONE)
    before, after = ONE + 4 * HOUR - timedelta(seconds=1), ONE + 4 * HOUR
    assert (budget.is_floored(before), budget.exhausted(before, HOUR, None)) == (False, None)
    assert budget.is_floored(after) is floored
    assert (budget.exhausted(after, HOUR, None) or "").startswith(said or "")
    assert (budget.exhausted(after, HOUR, None) is None) is (said is None)


def test_a_copy_begun_outside_of_a_window_or_always_in_one_has_no_end() -> None:
    """Somebody wanted it at noon, or the calendar never closes."""
    for budget in (
        Budget.of(plan(at_window_end="stop"), ONE + 11 * HOUR),
        Budget.of(plan(at_window_end="stop", calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC")), ONE),
    ):
        assert budget.window_end is None
        assert budget.exhausted(ONE + 15 * HOUR, HOUR, None) is None


def test_a_pause_and_a_copy_do_not_last_for_ever() -> None:
    """Each budget is spent a moment after its time, with the field that sets it in the reason."""
    budget = Budget.of(plan(max_pause="10min", max_duration="2h"), ONE)
    assert budget.exhausted(ONE, HOUR, timedelta(minutes=10)) is None
    assert "(max_pause)" in (budget.exhausted(ONE, HOUR, timedelta(minutes=11)) or "")
    assert budget.exhausted(ONE, 2 * HOUR, None) is None
    assert "(max_duration)" in (budget.exhausted(ONE, 2 * HOUR + timedelta(seconds=1), None) or "")
    assert budget.exhausted(ONE + 1000 * HOUR, HOUR, timedelta(minutes=1)) is None, "a clock that was set"


def test_the_rate_that_the_window_takes() -> None:
    """Bytes left over time left, only where the plan puts the window first, and only within it."""
    budget = Budget.of(plan(window_first=True), ONE)
    assert budget.required_rate(ONE + 3 * HOUR, 3_600_000_000) == Rate(1_000_000)
    assert budget.required_rate(ONE + 4 * HOUR, 3_600_000_000) is None
    assert Budget.of(plan(), ONE).required_rate(ONE + 3 * HOUR, 3_600_000_000) is None


def test_the_forecast_tells_whether_it_fits() -> None:
    """Size against rate and window, and the WAL that will be written meanwhile."""
    fitting = forecast(plan(), ONE, 36_000_000_000, 1_000_000.0)
    assert fitting.fits
    assert str(fitting) == (
        "36GB take 1h at 10MB/s, and the window has 4h left; about 3.6GB of WAL will be written meanwhile"
    )
    assert not forecast(plan(), ONE + 3 * HOUR + timedelta(seconds=1), 36_000_000_000, None).fits
    assert forecast(plan(calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC")), ONE, 10**15, None).fits


def test_wal_that_the_server_keeps_ends_a_copy() -> None:
    """Beyond the plan's bound, and never because nobody knows how much it is."""
    budget = Budget.of(plan(max_retained_wal="1GB"), ONE)
    assert budget.exhausted(ONE, HOUR, None, None) is None
    assert budget.exhausted(ONE, HOUR, None, 1e9) is None
    assert "keeps 1.1GB of WAL for it, more than 1GB (max_retained_wal)" in (
        budget.exhausted(ONE, HOUR, None, 1.1e9) or ""
    )
