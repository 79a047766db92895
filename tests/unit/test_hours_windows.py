"""What follows from the week: windows with evidence, how sure they are, windows that are not quiet, the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.hours import LoadWeek, learn, scale_of
from airflow_backup_guard.core.hours_picture import hours_svg
from airflow_backup_guard.core.hours_report import HoursReport
from airflow_backup_guard.core.load_history import LoadEntry, readings
from airflow_backup_guard.core.quiet_hours import Sureness, advise, parse_share
from airflow_backup_guard.core.window_drift import Standing, standing
from airflow_backup_guard.errors import InvalidPlan
from tests.load_weeks import BATCH, DAY, NOW, REST, Activity, Habits, record_weeks, shop, shop_whose_batch_moved

TZ = "America/Los_Angeles"
QUARTER = timedelta(minutes=15)
QUIET = 0.25


def week_of(entries: list[LoadEntry]) -> LoadWeek:
    """What is learned at NOW."""
    week = learn(entries, TZ, NOW)
    assert week is not None
    return week


def learned(weeks: float = 6, habits: Habits = shop, **options: Any) -> LoadWeek:
    """A week with these habits."""
    return week_of(record_weeks(weeks, habits, **options)) if options else _learned(weeks, habits)


@cache
def _learned(weeks: float, habits: Habits) -> LoadWeek:
    return week_of(record_weeks(weeks, habits))


def windows(text: str) -> OffPeakCalendar:
    """A calendar in TZ."""
    return OffPeakCalendar.parse(text, tz=TZ)


def held(text: str, week: LoadWeek) -> Standing:
    """How the windows of that text stand."""
    return standing(week, windows(text))


# Proposals


def test_the_quiet_nights_are_proposed_with_their_evidence() -> None:
    """One window for all days, for how many weeks it was below what, and text for a plan that means the same."""
    advice = advise(learned(8))
    assert str(advice.calendar) == "daily 01:00-08:00"
    (proposal,) = advice.proposals
    assert proposal.windows == "daily 01:00-08:00"
    assert (proposal.known, proposal.weeks) in ((8, 8), (7, 7))
    assert "at most 4 % of the peak in " in proposal.evidence
    assert "WAL written 200kB/s, commits 30/s, commit latency 1.0 ms" in proposal.evidence
    assert eval(advice.code, {"OffPeakCalendar": OffPeakCalendar}) == advice.calendar


def test_a_night_that_differs_has_a_window_of_its_own() -> None:
    """Tuesdays begin at three, because of a batch; one busy week of six is enough for that."""
    advice = advise(learned(6, shop_whose_batch_moved))
    assert str(advice.calendar) == "Mon,Wed-Sun 01:00-08:00; Tue 03:00-08:00"
    once = datetime(2026, 11, 10, tzinfo=ZoneInfo(TZ)).date()
    advice = advise(learned(6, lambda local: BATCH if local.date() == once and local.hour == 6 else shop(local)))
    assert str(advice.calendar) == "Mon,Wed-Sun 01:00-08:00; Tue 01:00-06:00"


def test_ragged_nights_become_what_they_have_in_common() -> None:
    """Half an hour more or less each night is no reason for seven windows; nothing busy comes in by that."""

    def ragged(local: datetime) -> Activity:
        return REST if 1 + 0.5 * (local.weekday() % 2) <= local.hour + local.minute / 60 < 6 else DAY

    assert str(advise(learned(4, ragged)).calendar) == "daily 01:30-06:00"


def test_windows_may_cross_midnight_and_last_for_days() -> None:
    """From 22:00 on, and the whole weekend, cut where no window may be longer than a day."""

    def office(local: datetime) -> Activity:
        return DAY if local.weekday() < 5 and 6 <= local.hour < 22 else REST

    advice = advise(learned(3, office))
    assert str(advice.calendar) == str(
        windows("Mon-Thu 22:00-06:00; Fri 22:00-24:00; Sat,Sun 00:00-24:00; Mon 00:00-06:00")
    )
    noon = datetime(2026, 11, 18, 12, tzinfo=ZoneInfo(TZ))
    a_day = advise(learned(1, lambda local: REST if noon <= local < noon + timedelta(days=1) else DAY))
    assert str(a_day.calendar) == str(windows("Wed 12:00-24:00; Thu 00:00-12:00"))
    quiet = advise(learned(3, lambda local: Activity(2e3, 5.0)))
    assert str(quiet.calendar) == "daily 00:00-24:00"


def test_short_lulls_are_not_proposed() -> None:
    """An hour of rest is no window, unless that is asked for."""

    def lunch(local: datetime) -> Activity:
        return REST if local.hour == 12 else DAY

    week = learned(3, lunch)
    assert advise(week).calendar is None
    assert str(advise(week, at_least=timedelta(hours=1)).calendar) == "daily 12:00-13:00"


def test_a_load_that_never_drops_gets_no_window() -> None:
    """It says so, with the quietest there is, and proposes nothing."""
    advice = advise(learned(3, lambda local: replace(DAY, wal=4e6 if local.hour == 3 else 8e6, commits=400)))
    assert advice.calendar is None
    assert advice.code == ""
    assert "No 2 h in a row stayed below 25 % of the peak" in advice.why_none
    assert "The quietest begin" in advice.why_none


def test_too_little_is_known_for_a_window() -> None:
    """After a day, most of the week is not known."""
    advice = advise(learned(1 / 7))
    assert "half hours of the week are known" in advice.why_none or advice.sureness is Sureness.GUESS


levels = st.lists(st.sampled_from([0.1e6, 1e6, 2.4e6, 2.6e6, 9e6, 40e6]), min_size=48, max_size=48)


@settings(max_examples=8)
@given(levels, st.sets(st.integers(0, 1343), max_size=40), st.sampled_from([0.1, 0.25, 0.6]))
def test_a_proposed_window_never_holds_what_was_busy(levels: list[float], failed: set[int], quiet_below: float) -> None:
    """No reading within it was above the share of the peak, in any week; nor is any of it known for less than half."""
    entries = [
        LoadEntry(one.at) if number in failed else one
        for number, one in enumerate(
            record_weeks(
                2, lambda local: Activity(levels[local.hour + 24 * (local.weekday() > 4)], 10, 0.001), every=QUARTER
            )
        )
    ]
    week = week_of(entries)
    advice = advise(week, quiet_below)
    if advice.calendar is None:
        assert advice.why_none
        return
    found = readings(entries)
    scale = scale_of(found)
    for reading in found:
        load = scale.load(reading.values)
        if load is not None and load[0] > quiet_below:
            assert not advice.calendar.contains(reading.at)
    for number in advice.cells:
        cell = week.cells[number]
        assert 2 * len(cell.known) >= len(cell.occurrences) > 0
    assert max(proposal.below for proposal in advice.proposals) <= quiet_below


# How sure


@pytest.mark.parametrize(
    ("weeks", "options", "sureness"),
    [
        (1.5, {}, Sureness.GUESS),
        (3, {}, Sureness.LOW),
        (4.5, {}, Sureness.FAIR),
        (7, {}, Sureness.HIGH),
        (7, {"unknown": lambda local: local.day % 3 == 0}, Sureness.LOW),
        (7, {"habits": lambda local: replace(shop(local), commits=shop(local).commits + 8 * local.day)}, Sureness.FAIR),
    ],
    ids=["little", "some", "more", "much", "gaps", "varies"],
)
def test_sureness_follows_weeks_coverage_and_variance(
    weeks: float, options: dict[str, Any], sureness: Sureness
) -> None:
    """And says so; less than two weeks is a guess."""
    options = dict(options)
    advice = advise(learned(weeks, options.pop("habits", shop), **options), 0.3)
    assert advice.calendar is not None
    assert advice.sureness is sureness
    assert ("this is a guess" in advice.reasons[0]) is (sureness is Sureness.GUESS)


# Windows of a plan


def test_a_window_that_a_batch_moved_into_is_told() -> None:
    """The sentence has the window, the days, the signal, and what it is on the other days."""
    week = learned(8, shop_whose_batch_moved)
    (drift,) = held("daily 02:00-05:00", week).drifts
    assert str(drift) == (
        "Your 02:00 window is no longer quiet on Tuesdays from 02:00 to 03:00: median WAL written 38MB/s the last 3 "
        "times (100 % of the peak), against 200kB/s on the other days."
    )
    (drift,) = held("Tue 01:30-05:00", week).drifts
    assert (drift.window, drift.against, drift.others) == ("01:30", "in the weeks before", 0.2e6)
    assert not held("Mon,Wed-Sun 01:00-08:00; Tue 03:00-08:00", week).drifts


def test_a_window_that_never_was_quiet_is_told_as_that() -> None:
    """Every day, and without a comparison that would say nothing."""
    (drift,) = held("daily 12:00-13:00", learned(6)).drifts
    assert str(drift).startswith("Your 12:00 window is not quiet every day from 12:00 to 13:00: median ")
    assert "against" not in str(drift)


def test_one_busy_night_is_no_drift() -> None:
    """Nor is one before the last three weeks."""
    once = datetime(2026, 11, 17, tzinfo=ZoneInfo(TZ)).date()
    week = learned(8, lambda local: BATCH if local.date() == once else shop(local))
    assert not held("daily 02:00-05:00", week).drifts
    old = learned(8, lambda local: BATCH if local < datetime(2026, 10, 28, tzinfo=ZoneInfo(TZ)) else shop(local))
    assert not held("daily 02:00-05:00", old).drifts


def test_hours_of_windows_that_are_not_known_are_told() -> None:
    """Unknown is not quiet, and is no drift either."""
    found = held("daily 02:00-05:00", learned(4, unknown=lambda local: local.weekday() == 5 and local.hour == 3))
    assert not found.drifts
    assert found.unknown_text == "Sat 03:00-04:00"


def test_a_window_in_another_zone_is_held_against_the_same_moments() -> None:
    """Los Angeles' midnight batch is at eight in the morning in UTC, after the change of clocks."""
    week = learned(3)
    (drift,) = standing(week, OffPeakCalendar.parse("daily 08:00-09:00", tz="UTC")).drifts
    assert (drift.start, drift.end, drift.window) == ("00:00", "01:00", "00:00")


# The report


def report(week: LoadWeek, text: str | None = "daily 02:00-05:00") -> HoursReport:
    """Of a plan with these windows."""
    calendar = windows(text) if text else None
    return HoursReport("shop", week, advise(week), calendar, calendar and standing(week, calendar))


def test_the_heat_map_reads_without_colour() -> None:
    """Seven rows of 24 numbers that fit a terminal, with marks for windows, and what they mean."""
    text = str(report(learned(8, shop_whose_batch_moved, unknown=lambda local: local.hour == 20)))
    rows = [row for row in text.splitlines() if row[:4] in ("Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun ")]
    assert len(rows) == 7
    assert all(len(row) <= 79 for row in rows)
    assert rows[0].startswith("Mon 99  4* 4# 4# 4# 4* 4* 4*99 99 ")
    assert rows[1].startswith("Tue 99  4  4! 4# 4# 4* 4* 4*99 99 ")
    assert rows[1][4 + 20 * 3 :].startswith(" ? ")
    assert "* proposed, # both, ! your window, not quiet." in text
    assert "? not known" in text
    assert "Your 02:00 window is no longer quiet on Tuesdays" in text
    assert 'OffPeakCalendar.parse("Mon,Wed-Sun 01:00-08:00; Tue 03:00-08:00", tz="America/Los_Angeles")' in text


@pytest.mark.parametrize(
    ("make", "title", "good"),
    [
        (lambda: report(learned(6)), "Quiet hours of shop", True),
        (lambda: report(learned(6), None), "Quiet hours of shop", True),
        (lambda: report(learned(6), "daily 07:00-09:00"), "Windows of shop are not quiet", False),
        (
            lambda: report(learned(3, unknown=lambda local: local.hour == 3)),
            "Windows of shop are quiet as far as they are known",
            True,
        ),
    ],
    ids=["quiet", "no windows", "busy", "unknown"],
)
def test_the_title_and_the_document_tell_the_verdict(make: Callable[[], HoursReport], title: str, good: bool) -> None:
    """The same in one line, as a value, and in plain values that JSON takes without loss."""
    found = make()
    document = found.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (found.title, found.good) == (document["title"], document["good"]) == (title, good)
    assert [len(day) for day in document["half_hours"].values()] == [48] * 7
    assert document["proposal"]["calendar"] == found.advice.calendar.to_dict()


def test_the_picture_has_a_number_and_words_for_each_half_hour() -> None:
    """336 of them, unknown ones with a question mark, frames around windows; names are safe in it."""
    week = learned(8, shop_whose_batch_moved, unknown=lambda local: local.hour == 20)
    found = replace(report(week), plan_name="a<b&c")
    svg = hours_svg(found)
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    assert "a<b&c" in (root.findtext(f"{space}title") or "")
    cells = root.findall(f"{space}g")
    assert len(cells) == 336
    numbers = [cell.findtext(f"{space}text") for cell in cells]
    assert numbers.count("?") == 14
    words = [cell.findtext(f"{space}title") or "" for cell in cells]
    assert words[40] == "Mon 20:00: not known"
    assert words[6].startswith("Mon 03:00: usually 4 % of the peak, at most 4 %, known in ")
    frames = [frame.get("class") for frame in root.iter(f"{space}rect") if frame.get("class")]
    assert frames.count("busy") == 2  # and one in the legend
    assert len(svg) < 120_000


# Bad input


@pytest.mark.parametrize("text", ["", "25", "0%", "100%", "-3%", "1e1%", "a%", None, 25])
def test_a_share_that_is_none_is_refused(text: Any) -> None:
    """With what is allowed."""
    with pytest.raises(InvalidPlan, match='such as "25%"'):
        parse_share(text)


def test_shares_are_read() -> None:
    """Of a hundred, with or without a blank."""
    assert (parse_share("25%"), parse_share(" 12.5 %")) == (0.25, 0.125)


@pytest.mark.parametrize("options", [{"quiet_below": 0.0}, {"quiet_below": 1.0}, {"at_least": timedelta(0)}])
def test_advice_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    """Windows of nothing, and quiet that is the peak itself."""
    with pytest.raises(InvalidPlan):
        advise(learned(1), **options)
    with pytest.raises(InvalidPlan):
        advise(learned(1), at_least=timedelta(hours=25))
