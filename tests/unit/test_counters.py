"""How fast counters grow: over which time, and what is said when nobody can tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.counters import FIRST, RESET, RESTARTED, CounterHistory


def history(*values: tuple[float, float]) -> CounterHistory:
    """One counter, ``wal``, at these times and values."""
    made = CounterHistory()
    for now, value in values:
        made.add("wal", now, value)
    return made


def test_one_value_is_no_rate() -> None:
    """The reason is said, also for a counter that was never seen."""
    assert history((0, 5)).growth("wal", 1) is None
    assert history((0, 5)).reason("wal") == FIRST
    assert CounterHistory().growth("wal", 1) is None
    assert CounterHistory().reason("wal") == FIRST


@pytest.mark.parametrize(
    ("seconds", "grown"),
    [(0.9, (30, 1)), (1.0, (30, 1)), (1.1, (50, 2)), (2.9, (60, 3)), (60, (60, 3))],
)
def test_growth_is_over_the_time_that_was_asked_for(seconds: float, grown: tuple[float, float]) -> None:
    """Over that time or a little more; where the history is shorter, over all of it."""
    assert history((0, 0), (1, 10), (2, 30), (3, 60)).growth("wal", seconds) == grown


def test_a_gap_is_averaged_over() -> None:
    """Of a sampler that was late, the rate is that since it looked last."""
    assert history((0, 0), (10, 100)).growth("wal", 1) == (100, 10)


def test_two_values_at_once_are_no_division_by_zero() -> None:
    """A clock may be coarse."""
    assert history((1, 5), (1, 6)).growth("wal", 1) == (1, 0.001)


def test_a_smaller_value_is_a_reset() -> None:
    """One sample without a rate, with the reason; then the rate since the reset."""
    counters = history((0, 100), (1, 5))
    assert counters.growth("wal", 1) is None
    assert counters.reason("wal") == RESET
    counters.add("wal", 2, 25)
    assert counters.growth("wal", 60) == (20, 1)


def test_a_reset_is_seen_even_if_the_counter_has_overtaken_itself() -> None:
    """The time of the reset tells, where the value does not."""
    counters = CounterHistory()
    counters.add("wal", 0, 10, "Monday")
    counters.add("wal", 1, 500, "Tuesday")
    assert counters.growth("wal", 1) is None
    assert counters.reason("wal") == RESET


def test_after_a_restart_all_counters_begin_anew() -> None:
    """The reason is the restart, and not a reset."""
    counters = history((0, 1), (1, 2))
    counters.forget_all(RESTARTED)
    assert counters.growth("wal", 1) is None
    assert counters.reason("wal") == RESTARTED


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(-50, 1000)), min_size=1, max_size=80), st.floats(0, 100))
def test_growth_is_never_negative(steps: list[tuple[float, float]], seconds: float) -> None:
    """Whatever counters do; and the history does not grow beyond what a minute needs."""
    counters, now, value = CounterHistory(), 0.0, 1000.0
    for waited, step in steps:
        now, value = now + waited, value + step
        counters.add("wal", now, value)
        grown = counters.growth("wal", seconds)
        assert grown is None or (grown[0] >= 0 and grown[1] > 0)
    assert len([at for at, _ in counters._seen["wal"] if at <= now - 60]) <= 1
