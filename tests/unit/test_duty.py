"""Shares of time: slices keep to the share, and no stop is longer than it may be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.duty import parse_max_stop, share_of, slices
from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.errors import InvalidPlan

SHARES = st.floats(0.00001, 1.0)
LONGEST = st.floats(0.1, 60.0)


@given(share=SHARES, state=st.sampled_from(PaceState), longest=LONGEST)
def test_no_stop_is_longer_than_it_may_be_and_it_always_runs_in_between(
    share: float, state: PaceState, longest: float
) -> None:
    """Whatever the share, connections get their moment within the longest stop."""
    found = slices(share, state, longest)
    assert 0 <= found.stop <= longest
    assert found.run >= 0.02


@given(share=SHARES, longest=LONGEST)
def test_a_share_is_kept_unless_the_longest_stop_forbids_it(share: float, longest: float) -> None:
    """Running ÷ all is the share; where stops would be too long it is more, and the stop is as long as it may be."""
    found = slices(share, PaceState.THROTTLED, longest)
    kept = found.run / (found.run + found.stop)
    assert kept == pytest.approx(share, rel=1e-6) or (kept > share and found.stop == longest)


@given(share=SHARES, more=SHARES, longest=LONGEST)
def test_more_time_is_never_less(share: float, more: float, longest: float) -> None:
    """The share that is kept rises with the one that is asked for."""
    low, high = (slices(each, PaceState.THROTTLED, longest) for each in sorted((share, more)))
    assert low.run / (low.run + low.stop) <= high.run / (high.run + high.stop) + 1e-9


def test_a_paused_command_stands_for_as_long_as_it_may() -> None:
    """A tenth of a second in between, whatever its share was."""
    assert slices(0.9, PaceState.PAUSED, 10.0).stop == 10.0
    assert slices(0.9, PaceState.PAUSED, 10.0).run == 0.1


def test_all_of_the_time_has_no_stop() -> None:
    """A command at its full share is left alone."""
    assert slices(1.0, PaceState.RUNNING, 10.0).stop == 0


def test_the_full_rate_stands_for_all_of_the_time() -> None:
    """A quarter of it is a quarter of the time, and a pace above it no more than all."""
    pace = Pace.start(Rate.parse("25MB/s"), Rate.parse("100MB/s"))
    assert share_of(pace, Rate.parse("100MB/s")) == 0.25
    assert share_of(pace, Rate.parse("20MB/s")) == 1.0


@pytest.mark.parametrize("value", ["0s", "50ms", "61s", "2h", "5", 5, None])
def test_a_stop_that_is_too_short_or_too_long_is_refused(value: object) -> None:
    """With what is allowed, and why."""
    with pytest.raises(InvalidPlan, match=r"max_stop.*"):
        parse_max_stop(value)  # type: ignore[arg-type]
    assert parse_max_stop("1min") == timedelta(minutes=1)
