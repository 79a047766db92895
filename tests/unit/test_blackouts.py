"""Blackouts as they are written, read and found in a year, by example and against a walk through the days."""

from __future__ import annotations

import pickle
from calendar import monthcalendar
from datetime import date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_backup_guard.core.blackouts import Blackout
from airflow_backup_guard.core.yearly import parse_yearly_day
from airflow_backup_guard.errors import InvalidPlan

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def in_year(text: str, year: int = 2026) -> str | None:
    """Start and end of the blackout that belongs to the year, as readable text."""
    found = Blackout.parse(text).in_year(year)
    return found and f"{found[0]:%Y-%m-%d %H:%M} to {found[1]:%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-12-24", "2026-12-24 00:00 to 2026-12-25 00:00"),
        ("2026-11-27..2026-11-30", "2026-11-27 00:00 to 2026-12-01 00:00"),
        ("2026-11-27..+3d", "2026-11-27 00:00 to 2026-12-01 00:00"),
        ("2026-11-27T18:00..2026-11-28T06:00", "2026-11-27 18:00 to 2026-11-28 06:00"),
        ("2026-11-27T18:00..+1d 06:00", "2026-11-27 18:00 to 2026-11-28 06:00"),
        ("2026-11-27T18:00..2026-11-28", "2026-11-27 18:00 to 2026-11-29 00:00"),
        ("2026-11-27..2026-11-28T06:00", "2026-11-27 00:00 to 2026-11-28 06:00"),
        ("2026-11-27T18:00..22:00", "2026-11-27 18:00 to 2026-11-27 22:00"),
        ("2026-11-27T18:00..24:00", "2026-11-27 18:00 to 2026-11-28 00:00"),
        ("yearly 12-24..12-26", "2026-12-24 00:00 to 2026-12-27 00:00"),
        ("yearly 12-30..01-02", "2026-12-30 00:00 to 2027-01-03 00:00"),
        ("yearly 12-31 18:00..01-01 12:00", "2026-12-31 18:00 to 2027-01-01 12:00"),
        ("yearly 01-01..06-30", "2026-01-01 00:00 to 2026-07-01 00:00"),
        ("yearly 07-01..12-31", "2026-07-01 00:00 to 2027-01-01 00:00"),
        ("yearly 4th Thu of Nov", "2026-11-26 00:00 to 2026-11-27 00:00"),
        ("yearly 4th Thu of Nov..+4d", "2026-11-26 00:00 to 2026-12-01 00:00"),
        ("yearly Fri after 4th Thu of Nov", "2026-11-27 00:00 to 2026-11-28 00:00"),
        ("yearly Fri after the 4th Thu of Nov..Mon after 4th Thu of Nov", "2026-11-27 00:00 to 2026-12-01 00:00"),
        ("yearly Fri after 4th Thu of Nov 18:00..+1d 06:00", "2026-11-27 18:00 to 2026-11-28 06:00"),
        ("yearly Mon before 12-25", "2026-12-21 00:00 to 2026-12-22 00:00"),
        ("yearly Fri before 12-25", "2026-12-18 00:00 to 2026-12-19 00:00"),
        ("yearly Fri after 12-31", "2027-01-01 00:00 to 2027-01-02 00:00"),
        ("yearly last Sun of Dec..01-01", "2026-12-27 00:00 to 2027-01-02 00:00"),
        ("yearly last Sat of Feb", "2026-02-28 00:00 to 2026-03-01 00:00"),
        ("yearly 5th Sun of Feb", None),
        ("yearly 02-29", None),
        ("yearly 02-27..02-29", "2026-02-27 00:00 to 2026-03-01 00:00"),
        ("yearly 02-29..03-02", "2026-03-01 00:00 to 2026-03-03 00:00"),
    ],
)
def test_what_the_forms_mean(text: str, expected: str | None) -> None:
    """Days are whole and their last one is included; times are exact and their end is not."""
    assert in_year(text) == expected


def test_leap_days_come_in_leap_years() -> None:
    """February 29 is a whole day where there is one, and no time at all where there is none."""
    assert in_year("yearly 02-29", 2028) == "2028-02-29 00:00 to 2028-03-01 00:00"
    assert in_year("yearly 5th Tue of Feb", 2028) == "2028-02-29 00:00 to 2028-03-01 00:00"


def test_years_are_found_in_any_span() -> None:
    """What begins in the year before, or by a rule of the year before, is not missed."""
    new_year = Blackout.parse("yearly 12-30..01-02")
    assert [start.year for start, _ in new_year.between(datetime(2026, 1, 1), datetime(2026, 12, 30))] == [2025, 2026]
    first_friday = Blackout.parse("yearly Fri after 12-31")
    assert list(first_friday.between(datetime(2027, 1, 1, 5), datetime(2027, 1, 1, 6))) == [
        (datetime(2027, 1, 1), datetime(2027, 1, 2))
    ]
    once = Blackout.parse("2026-12-24")
    assert not list(once.between(datetime(2026, 12, 25, 1), datetime(2027, 12, 24)))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" 2026-12-24  ( Christmas Eve ) ", "2026-12-24 (Christmas Eve)"),
        ("2026-12-24 .. 2026-12-24", "2026-12-24"),
        ("2026-11-27 18:00..2026-11-27 22:00", "2026-11-27T18:00..22:00"),
        ("2026-11-27T00:00..2026-11-28T24:00", "2026-11-27..2026-11-28"),
        ("2026-11-27..+3d", "2026-11-27..2026-11-30"),
        ("2026-11-27..06:00", "2026-11-27..06:00"),
        ("YEARLY FRI AFTER THE 4TH THU OF NOV..+0d", "yearly Fri after 4th Thu of Nov"),
        ("yearly 12-31T18:00..01-01T12:00", "yearly 12-31 18:00..01-01 12:00"),
        ("yearly 12-24..12-26 (a (nested) label, with commas)", "yearly 12-24..12-26 (a (nested) label, with commas)"),
    ],
)
def test_text_is_read_and_written_in_one_form(text: str, canonical: str) -> None:
    """Different spellings give the same text, which reads back to an equal blackout."""
    blackout = Blackout.parse(text)
    assert str(blackout) == canonical
    assert Blackout.parse(canonical) == blackout
    assert pickle.loads(pickle.dumps(blackout)) == blackout


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "''"),
        ("tomorrow", "'tomorrow'"),
        ("2026-12", "'2026-12'"),
        ("2026-02-30", "'2026-02-30'"),
        ("26-12-24", "'26-12-24'"),
        ("2026-12-24..", "'2026-12-24..'"),
        ("2026-12-24..12-26", "'12-26'"),
        ("2026-12-24..Christmas", "'Christmas'"),
        ("12-24..12-26", "'12-24'"),
        ("yearly", "'yearly'"),
        ("yearly 2026-12-24", "'2026-12-24'"),
        ("yearly 02-30", "'02-30'"),
        ("yearly 13-01", "'13-01'"),
        ("yearly 6th Thu of Nov", "'6th Thu of Nov'"),
        ("yearly 4th Thu of Nowember", "'4th Thu of Nowember'"),
        ("yearly Fri near 12-24", "'Fri near 12-24'"),
        ("yearly ..12-24", "'yearly ..12-24'"),
        ("yearly +4d", "'+4d'"),
        ("2026-12-24T25:00..2026-12-26", "'2026-12-24T25:00'"),
        ("2026-12-24T10:60..2026-12-26", "'2026-12-24T10:60'"),
        ("2026-12-24..2026-12-26T24:01", "'2026-12-26T24:01'"),
        ("2026-12-24T24:00..2026-12-26", "a start from 00:00 to 23:59"),
        ("2026-12-24T18:00", "a moment with an end, such as '2026-12-24T18:00..22:00'"),
        ("2026-12-26..2026-12-24", "ends after it starts"),
        ("2026-12-24T18:00..18:00", "ends after it starts"),
        ("2026-12-24T18:00..06:00", "ends after it starts"),
        ("2026-12-24T18:00..2026-12-24T17:59", "ends after it starts"),
        ("yearly 12-26..12-24", "within 184 days, instead of 2000-12-26 to 2001-12-25"),
        ("yearly 12-24 18:00..06:00", "ends after it starts"),
        ("yearly 4th Thu of Nov..11-25", "instead of 2002-11-28 to 2003-11-26"),
        ("yearly 01-01..07-04", "within 184 days"),
        ("yearly 01-01..+300d", "within 184 days"),
        ("1969-12-31", "years from 1970 to 9998"),
        ("9999-12-31", "years from 1970 to 9998"),
        ("9998-12-31..+999d", "years from 1970 to 9998"),
        ("2026-12-24 (Christmas", "one pair of parentheses"),
        ("2026-12-24 (Christmas) and after", "one pair of parentheses"),
        ("2026-12-24 (one; two)", "'one; two'"),
        ("2026-12-24 (one\ntwo)", "a label of one line"),
        (20261224, "a date"),
        (None, "a date"),
    ],
)
def test_bad_blackouts_are_refused_with_the_part_that_is_wrong(text: object, part: str) -> None:
    """The error names the field, the whole text, and what is allowed instead of the offending part."""
    with pytest.raises(InvalidPlan) as caught:
        Blackout.parse(text, field="calendar, blackouts")  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"calendar, blackouts: {text!r} is not valid. Allowed: ")
    assert part in caught.value.allowed


# Against a walk through the days of a year

years = st.integers(1900, 2200)
weekdays = st.integers(0, 6)
months = st.integers(1, 12)
dates = st.dates(date(1990, 1, 1), date(2090, 1, 1))
minutes = st.integers(0, 1439)
labels = st.text(st.characters(codec="utf-8", exclude_characters=";", categories=("L", "N", "P", "S")), max_size=20)


@given(years, st.integers(1, 5), weekdays, months)
def test_nth_weekdays_are_those_of_a_calendar_on_paper(year: int, nth: int, weekday: int, month: int) -> None:
    """The rule finds the day in the column of the month's sheet, counted from the top or, for the last, the bottom."""
    column = [week[weekday] for week in monthcalendar(year, month) if week[weekday]]
    name = f"{('1st', '2nd', '3rd', '4th', '5th')[nth - 1]} {DAYS[weekday]} of {MONTHS[month - 1]}"
    expected = date(year, month, column[nth - 1]) if nth <= len(column) else None
    assert parse_yearly_day(name).date_in(year) == expected  # type: ignore[union-attr]
    last = parse_yearly_day(f"last {DAYS[weekday]} of {MONTHS[month - 1]}")
    assert last.date_in(year) == date(year, month, column[-1])  # type: ignore[union-attr]


@given(dates, weekdays, st.booleans())
def test_a_neighbour_is_the_first_such_day_beside(day: date, weekday: int, after: bool) -> None:
    """Walking from the other day, the first of that weekday is meant, and never the other day itself."""
    assume((day.month, day.day) != (2, 29))
    text = f"{DAYS[weekday]} {'after' if after else 'before'} {day:%m-%d}"
    step, expected = timedelta(days=1 if after else -1), day
    while (expected := expected + step).weekday() != weekday:
        pass
    assert parse_yearly_day(text).date_in(day.year) == expected  # type: ignore[union-attr]


@given(dates, st.integers(0, 400), st.one_of(st.none(), minutes), st.one_of(st.none(), minutes), labels)
def test_dates_mean_what_they_say_and_read_back(
    day: date, length: int, opens: int | None, closes: int | None, label: str
) -> None:
    """Any range of days or moments is from its first to its last one, and its text reads back to an equal one."""
    start = datetime.combine(day, datetime.min.time()) + timedelta(minutes=opens or 0)
    last = day + timedelta(days=length)
    end = datetime.combine(last, datetime.min.time()) + timedelta(minutes=1440 if closes is None else closes)
    assume(start < end)
    first_time = "" if opens is None else f"T{start:%H:%M}"
    last_time = "" if closes is None else f"T{end:%H:%M}"
    blackout = Blackout.parse(f"{day}{first_time}..{last}{last_time}" + (f" ({label})" if label else ""))
    assert blackout.in_year(0) == (start, end)
    assert blackout.label == label
    assert Blackout.parse(str(blackout)) == blackout
    assert hash(Blackout.parse(str(blackout))) == hash(blackout)


day_texts = st.one_of(
    dates.map(lambda day: f"{day:%m-%d}"),
    st.builds(
        lambda nth, weekday, month: f"{nth} {DAYS[weekday]} of {MONTHS[month - 1]}",
        st.sampled_from(["1st", "2nd", "3rd", "4th", "5th", "last"]),
        weekdays,
        months,
    ),
).flatmap(
    lambda other: st.one_of(
        st.just(other),
        st.builds(lambda day, beside: f"{DAYS[day]} {beside} {other}", weekdays, st.sampled_from(["after", "before"])),
    )
)


@given(day_texts, st.integers(0, 180), minutes, minutes, years)
def test_yearly_blackouts_read_back(first: str, later: int, opens: int, closes: int, year: int) -> None:
    """Any rule's text reads back to an equal blackout, and it lasts as long as it says, from the day that it names."""
    assume(later or opens < closes)
    text = f"yearly {first} {opens // 60:02}:{opens % 60:02}..+{later}d {closes // 60:02}:{closes % 60:02}"
    blackout = Blackout.parse(text)
    assert Blackout.parse(str(blackout)) == blackout
    assert str(Blackout.parse(str(blackout))) == str(blackout)
    day = parse_yearly_day(first).date_in(year)  # type: ignore[union-attr]
    found = blackout.in_year(year)
    if day is None:
        assert found is None
    elif found is not None:
        start = datetime.combine(day, datetime.min.time()) + timedelta(minutes=opens)
        assert found == (start, start + timedelta(days=later, minutes=closes - opens))
    else:
        assert not later
