"""Learning the week: what is load, what is known, by whose clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core.hours import CELLS_A_DAY, Cell, LoadWeek, cell_of, learn
from airflow_backup_guard.core.load_history import LoadEntry
from airflow_backup_guard.errors import InvalidPlan
from tests.load_weeks import BATCH, DAY, NOW, REST, Activity, record_weeks, shop

LOS_ANGELES = "America/Los_Angeles"
QUARTER = timedelta(minutes=15)
QUIET = 0.25


def week_of(entries: list[LoadEntry], tz: str = LOS_ANGELES, weeks: int = 8) -> LoadWeek:
    """What is learned at NOW."""
    week = learn(entries, tz, NOW, weeks)
    assert week is not None
    return week


def cell(week: LoadWeek, day: int, hour: int, minute: int = 0) -> Cell:
    """A half hour of a weekday, 0 for Monday."""
    return week.cells[day * CELLS_A_DAY + hour * 2 + minute // 30]


def nights(hour: int, *, day: int | None = None) -> Any:
    """Whether it is this hour (of this weekday)."""
    return lambda local: local.hour == hour and day in (None, local.weekday())


# What is load


def test_a_week_shows_the_habits() -> None:
    """Batch and day are at their peak, each by its own signal; the rest is near nothing; every week is known."""
    week = week_of(record_weeks(4))
    for day in range(7):
        assert cell(week, day, 0).usual == pytest.approx(1, abs=0.05)
        assert cell(week, day, 12).usual == pytest.approx(1, abs=0.05)
        assert cell(week, day, 4).usual == pytest.approx(0.0375, abs=0.01)
    assert {one.signal for one in cell(week, 2, 0).occurrences} == {"wal_rate"}
    assert week.coverage() == 1
    assert week.weeks == pytest.approx(4, abs=0.01)


def test_a_batch_does_not_make_the_day_look_like_rest() -> None:
    """By WAL alone a day at 8 of 38 MB/s would be quiet; it commits more than the batch does."""
    week = week_of(record_weeks(2))
    assert DAY.wal / BATCH.wal < QUIET
    assert not cell(week, 2, 12).is_quiet(QUIET)


def test_low_throughput_is_not_quiet() -> None:
    """A database in trouble commits and writes next to nothing; its commits are slow."""

    def harmed(local: datetime) -> Activity:
        return Activity(1e3, 1, 0.4) if local.hour == 3 else shop(local)

    week = week_of(record_weeks(2, harmed))
    assert not cell(week, 2, 3).is_quiet(QUIET)
    assert {one.signal for one in cell(week, 2, 3).occurrences} == {"commit_latency"}
    assert cell(week, 2, 4).is_quiet(QUIET)


def test_an_idle_database_has_no_peaks_of_noise() -> None:
    """Twice next to nothing is nothing that anybody feels."""
    week = week_of(record_weeks(2, lambda local: Activity(2e3 + 2e3 * (local.hour % 2), 1 + local.hour % 2, 0.001)))
    assert all(one.is_quiet(QUIET) for one in week.cells)


def test_a_burst_that_no_sample_met_shows() -> None:
    """Two minutes of batch between entries, every Wednesday: the counters have it."""
    entries = record_weeks(3)
    burst = 0.0
    for number, one in enumerate(entries):
        local = one.at.astimezone(ZoneInfo(LOS_ANGELES))
        if local.weekday() == 2 and local.hour == 3 and local.minute in (10, 15, 20):
            burst += 120 * 100e6
        assert one.counters is not None
        entries[number] = replace(one, counters=replace(one.counters, wal=one.counters.wal + burst))
    week = week_of(entries)
    assert not cell(week, 2, 3).is_quiet(QUIET)
    assert cell(week, 3, 3).is_quiet(QUIET)


def test_one_high_reading_is_no_hour_of_load() -> None:
    """A checkpoint that meets a sample; two readings of six are more than that."""
    for minutes, quiet in (((10,), True), ((10, 15), False)):
        high = [
            replace(one, values={**one.values, "commit_latency": 0.5})
            if nights(4)(local := one.at.astimezone(ZoneInfo(LOS_ANGELES))) and local.minute in minutes
            else one
            for one in record_weeks(2)
        ]
        assert cell(week_of(high), 2, 4).is_quiet(QUIET) is quiet


# A backup is not the application's load


def test_a_backup_does_not_make_its_window_look_busy() -> None:
    """Slow commits while a guarded backup runs are the backup's; the same without a backup are not."""

    def slow(local: datetime) -> Activity:
        return replace(REST, latency=0.02) if local.hour in (2, 3) else shop(local)

    running = week_of(record_weeks(2, slow, backup=lambda local: local.hour in (2, 3)))
    assert cell(running, 2, 2, 30).is_quiet(QUIET)
    assert running.during_backups > 0
    assert not cell(week_of(record_weeks(2, slow)), 2, 2, 30).is_quiet(QUIET)


def test_what_the_application_writes_during_a_backup_counts() -> None:
    """A backup writes no WAL to speak of, so a batch beside it is seen."""

    def batch(local: datetime) -> Activity:
        return BATCH if local.hour == 2 else shop(local)

    week = week_of(record_weeks(2, batch, backup=nights(2)))
    assert not cell(week, 2, 2, 30).is_quiet(QUIET)


# Unknown is not quiet


def test_an_unknown_reading_makes_its_half_hour_unknown() -> None:
    """One failed entry of six, in one week of four: that week is not known there, the others are."""
    when = datetime(2026, 11, 18, 4, 10, tzinfo=ZoneInfo(LOS_ANGELES))
    week = week_of(record_weeks(4, unknown=lambda local: local == when))
    one = cell(week, 2, 4)
    assert [bool(occurrence.unknown) for occurrence in one.occurrences] == [False, False, False, True]
    assert week.failed == 1


def test_hours_that_are_never_known_are_never_quiet() -> None:
    """A probe that fails each night at three says nothing about three."""
    week = week_of(record_weeks(4, unknown=nights(3)))
    assert cell(week, 2, 3).usual is None
    assert not cell(week, 2, 3).is_quiet(0.99)


def test_hours_without_entries_are_not_known() -> None:
    """A recorder that sleeps at night, or records once an hour, knows nothing of the night."""
    asleep = week_of([one for one in record_weeks(4) if not nights(4)(one.at.astimezone(ZoneInfo(LOS_ANGELES)))])
    assert {one.unknown for one in cell(asleep, 2, 4).occurrences} == {"not measured"}
    seldom = week_of(record_weeks(4, every=timedelta(minutes=25)))
    assert not any(one.is_quiet(0.99) for one in seldom.cells)


def test_a_signal_that_was_never_measured_is_left_out() -> None:
    """Without track_counts there are no commits, and WAL and latency decide; without latency nothing is known."""

    def without(name: str) -> list[LoadEntry]:
        entries = []
        for one in record_weeks(2):
            assert one.counters is not None
            values = {signal: value for signal, value in one.values.items() if signal != name}
            entries.append(replace(one, values=values, counters=replace(one.counters, commits=None)))
        return entries

    assert cell(week_of(without("commit_rate")), 2, 4).is_quiet(QUIET)
    assert not any(one.is_quiet(0.99) for one in week_of(without("commit_latency")).cells)


def test_the_future_and_the_distant_past_do_not_count() -> None:
    """Only the weeks that were asked for do; a half hour that is not over is not there yet."""
    entries = record_weeks(6, until=NOW + timedelta(days=3))
    week = week_of(entries, weeks=2)
    assert week.weeks == pytest.approx(2, abs=0.01)
    assert {len(one.occurrences) for one in week.cells} <= {2, 3}
    today = NOW.astimezone(ZoneInfo(LOS_ANGELES)).date()
    assert all(one.day < today for one in cell(week, 0, 4).occurrences)
    assert cell(week, 0, 3, 30).occurrences[-1].day == today
    assert learn(entries, LOS_ANGELES, NOW - timedelta(weeks=20)) is None


# By the clock on a wall


def test_hours_are_those_of_the_zone_across_a_change_of_clocks() -> None:
    """On November 1 the clocks of Los Angeles went back; what happens at one by the clock still happens at one."""
    week = week_of(record_weeks(6))
    assert week.since < datetime(2026, 11, 1, tzinfo=timezone.utc) < week.until
    assert cell(week, 2, 1).is_quiet(QUIET)
    assert not cell(week, 2, 0, 30).is_quiet(QUIET)
    repeated = [one for one in cell(week, 6, 1).occurrences if one.day == date(2026, 11, 1)]
    assert len(repeated) == 1


@pytest.mark.parametrize(
    ("tz", "until", "skipped", "day"),
    [
        (LOS_ANGELES, datetime(2026, 3, 20), [(2, 0), (2, 30)], date(2026, 3, 8)),
        ("Australia/Lord_Howe", datetime(2026, 10, 20), [(2, 0)], date(2026, 10, 4)),
        ("Antarctica/Troll", datetime(2026, 4, 10), [(1, 0), (1, 30), (2, 0), (2, 30)], date(2026, 3, 29)),
    ],
)
def test_half_hours_that_the_clock_skips_are_not_there(
    tz: str, until: datetime, skipped: list[tuple[int, int]], day: date
) -> None:
    """They are neither busy nor unknown that day; all others of it are there."""
    until = until.replace(tzinfo=timezone.utc)
    week = learn(record_weeks(4, tz=tz, until=until), tz, until)
    assert week is not None
    missing = {
        one.number for one in week.cells[6 * CELLS_A_DAY :] if day not in [found.day for found in one.occurrences]
    }
    assert missing == {6 * CELLS_A_DAY + hour * 2 + minute // 30 for hour, minute in skipped}
    assert week.coverage() == 1


def test_a_cell_is_named_by_the_local_clock() -> None:
    """Monday noon in UTC is Monday 04:00 in Los Angeles and 22:45 in Eucla."""
    assert cell_of(NOW, ZoneInfo(LOS_ANGELES)) == (date(2026, 11, 23), 8)
    assert cell_of(NOW, ZoneInfo("Australia/Eucla")) == (date(2026, 11, 23), 41)


# Laws

levels = st.lists(st.sampled_from([0.1e6, 1e6, 4e6, 9e6, 40e6]), min_size=48, max_size=48)


def by_hours(levels: list[float]) -> Any:
    """Habits with a level of WAL for each hour, other ones at the weekend."""
    return lambda local: Activity(levels[local.hour + 24 * (local.weekday() > 4)], 10, 0.001)


@settings(max_examples=8)
@given(levels, st.randoms())
def test_the_order_of_recording_does_not_matter(levels: list[float], random: Any) -> None:
    """Whoever stored first, the week is the same."""
    entries = record_weeks(1, by_hours(levels), every=QUARTER)
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert week_of(shuffled) == week_of(entries)


@settings(max_examples=12)
@given(levels, st.integers(0, 335), st.floats(0, 1e9))
def test_more_load_never_makes_a_half_hour_quieter(levels: list[float], number: int, more: float) -> None:
    """Whatever is added to its WAL: it may not become quiet, nor its load less, up to the peak."""
    zone = ZoneInfo(LOS_ANGELES)
    entries = [replace(one, counters=None) for one in record_weeks(2, by_hours(levels), every=QUARTER)]
    raised = [
        replace(one, values={**one.values, "wal_rate": one.values["wal_rate"] + more})
        if cell_of(one.at, zone)[1] == number
        else one
        for one in entries
    ]
    before, after = week_of(entries).cells[number], week_of(raised).cells[number]
    assert before.is_quiet(QUIET) or not after.is_quiet(QUIET)
    assert (after.usual or 0) >= min(1, before.usual or 0) - 1e-9


@settings(max_examples=12)
@given(levels, st.sets(st.integers(0, 1343), max_size=60))
def test_an_entry_that_fails_never_makes_a_week_known(levels: list[float], failed: set[int]) -> None:
    """No half hour of any week becomes known, and each with a failed entry in it is not."""
    entries = record_weeks(2, by_hours(levels), every=QUARTER)
    gone = [LoadEntry(one.at) if n in failed else one for n, one in enumerate(entries)]
    zone = ZoneInfo(LOS_ANGELES)
    hit = {cell_of(entries[n].at, zone) for n in failed}
    known = {(one.day, c.number) for c in week_of(entries).cells for one in c.known}
    left = {(one.day, c.number) for c in week_of(gone).cells for one in c.known}
    assert left <= known - hit


# Bad input


@pytest.mark.parametrize("tz", ["", "Mars/Olympus", "../etc/passwd", None, 3])
def test_a_zone_that_is_none_is_refused(tz: Any) -> None:
    """By its name, whether anything is recorded or not."""
    with pytest.raises(InvalidPlan, match="time zone"):
        learn([], tz, NOW)


@pytest.mark.parametrize("weeks", [0, -1, 27, 2.5, True, "8"])
def test_a_number_of_weeks_that_is_none_is_refused(weeks: Any) -> None:
    """With what is allowed."""
    with pytest.raises(InvalidPlan, match="1 to 26"):
        learn([], "UTC", NOW, weeks)
