"""The off-peak calendar, by example and against a model that walks through UTC minute by minute."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core.calendar import OffPeakCalendar, Window
from airflow_backup_guard.errors import InvalidPlan

LOS_ANGELES = "America/Los_Angeles"
BERLIN = "Europe/Berlin"
MINUTE = timedelta(minutes=1)
WEEK = 7 * 24 * 60
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ALWAYS = "daily 00:00-24:00"


def at(text: str, tz: str = LOS_ANGELES) -> pendulum.DateTime:
    """Read a moment, by the wall clock of ``tz`` unless it carries an offset."""
    moment = pendulum.parse(text, tz=tz)
    assert isinstance(moment, pendulum.DateTime)
    return moment


def opened(windows: str, start: str, end: str, tz: str = LOS_ANGELES) -> list[str]:
    """Windows of the calendar between two days, as readable text with offsets."""
    calendar = OffPeakCalendar.parse(windows, tz=tz)
    found = calendar.windows(at(start, tz), at(end, tz))
    return [f"{window.start:%d %H:%M%z} to {window.end:%d %H:%M%z}" for window in found]


# Reading and writing


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("Mon-Fri 01:00-05:00; Fri,Sat 22:00-08:00", "Mon-Fri 01:00-05:00; Fri,Sat 22:00-08:00"),
        ("  mon - FRI   01:00 - 05:00 ,22:00-23:00", "Mon-Fri 01:00-05:00, 22:00-23:00"),
        ("Mon-Fri 22:00-23:00; Mon-Fri 01:00-05:00", "Mon-Fri 01:00-05:00, 22:00-23:00"),
        ("daily 22:00-06:00", "daily 22:00-06:00"),
        ("Mon-Sun 22:00-06:00", "daily 22:00-06:00"),
        ("Fri-Mon 01:00-02:00", "Mon,Fri-Sun 01:00-02:00"),
        ("Sun,Mon,Wed 01:00-02:00", "Mon,Wed,Sun 01:00-02:00"),
        ("Tue-Tue 01:00-02:00", "Tue 01:00-02:00"),
        ("Mon 22:00-00:00", "Mon 22:00-24:00"),
        ("Mon 22:00-24:00; Tue 00:00-05:00", "Mon 22:00-05:00"),
        ("Sun 22:00-24:00; Mon 00:00-05:00", "Sun 22:00-05:00"),
        ("Mon 01:00-03:00, 03:00-05:00", "Mon 01:00-05:00"),
        ("Sat,Sun 00:00-24:00", "Sat,Sun 00:00-24:00"),
        (
            "Fri 22:00-24:00; Sat,Sun 00:00-24:00; Mon 00:00-08:00",
            "Mon 00:00-08:00; Fri 22:00-24:00; Sat,Sun 00:00-24:00",
        ),
        ("Mon 05:00-24:00; Tue 00:00-05:00", "Mon 05:00-24:00; Tue 00:00-05:00"),
        ("daily 05:00-12:00, 12:00-05:00", ALWAYS),
        (ALWAYS, ALWAYS),
    ],
)
def test_text_is_read_and_written_in_one_form(text: str, canonical: str) -> None:
    """Different spellings of the same hours give the same text, which reads back to an equal calendar."""
    calendar = OffPeakCalendar.parse(text, tz=LOS_ANGELES)
    assert str(calendar) == canonical
    assert OffPeakCalendar.parse(canonical, tz=LOS_ANGELES) == calendar


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Mon", "''"),
        ("25:00", "''"),
        ("01:00-05:00", "days"),
        ("Mon 25:00-26:00", "'25:00-26:00'"),
        ("Mon 01:00-24:01", "'01:00-24:01'"),
        ("Mon 24:00-02:00", "'24:00-02:00'"),
        ("Mon 01:60-02:00", "'01:60-02:00'"),
        ("Mon 01:00-01:60", "'01:00-01:60'"),
        ("Mon 1:00-2:00", "'1:00-2:00'"),
        ("Mon 01:00", "'01:00'"),
        ("Mon 01:00-02:00-03:00", "'01:00-02:00-03:00'"),
        ("Mon 01:00-02:00,", "''"),
        ("Mon 01:00-02:00; ", "''"),
        ("Mon 01:00-02:00, Sat 01:00-02:00", "'Sat 01:00-02:00'"),
        ("Mon ٠١:٠٠-٠٢:٠٠", "'Mon ٠١:٠٠-٠٢:٠٠'"),
        ("Tue-Thx 01:00-02:00", "'Tue-Thx'"),
        ("Mon,Funday 01:00-02:00", "'Funday'"),
        ("Mon-Wed-Fri 01:00-02:00", "'Mon-Wed-Fri'"),
        ("Mon, 01:00-02:00", "''"),
        ("daily,Mon 01:00-02:00", "'daily'"),
        ("Mon 01:00-01:00", "'01:00-01:00'"),
        ("Mon 00:00-00:00", "'00:00-00:00'"),
        ("Mon 01:00-05:00, 04:59-06:00", "'Mon 01:00-05:00' and 'Mon 04:59-06:00'"),
        ("Tue 04:00-06:00; daily 01:00-05:00", "'Tue 01:00-05:00' and 'Tue 04:00-06:00'"),
        ("Mon 01:00-09:00; Mon 02:00-03:00", "'Mon 01:00-09:00' and 'Mon 02:00-03:00'"),
        ("Mon,Mon 01:00-02:00", "'Mon 01:00-02:00' and 'Mon 01:00-02:00'"),
    ],
)
def test_bad_windows_are_refused_with_the_part_that_is_wrong(text: str, part: str) -> None:
    """The error names the field, the whole text and the offending part."""
    with pytest.raises(InvalidPlan) as caught:
        OffPeakCalendar.parse(text, tz="UTC", field="off_peak")
    assert str(caught.value).startswith(f"off_peak: {text!r} is not valid. Allowed: ")
    assert part in caught.value.allowed


def test_a_night_that_runs_into_the_next_days_windows_is_one_window_with_them() -> None:
    """Nights of the week-end and early mornings of the week are natural to write, and Sunday's runs into Monday."""
    calendar = OffPeakCalendar.parse("Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00", tz=LOS_ANGELES)
    assert str(calendar) == "Tue-Fri 01:00-05:00; Sat,Sun 22:00-08:00"
    assert calendar == OffPeakCalendar.parse("Sat,Sun 22:00-08:00; Tue-Fri 01:00-05:00", tz=LOS_ANGELES)
    longer = OffPeakCalendar.parse("Sun 22:00-08:00; Mon 07:00-09:00", tz=LOS_ANGELES)
    assert str(longer) == "Sun 22:00-09:00"


@pytest.mark.parametrize("text", ["", "  \n", None, 5])
def test_no_windows_are_refused(text: object) -> None:
    """A calendar without windows would never let a backup run."""
    with pytest.raises(InvalidPlan, match="Allowed: windows, such as"):
        OffPeakCalendar.parse(text, tz="UTC")  # type: ignore[arg-type]


@pytest.mark.parametrize("tz", ["Mars/Olympus", "", "America", "../etc/passwd", "x" * 300, None, 2])
def test_unknown_zones_are_refused(tz: object) -> None:
    """A zone that is not in the time zone database is an InvalidPlan that names it."""
    with pytest.raises(InvalidPlan) as caught:
        OffPeakCalendar.parse(ALWAYS, tz=tz, field="off_peak")  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"off_peak, time zone: {tz!r} is not valid. Allowed: ")


def test_a_calendar_is_a_value() -> None:
    """Calendars are frozen, hashable, picklable, and equal exactly if windows and zone are."""
    one = OffPeakCalendar.parse("Mon-Fri 01:00-05:00", tz=BERLIN)
    same = OffPeakCalendar.parse("Mon,Tue,Wed,Thu,Fri 01:00-03:00, 03:00-05:00", tz=BERLIN)
    assert one == same
    assert len({one, same, pickle.loads(pickle.dumps(one))}) == 1
    assert one != OffPeakCalendar.parse("Mon-Fri 01:00-05:00", tz="UTC")
    assert one != OffPeakCalendar.parse("Mon-Fri 01:00-05:01", tz=BERLIN)
    with pytest.raises(FrozenInstanceError):
        one.tz = "UTC"  # type: ignore[misc]


def test_a_calendar_is_stored_as_a_plain_dict() -> None:
    """The dict holds two texts and reads back to an equal calendar."""
    calendar = OffPeakCalendar.parse("Fri-Mon 01:00-05:00", tz=BERLIN)
    assert calendar.to_dict() == {"windows": "Mon,Fri-Sun 01:00-05:00", "tz": BERLIN}
    assert OffPeakCalendar.from_dict(calendar.to_dict()) == calendar


@pytest.mark.parametrize("data", [{}, {"windows": ALWAYS}, {"tz": "UTC"}, {"windows": None, "tz": "UTC"}])
def test_an_incomplete_dict_is_refused(data: dict[str, object]) -> None:
    """A stored calendar without windows or zone is an InvalidPlan, not a KeyError."""
    with pytest.raises(InvalidPlan, match="off_peak"):
        OffPeakCalendar.from_dict(data, field="off_peak")


# Ordinary days


@pytest.mark.parametrize(
    ("moment", "window_end", "next_start"),
    [
        ("2024-06-03T00:59:59.999999", None, "2024-06-03T01:00"),
        ("2024-06-03T01:00", "2024-06-03T05:00", "2024-06-03T01:00"),
        ("2024-06-03T01:00:00.000001", "2024-06-03T05:00", "2024-06-04T01:00"),
        ("2024-06-03T04:59:59.999999", "2024-06-03T05:00", "2024-06-04T01:00"),
        ("2024-06-03T05:00", None, "2024-06-04T01:00"),
        ("2024-06-07T23:30", "2024-06-08T08:00", "2024-06-08T22:00"),
        ("2024-06-08T07:00", "2024-06-08T08:00", "2024-06-08T22:00"),
        ("2024-06-09T12:00", None, "2024-06-10T01:00"),
        ("2024-06-01T12:00", None, "2024-06-01T22:00"),
    ],
)
def test_a_week_without_clock_changes(moment: str, window_end: str | None, next_start: str) -> None:
    """Starts are inside, ends are outside, nights belong to the day on which they start."""
    calendar = OffPeakCalendar.parse("Mon-Fri 01:00-05:00; Fri,Sat 22:00-08:00", tz=LOS_ANGELES)
    assert calendar.contains(at(moment)) is (window_end is not None)
    assert calendar.window_end(at(moment)) == (at(window_end) if window_end else None)
    assert calendar.next_start(at(moment)) == at(next_start)


def test_the_incident_at_noon_is_outside() -> None:
    """June 1, 2024, noon PDT, asked in any zone and with any kind of datetime, is not off-peak."""
    calendar = OffPeakCalendar.parse("daily 01:00-05:00", tz=LOS_ANGELES)
    assert not calendar.contains(at("2024-06-01T12:00"))
    assert not calendar.contains(datetime(2024, 6, 1, 19, tzinfo=timezone.utc))
    assert calendar.contains(datetime(2024, 6, 1, 13, tzinfo=ZoneInfo(BERLIN)))


def test_moments_come_back_in_the_zone_of_the_calendar() -> None:
    """Whatever zone was asked in, the answer is a pendulum moment with the wall clock of the calendar."""
    calendar = OffPeakCalendar.parse("daily 01:00-05:00", tz="Asia/Kathmandu")
    moment = at("2024-06-01T20:00Z")
    found = [calendar.window_end(moment), calendar.next_start(moment)]
    found += next(calendar.windows(moment, moment.add(days=1)))
    assert [str(when) for when in found] == [
        "2024-06-02 05:00:00+05:45",
        "2024-06-03 01:00:00+05:45",
        "2024-06-02 01:45:00+05:45",
        "2024-06-02 05:00:00+05:45",
    ]
    assert all(isinstance(when, pendulum.DateTime) for when in found)
    assert {when.timezone_name for when in found if when} == {"Asia/Kathmandu"}


@pytest.mark.parametrize("windows", ["daily 01:00-05:00", ALWAYS])
def test_moments_without_a_zone_are_refused(windows: str) -> None:
    """A naive moment could mean any hour, so every question refuses it and says what to pass."""
    calendar = OffPeakCalendar.parse(windows, tz="UTC")
    naive, aware = datetime(2024, 6, 1), datetime(2024, 6, 1, tzinfo=timezone.utc)
    for ask in (calendar.contains, calendar.window_end, calendar.next_start):
        with pytest.raises(InvalidPlan, match="time zone, such as"):
            ask(naive)
    for span in ((naive, aware), (aware, naive)):
        with pytest.raises(ValueError, match="time zone, such as"):
            list(calendar.windows(*span))


def test_whole_days_in_a_row_are_one_window() -> None:
    """A weekend is one window from Saturday 00:00 to Monday 00:00."""
    calendar = OffPeakCalendar.parse("Sat,Sun 00:00-24:00", tz=LOS_ANGELES)
    assert calendar.window_end(at("2024-06-01T12:00")) == at("2024-06-03T00:00")
    assert calendar.next_start(at("2024-06-01T12:00")) == at("2024-06-08T00:00")


def test_a_calendar_that_is_always_open() -> None:
    """It contains every moment, closes in 9999, never opens, and its windows are the span that was asked for."""
    calendar = OffPeakCalendar.parse(ALWAYS, tz=LOS_ANGELES)
    start, end = at("2024-06-01T12:00"), at("2024-07-01T12:00")
    assert calendar.always_open
    assert calendar.contains(start)
    assert calendar.window_end(start) == at("9999-01-01T00:00")
    assert calendar.next_start(start) is None
    assert list(calendar.windows(start, end)) == [Window(start, end)]
    assert list(calendar.windows(end, start)) == []
    assert not OffPeakCalendar.parse("daily 00:00-23:59", tz=LOS_ANGELES).always_open


def test_windows_are_cut_to_the_span() -> None:
    """The open parts of a span lie inside it; a span that is empty or backwards has none."""
    assert opened("daily 01:00-05:00", "2024-06-03T04:00", "2024-06-04T02:00") == [
        "03 04:00-0700 to 03 05:00-0700",
        "04 01:00-0700 to 04 02:00-0700",
    ]
    assert opened("daily 01:00-05:00", "2024-06-03T05:00", "2024-06-04T01:00") == []
    assert opened("daily 01:00-05:00", "2024-06-03T02:00", "2024-06-03T02:00") == []
    assert opened("daily 01:00-05:00", "2024-06-03T04:00", "2024-06-03T02:00") == []


# Days on which the clock jumps


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("Sun 01:00-05:00", ["10 01:00-0800 to 10 05:00-0700"]),
        ("Sun 02:30-05:00", ["10 03:00-0700 to 10 05:00-0700"]),
        ("Sun 01:00-02:30", ["10 01:00-0800 to 10 03:00-0700"]),
        ("Sun 02:00-03:00", []),
        ("Sun 02:15-02:45", []),
        ("Sun 01:00-02:15, 02:45-04:00", ["10 01:00-0800 to 10 04:00-0700"]),
    ],
)
def test_when_the_clock_jumps_forward(windows: str, expected: list[str]) -> None:
    """02:00 to 03:00 do not exist: starts and ends in there count at the jump, what lies within does not open."""
    assert opened(windows, "2024-03-09", "2024-03-12") == expected


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("Sun 00:30-05:00", ["03 00:30-0700 to 03 05:00-0800"]),
        ("Sun 01:00-05:00", ["03 01:00-0800 to 03 05:00-0800"]),
        ("Sun 01:30-05:00", ["03 01:30-0800 to 03 05:00-0800"]),
        ("Sat 22:00-01:00", ["02 22:00-0700 to 03 01:00-0700"]),
        ("Sat 22:00-01:30", ["02 22:00-0700 to 03 01:30-0700"]),
        ("Sat 22:00-02:00", ["02 22:00-0700 to 03 02:00-0800"]),
        ("Sun 01:15-01:45", ["03 01:15-0800 to 03 01:45-0800"]),
        (
            "Sun 00:00-01:15, 01:45-03:00",
            ["03 00:00-0700 to 03 01:15-0700", "03 01:45-0800 to 03 03:00-0800"],
        ),
    ],
)
def test_when_the_clock_jumps_back(windows: str, expected: list[str]) -> None:
    """01:00 to 02:00 come twice: a window starts with the second, ends with the first, and opens once."""
    assert opened(windows, "2024-11-02", "2024-11-05") == expected


def test_a_day_that_does_not_exist() -> None:
    """Samoa skipped December 30, 2011: its windows do not open, the night before goes on into the next day."""
    assert opened("Fri 01:00-05:00", "2011-12-29", "2012-01-07", "Pacific/Apia") == ["06 01:00+1400 to 06 05:00+1400"]
    assert opened("Thu,Fri 22:00-06:00", "2011-12-29", "2012-01-01", "Pacific/Apia") == [
        "29 22:00-1000 to 31 06:00+1400"
    ]


# Against the model. Each zone comes with a day, in UTC, on which its clock jumps.

PLACES = [
    (LOS_ANGELES, datetime(2024, 3, 10)),
    (LOS_ANGELES, datetime(2024, 11, 3)),
    (BERLIN, datetime(2024, 3, 31)),
    (BERLIN, datetime(2024, 10, 27)),
    ("Australia/Lord_Howe", datetime(2024, 4, 6)),
    ("Australia/Lord_Howe", datetime(2024, 10, 5)),
    ("Asia/Kathmandu", datetime(1985, 12, 31)),
    ("Antarctica/Troll", datetime(2024, 3, 31)),
    ("Antarctica/Troll", datetime(2024, 10, 27)),
    ("Pacific/Apia", datetime(2011, 12, 30)),
    ("Pacific/Apia", datetime(2012, 3, 31)),
    ("America/Havana", datetime(2024, 11, 3)),
    ("America/Sao_Paulo", datetime(2018, 2, 18)),
    ("America/Sao_Paulo", datetime(2018, 11, 4)),
    ("UTC", datetime(2024, 6, 1)),
]
EPOCH = datetime(1970, 1, 5)  # a Monday
REACH = 12 * 24 * 60  # minutes on either side of the jump: a week, and what two windows joined by a jump add

Spans = list[tuple[int, int]]


# No deadline: how fast this machine is must not decide whether a test passes.
unhurried = settings(deadline=None)


@cache
def wall_minutes(zone: str, day: datetime) -> list[int]:
    """What the clock shows in each UTC minute around the day, in minutes since the epoch's Monday."""
    first = day.replace(tzinfo=timezone.utc) - REACH * MINUTE
    shown = ((first + index * MINUTE).astimezone(ZoneInfo(zone)) for index in range(2 * REACH))
    return [(wall.replace(tzinfo=None) - EPOCH) // MINUTE for wall in shown]


def open_minutes(spans: Spans, zone: str, day: datetime) -> list[bool]:
    """For each UTC minute around the day: is the calendar open?

    A window of a week is all minutes in which the clock shows a time in it. Of those it is open from the last one
    that shows its start (or the first of all, where no clock showed the start), as long as they are in a row.
    """
    minutes_of: dict[int, list[int]] = {}
    for index, shown in enumerate(wall_minutes(zone, day)):
        for start, length in spans:
            if (into := (shown - start) % WEEK) < length:
                minutes_of.setdefault(shown - into, []).append(index)
    result = [False] * (2 * REACH)
    for start, indexes in minutes_of.items():
        starts = [index for index in indexes if wall_minutes(zone, day)[index] == start]
        index = starts[-1] if starts else indexes[0]
        members = set(indexes)
        while index in members:
            result[index] = True
            index += 1
    return result


def as_text(spans: Spans) -> str:
    """Write spans as clauses cut at each midnight."""
    clauses = []
    for start, length in spans:
        minute, end = start, start + length
        while minute < end:
            until = min(end, minute - minute % 1440 + 1440)
            first, last = minute % 1440, (until - 1) % 1440 + 1
            times = f"{first // 60:02}:{first % 60:02}-{last // 60:02}:{last % 60:02}"
            clauses.append(f"{DAYS[minute // 1440 % 7]} {times}")
            minute = until
    return ";".join(clauses)


@st.composite
def spans_near(draw: st.DrawFn, place: tuple[str, datetime]) -> Spans:
    """(start in the week, length) of windows that do not touch, often with edges near the jump's wall clock."""
    zone, day = place
    jumped = wall_minutes(zone, day)[REACH : REACH + 24 * 60]
    jump = next((i for i in range(1, len(jumped)) if jumped[i] != jumped[i - 1] + 1), 0)
    near = st.integers(-5 * 60 // 15, 5 * 60 // 15).map(lambda quarter: (jumped[jump] + 15 * quarter) % WEEK)
    minute = st.one_of(near, near, st.integers(0, WEEK - 1))
    edges = sorted(draw(st.lists(minute, min_size=2, max_size=10, unique=True)))
    edges = edges[: len(edges) // 2 * 2]
    if draw(st.booleans()):
        edges = [*edges[1:], edges[0] + WEEK]
    return [(start, end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]


@st.composite
def calendars(draw: st.DrawFn) -> tuple[Spans, tuple[str, datetime]]:
    """Spans and the place for which they were made."""
    place = draw(st.sampled_from(PLACES))
    return draw(spans_near(place)), place


def minutes_between(first: datetime, moment: datetime) -> int:
    """Minutes that really pass; Python's ``-`` and ``==`` go by the wall clock in repeated hours."""
    return round((moment.timestamp() - first.timestamp()) / 60)


@unhurried
@given(calendars())
@example(([(6 * 1440 + 90, 210)], (LOS_ANGELES, datetime(2024, 11, 3))))
@example(([(6 * 1440 + 60, 30)], (LOS_ANGELES, datetime(2024, 11, 3))))
@example(([(60, WEEK - 60)], ("Pacific/Apia", datetime(2011, 12, 30))))
def test_windows_are_those_of_the_model(case: tuple[Spans, tuple[str, datetime]]) -> None:
    """Over weeks around a jump of the clock, every minute is open or closed as the model says."""
    spans, (zone, day) = case
    first = day.replace(tzinfo=timezone.utc) - REACH * MINUTE
    calendar = OffPeakCalendar.parse(as_text(spans), tz=zone)
    found = [False] * (2 * REACH)
    previous = -1
    for start, end in calendar.windows(first, first + 2 * REACH * MINUTE):
        opening, closing = minutes_between(first, start), minutes_between(first, end)
        assert previous < opening < closing
        found[opening:closing] = [True] * (closing - opening)
        previous = closing
    assert found == open_minutes(spans, zone, day)


@unhurried
@given(
    calendars(),
    st.lists(st.tuples(st.integers(REACH - 2880, REACH + 2880), st.integers(0, 59_999_999)), min_size=1, max_size=8),
)
def test_answers_are_those_of_the_model(
    case: tuple[Spans, tuple[str, datetime]], moments: list[tuple[int, int]]
) -> None:
    """Contains, window end and next start agree with the model, and no open minute lies before the next start."""
    spans, (zone, day) = case
    first = day.replace(tzinfo=timezone.utc) - REACH * MINUTE
    calendar = OffPeakCalendar.parse(as_text(spans), tz=zone)
    model = open_minutes(spans, zone, day)
    for index, microseconds in moments:
        moment = first + index * MINUTE + timedelta(microseconds=microseconds)
        end, start = calendar.window_end(moment), calendar.next_start(moment)
        assert calendar.contains(moment) is model[index] is (end is not None)
        closed = next(i for i in range(index, 2 * REACH) if not model[i])
        at_opening = not microseconds and model[index] and not model[index - 1]
        opening = index if at_opening else next(i for i in range(closed, 2 * REACH) if model[i])
        assert start is not None
        assert minutes_between(first, start) == opening
        assert end is None or minutes_between(first, end) == closed


@unhurried
@given(calendars(), st.integers(REACH - 2880, REACH + 2880))
def test_answers_hang_together(case: tuple[Spans, tuple[str, datetime]], index: int) -> None:
    """A next start is a start, an end is outside, and the clock never shows a time outside in an open minute."""
    spans, (zone, day) = case
    calendar = OffPeakCalendar.parse(as_text(spans), tz=zone)
    moment = day.replace(tzinfo=timezone.utc) + (index - REACH) * MINUTE
    start = calendar.next_start(moment)
    assert start is not None
    assert calendar.contains(start)
    assert not calendar.contains(start - timedelta(microseconds=1))
    assert calendar.next_start(start) == start
    if (end := calendar.window_end(moment)) is not None:
        assert not calendar.contains(end)
        assert calendar.contains(end.subtract(microseconds=1))
        shown = wall_minutes(zone, day)[index]
        assert any((shown - span_start) % WEEK < length for span_start, length in spans)


@unhurried
@given(calendars())
def test_text_and_dict_read_back(case: tuple[Spans, tuple[str, datetime]]) -> None:
    """Any calendar written as text or dict reads back to itself, and its text does not change again."""
    spans, (zone, _) = case
    calendar = OffPeakCalendar.parse(as_text(spans), tz=zone)
    again = OffPeakCalendar.parse(str(calendar), tz=zone)
    assert again == calendar == OffPeakCalendar.from_dict(calendar.to_dict())
    assert hash(again) == hash(calendar)
    assert str(again) == str(calendar)
    assert calendar.spans == tuple(sorted((start % WEEK, start % WEEK + length) for start, length in spans))


@unhurried
@given(
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda times: (times[1] - times[0]) % 1440),
)
def test_a_list_of_days_reads_back(days: set[str], times: tuple[int, int]) -> None:
    """The same window on any set of days, which cannot overlap, opens on each of them."""
    clock = "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in times)
    calendar = OffPeakCalendar.parse(f"{','.join(days)} {clock}", tz="UTC")
    assert len(calendar.spans) == len(days)
    assert OffPeakCalendar.parse(str(calendar), tz="UTC") == calendar
