"""The gate on the load: how long it was quiet, and what is worth a line in the log."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.gate import GateReading, LogRhythm, Quiet
from airflow_backup_guard.core.load import Assessment, Finding, LoadLevel, LoadSample

START = datetime(2026, 3, 10, 1, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)


def assessment(level: LoadLevel) -> Assessment:
    """A verdict, whatever the cause."""
    return Assessment(level, (Finding("commit_latency", level, 0.01),), LoadSample(START))


def reading(level: LoadLevel, *, opened: bool = False) -> GateReading:
    """What a gate saw."""
    return GateReading(opened, assessment(level), Quiet(), 30 * SECOND)


def quiet_after(levels: list[LoadLevel], spacing: timedelta = SECOND) -> timedelta:
    """How long it has been quiet after samples in a row."""
    quiet = Quiet()
    for number, level in enumerate(levels):
        quiet = quiet.after(assessment(level), START + number * spacing)
    return quiet.lasted


def test_quiet_is_what_was_seen_without_a_break() -> None:
    """One loud sample begins it anew."""
    normal, high = LoadLevel.NORMAL, LoadLevel.HIGH
    assert quiet_after([normal] * 11) == 10 * SECOND
    assert quiet_after([normal] * 10 + [high] + [normal] * 4) == 3 * SECOND
    assert quiet_after([normal] * 10 + [LoadLevel.UNKNOWN]) == timedelta(0)


def test_what_nobody_saw_was_not_quiet() -> None:
    """A gap between two samples begins it anew."""
    assert quiet_after([LoadLevel.NORMAL] * 3, 16 * SECOND) == timedelta(0)
    assert quiet_after([LoadLevel.NORMAL] * 3, 15 * SECOND) == 30 * SECOND


def lines(levels: list[LoadLevel]) -> list[int]:
    """In which seconds a line is written."""
    rhythm, written = LogRhythm(), []
    for second, level in enumerate(levels):
        now = START + second * SECOND
        if rhythm.is_due(reading(level), now):
            rhythm = rhythm.after(reading(level), now)
            written.append(second)
    return written


def test_a_gate_that_waits_writes_a_line_a_minute() -> None:
    """A thousand of them share a disk."""
    assert lines([LoadLevel.HIGH] * 181) == [0, 60, 120, 180]


def test_a_change_is_written_soon_and_the_opening_at_once() -> None:
    """A load that flutters is not a line a second; the last word is never held back."""
    assert lines([LoadLevel.HIGH] * 20 + [LoadLevel.NORMAL] * 5) == [0, 20]
    assert lines([LoadLevel.HIGH, LoadLevel.NORMAL] * 30) == [0, 11, 22, 33, 44, 55]
    rhythm = LogRhythm().after(reading(LoadLevel.NORMAL), START)
    assert rhythm.is_due(reading(LoadLevel.NORMAL, opened=True), START)


@given(st.lists(st.sampled_from(LoadLevel), max_size=400))
def test_lines_are_few_and_each_level_that_stays_is_written(levels: list[LoadLevel]) -> None:
    """Ten seconds apart at least, a minute at most."""
    written = lines(levels)
    assert all(10 <= after - before <= 60 for before, after in pairwise(written))
