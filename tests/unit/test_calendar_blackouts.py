"""Calendars with blackouts, public holidays and calendars of others: what is open, what is not, and why."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core.calendar import Because, Closed, OffPeakCalendar
from airflow_backup_guard.core.holidays import holidays_in
from airflow_backup_guard.core.sources import Reading
from airflow_backup_guard.errors import InvalidPlan

BERLIN = "Europe/Berlin"
NIGHTS = "daily 22:00-06:00"
ALWAYS = "daily 00:00-24:00"
SOURCE = "https://ops.example/maintenance.ics?token=secret"

holidays = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import holidays"], capture_output=True, check=False).returncode != 0,
    reason="holidays is not installed here",
)


def at(text: str, tz: str = BERLIN) -> pendulum.DateTime:
    """Read a moment, by the wall clock of ``tz`` unless it carries an offset."""
    moment = pendulum.parse(text, tz=tz)
    assert isinstance(moment, pendulum.DateTime)
    return moment


def parse(text: str = NIGHTS, tz: str = BERLIN, **more: object) -> OffPeakCalendar:
    """A calendar in Berlin."""
    return OffPeakCalendar.parse(text, tz, **more)  # type: ignore[arg-type]


def opened(calendar: OffPeakCalendar, start: str, end: str) -> list[str]:
    """The calendar's windows between two moments, as readable text with offsets."""
    return [f"{w.start:%m-%d %H:%M%z} to {w.end:%m-%d %H:%M%z}" for w in calendar.windows(at(start), at(end))]


def reading(*periods: tuple[str, str, str], problem: str = "", until: str = "2027-03-01") -> Reading:
    """What the source was found to forbid."""
    found = tuple((at(start), at(end), label) for start, end, label in periods)
    return Reading(SOURCE, at("2026-11-01"), at(until), found, problem)


# Blackouts


def test_blackouts_are_cut_out_of_windows() -> None:
    """What is left of a window on either side is a window; one that is covered whole does not open."""
    calendar = parse(blackouts=["2026-11-27T23:00..2026-11-28T02:00", "2026-11-29T12:00..2026-11-30T12:00"])
    assert opened(calendar, "2026-11-27T12:00", "2026-12-01T12:00") == [
        "11-27 22:00+0100 to 11-27 23:00+0100",
        "11-28 02:00+0100 to 11-28 06:00+0100",
        "11-28 22:00+0100 to 11-29 06:00+0100",
        "11-30 22:00+0100 to 12-01 06:00+0100",
    ]
    assert calendar.window_end(at("2026-11-27T22:30")) == at("2026-11-27T23:00")
    assert calendar.window_end(at("2026-11-27T23:00")) is None
    assert calendar.next_start(at("2026-11-27T23:00")) == at("2026-11-28T02:00")
    assert calendar.next_start(at("2026-11-29T06:00")) == at("2026-11-30T22:00")
    assert calendar.open_time(at("2026-11-27T12:00"), at("2026-12-01T12:00")) == timedelta(hours=21)
    assert calendar.open_time(at("2026-12-01T12:00"), at("2026-11-27T12:00")) == timedelta(0)


def test_black_friday_comes_every_year() -> None:
    """The weekend after Thanksgiving, up to Monday, is closed in each year, whatever its dates."""
    calendar = parse(blackouts=["yearly Fri after 4th Thu of Nov..+3d (Black Friday)"])
    for year, friday in ((2024, 29), (2025, 28), (2026, 27), (2027, 26), (2028, 24)):
        start = pendulum.datetime(year, 11, friday, tz=BERLIN)
        assert calendar.contains(start.subtract(hours=1))
        assert not list(calendar.windows(start, start.add(days=4)))
        assert calendar.contains(start.add(days=4))


@pytest.mark.parametrize(
    ("blackout", "expected"),
    [
        ("2026-10-25", ["10-24 12:00+0200 to 10-25 00:00+0200", "10-26 00:00+0100 to 10-26 12:00+0100"]),
        ("2026-10-25T02:30..03:00", ["10-24 12:00+0200 to 10-25 02:30+0200", "10-25 03:00+0100 to 10-26 12:00+0100"]),
        ("2026-10-25T01:00..02:30", ["10-24 12:00+0200 to 10-25 01:00+0200", "10-25 02:30+0100 to 10-26 12:00+0100"]),
        ("2026-10-25T02:15..02:45", ["10-24 12:00+0200 to 10-25 02:15+0200", "10-25 02:45+0100 to 10-26 12:00+0100"]),
    ],
)
def test_when_the_clock_jumps_back(blackout: str, expected: list[str]) -> None:
    """02:00 to 03:00 come twice: a blackout starts with the first and ends with the second."""
    assert opened(parse(ALWAYS, blackouts=[blackout]), "2026-10-24T12:00", "2026-10-26T12:00") == expected


def test_when_the_clock_jumps_forward() -> None:
    """02:00 to 03:00 do not exist: starts and ends in there count at the jump, what lies within forbids nothing."""
    span = ("2026-03-28T12:00", "2026-03-29T12:00")
    assert opened(parse(ALWAYS, blackouts=["2026-03-29T02:30..04:00"]), *span) == [
        "03-28 12:00+0100 to 03-29 03:00+0200",
        "03-29 04:00+0200 to 03-29 12:00+0200",
    ]
    assert len(opened(parse(ALWAYS, blackouts=["2026-03-29T02:15..02:45"]), *span)) == 1


def test_always_open_but_for_blackouts() -> None:
    """Such a calendar has windows that last for months, and after its last blackout one that does not end."""
    calendar = parse(ALWAYS, blackouts=["2026-12-24..2026-12-26"])
    assert not calendar.always_open
    assert calendar.window_end(at("2026-11-01")) == at("2026-12-24")
    assert calendar.next_start(at("2026-11-01")) == at("2026-12-27")
    assert calendar.window_end(at("2026-12-27")) == pendulum.datetime(9999, 1, 1)
    assert calendar.next_start(at("2026-12-27T00:00:00.000001")) is None
    yearly = parse(ALWAYS, blackouts=["yearly 02-29"])
    assert yearly.window_end(at("2096-03-01")) == at("2104-02-29")
    assert yearly.next_start(at("2026-01-01")) is None  # the next one is more than two years away
    assert len(list(yearly.windows(at("2026-01-01"), at("2033-01-01")))) == 3


# Why


def test_it_says_why_it_is_closed() -> None:
    """Each reason is told, with the label of a blackout and the windows; none exactly while it is open."""
    calendar = parse(blackouts=["yearly Fri after 4th Thu of Nov..+3d (Black Friday)", "2026-11-28"])
    assert calendar.why_closed(at("2026-11-26T23:00")) == ()
    weekend = Closed(Because.BLACKOUT, "the blackout yearly Fri after 4th Thu of Nov..+3d (Black Friday)")
    saturday = Closed(Because.BLACKOUT, "the blackout 2026-11-28")
    outside = Closed(Because.OUTSIDE, "outside of daily 22:00-06:00 (Europe/Berlin)")
    assert calendar.why_closed(at("2026-11-27T01:00")) == (weekend,)
    assert calendar.why_closed(at("2026-11-28T12:00")) == (weekend, saturday, outside)
    assert calendar.why_closed(at("2026-11-24T12:00")) == (outside,)
    assert str(outside) == outside.text


def test_what_is_forbidden_in_a_period() -> None:
    """Each blackout that touches the period is told whole, in the zone of the calendar, in order."""
    calendar = parse(blackouts=["yearly 12-30..01-02 (inventory)", "2026-12-31T12:00..18:00"])
    found = list(calendar.forbidden(at("2026-12-31"), at("2027-12-30")))
    assert [(f"{f.start:%Y-%m-%d %H:%M}", f"{f.end:%Y-%m-%d %H:%M}", f.because, f.text) for f in found] == [
        ("2026-12-30 00:00", "2027-01-03 00:00", Because.BLACKOUT, "the blackout yearly 12-30..01-02 (inventory)"),
        ("2026-12-31 12:00", "2026-12-31 18:00", Because.BLACKOUT, "the blackout 2026-12-31T12:00..18:00"),
    ]
    assert {f.start.timezone_name for f in found} == {BERLIN}


# Public holidays


@holidays
def test_busy_holidays_open_no_window() -> None:
    """Nothing opens on the day, by its own midnights, and the reason has its name."""
    calendar = parse(holidays="DE-BY")
    assert opened(calendar, "2026-01-05T12:00", "2026-01-07T12:00") == [
        "01-05 22:00+0100 to 01-06 00:00+0100",
        "01-07 00:00+0100 to 01-07 06:00+0100",
    ]
    assert calendar.why_closed(at("2026-01-06T23:00")) == (
        Closed(Because.HOLIDAY, "a public holiday of DE-BY (Epiphany)"),
    )
    assert parse(holidays="DE").contains(at("2026-01-06T23:00"))
    (epiphany,) = calendar.forbidden(at("2026-01-05"), at("2026-01-08"))
    assert (epiphany.start, epiphany.end) == (at("2026-01-06"), at("2026-01-07"))


@holidays
def test_quiet_holidays_are_windows_as_a_whole() -> None:
    """The day is a window, one with the nights that it touches; a blackout still forbids."""
    calendar = parse(holidays="DE-BY", on_holidays="quiet", blackouts=["2026-01-06T10:00..12:00 (sale)"])
    assert opened(calendar, "2026-01-05T12:00", "2026-01-07T12:00") == [
        "01-05 22:00+0100 to 01-06 10:00+0100",
        "01-06 12:00+0100 to 01-07 06:00+0100",
    ]
    assert calendar.why_closed(at("2026-01-05T12:00")) == (
        Closed(Because.OUTSIDE, "outside of daily 22:00-06:00; holidays DE-BY (Europe/Berlin)"),
    )


@holidays
@settings(deadline=None)
@given(st.sets(st.sampled_from(["Fri", "Sat", "Sun", "Mon"])), st.integers(0, 1439), st.integers(1, 1439))
def test_a_quiet_holiday_is_like_a_window_of_its_weekday(days: set[str], start: int, length: int) -> None:
    """In Brandenburg, Easter of 2024 fell on the night in which clocks were changed."""
    assert date(2024, 3, 31) in {day for day, _ in holidays_in("DE-BB", 2024) or ()}
    clock = "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (start, (start + length) % 1440))
    weekly = "; ".join([f"{day} {clock}" for day in sorted(days - {"Sun"})] or ["Wed 10:00-11:00"])
    quiet = parse(weekly, holidays="DE-BB", on_holidays="quiet")
    spelled = [f"{weekly}; {day} 00:00-24:00" for day in ("Sun",)]
    try:
        like = parse(spelled[0])
    except InvalidPlan:
        return  # two windows of one day overlap, which only a holiday may
    found, expected = (list(c.windows(at("2024-03-30"), at("2024-03-31T23:00"))) for c in (quiet, like))
    assert found == expected


@holidays
def test_a_year_that_nobody_knows_is_busy() -> None:
    """What the library knows nothing of could be a holiday; as a quiet day it would be a guess, too."""
    moment = at("2101-01-05T23:00")
    assert parse(holidays="DE").why_closed(moment) == (
        Closed(Because.UNKNOWN, "the public holidays of DE are not known for 2101"),
    )
    assert parse(holidays="DE").next_start(moment) is None
    assert parse(holidays="DE", on_holidays="quiet").contains(moment)
    assert not parse(holidays="DE", on_holidays="quiet").contains(at("2101-12-25T12:00"))


@holidays
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("DE-BY", "DE-BY"),
        (" us-ca , de ", "DE, US-CA"),
        (["US", "DE-Augsburg", "US"], "DE-Augsburg, US"),
        ("NYSE", "NYSE"),
    ],
)
def test_regions_are_countries_parts_of_them_or_markets(value: object, text: str) -> None:
    """They are read from a text or a list, and written in one form."""
    assert parse(holidays=value).to_dict()["holidays"] == text


@holidays
@pytest.mark.parametrize(
    ("value", "shown", "part"),
    [
        ("ZZ", "'ZZ'", "countries, parts of them or markets"),
        ("Germany", "'Germany'", "countries"),
        ("FRR", "'FRR'", "near are FR"),
        ("DE-XX", "'DE-XX'", "parts of DE are BB, BE"),
        ("DE-BY, US-XX", "' US-XX'", "parts of US are AK"),
        ("MC-X", "'MC-X'", "MC has no parts"),
        ("DE-", "'DE-'", "countries"),
        ("", "''", "countries"),
        ("DE,", "''", "countries"),
        (7, "7", "countries"),
        (["DE", None], "None", "countries"),
    ],
)
def test_unknown_regions_are_refused(value: object, shown: str, part: str) -> None:
    """The error names the region, and what there is instead of it."""
    with pytest.raises(InvalidPlan) as caught:
        parse(holidays=value)
    assert str(caught.value).startswith(f"calendar, holidays: {shown} is not valid.")
    assert part in caught.value.allowed


@pytest.mark.parametrize(
    ("text", "more", "field"),
    [
        (NIGHTS, {"holidays": "DE", "on_holidays": "sleepy"}, "calendar, on_holidays"),
        (NIGHTS, {"on_holidays": "quiet"}, "calendar, on_holidays"),
        (f"{NIGHTS}; holidays DE", {"on_holidays": "quiet"}, "calendar, on_holidays"),
        (f"{NIGHTS}; holidays DE", {"holidays": "DE"}, "calendar, holidays"),
        (f"{NIGHTS}; holidays DE; except holidays US", {}, "calendar, holidays"),
        (f"{NIGHTS}; holidays", {}, "calendar, holidays"),
    ],
)
def test_holidays_are_busy_or_quiet(text: str, more: dict[str, str], field: str) -> None:
    """What contradicts itself or is forgotten is refused."""
    with pytest.raises(InvalidPlan) as caught:
        parse(text, **more)
    assert caught.value.field == field


def test_without_holidays_their_library_is_not_loaded() -> None:
    """A DAG file is parsed often; who names no holidays does not pay for them."""
    code = (
        "import sys\n"
        "from airflow_backup_guard.core import OffPeakCalendar\n"
        "OffPeakCalendar.parse('daily 01:00-05:00', tz='UTC', blackouts=['2026-12-24', 'https://a.example/b.ics'])\n"
        "assert not {'holidays', 'icalendar', 'recurring_ical_events'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Calendars of others


def test_what_was_not_read_is_not_permitted() -> None:
    """With a source that nobody has read, the calendar permits nothing, says why, and still foretells its windows."""
    calendar = parse(blackouts=[SOURCE])
    night = at("2026-12-01T23:00")
    assert not calendar.contains(night)
    assert calendar.window_end(night) is None
    unknown = "it is not known what https://ops.example/maintenance.ics forbids: it has not been read"
    assert calendar.why_closed(night) == (Closed(Because.UNKNOWN, unknown),)
    assert calendar.next_start(at("2026-12-01T12:00")) == at("2026-12-01T22:00")
    assert len(opened(calendar, "2026-12-01T12:00", "2026-12-03T12:00")) == 2
    assert not parse(ALWAYS, blackouts=[SOURCE]).always_open


def test_what_could_not_be_read_is_not_permitted() -> None:
    """The problem is told; a source that was read does not make up for one that was not."""
    night = at("2026-12-01T23:00")
    (closed,) = parse(blackouts=[SOURCE]).read([reading(problem="its server answers 404 Not Found")]).why_closed(night)
    assert closed.because is Because.UNKNOWN
    assert closed.text.endswith("maintenance.ics forbids: its server answers 404 Not Found")
    other = "file:///srv/other.ics"
    calendar = parse(blackouts=[SOURCE, other]).read([reading()])
    (closed,) = calendar.why_closed(night)
    assert closed.text == "it is not known what file:///srv/other.ics forbids: it has not been read"


def test_what_was_read_forbids() -> None:
    """Events are cut out of windows with their titles, and what lies beyond the reading is not known."""
    maintenance = ("2026-12-01T23:00", "2026-12-02T01:00", "storage maintenance")
    calendar = parse(blackouts=[SOURCE]).read([reading(maintenance, until="2026-12-03T02:00")])
    assert opened(calendar, "2026-12-01T12:00", "2026-12-02T12:00") == [
        "12-01 22:00+0100 to 12-01 23:00+0100",
        "12-02 01:00+0100 to 12-02 06:00+0100",
    ]
    assert calendar.why_closed(at("2026-12-02T00:00")) == (
        Closed(Because.BLACKOUT, "a blackout of https://ops.example/maintenance.ics (storage maintenance)"),
    )
    assert calendar.window_end(at("2026-12-01T22:00")) == at("2026-12-01T23:00")
    assert calendar.window_end(at("2026-12-02T23:00")) == at("2026-12-03T02:00")
    assert not calendar.contains(at("2026-12-03T02:00"))
    assert calendar.why_closed(at("2026-12-03T02:00"))[0].because is Because.UNKNOWN
    assert parse().read([reading(maintenance)]) == parse()


def test_an_endless_event_ends_the_search() -> None:
    """Where no window opens for two years, there is no next start, instead of a search without end."""
    calendar = parse(blackouts=[SOURCE]).read([reading(("2026-12-01", "2036-12-01", "migration"))])
    assert calendar.next_start(at("2026-12-01T12:00")) is None
    assert calendar.next_start(at("2036-01-01")) == at("2036-12-01")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a.ics",
        "https:///a.ics",
        "https://user:pass@host/a.ics",
        "https://host:port/a.ics",
        "file://host/a.ics",
        "file:///",
        "s3://bucket/a.ics",
        "https://host/a b.ics",
        "https://host/a;b.ics",
        "https://host/(a).ics",
    ],
)
def test_bad_sources_are_refused(url: str) -> None:
    """Only what can be read, and stored beside a backup without telling a password."""
    with pytest.raises(InvalidPlan) as caught:
        parse(blackouts=[url])
    assert caught.value.field == "calendar, blackouts"
    assert "file:///absolute/path.ics" in caught.value.allowed
    assert "pass@" not in str(caught.value)


# Text and JSON

FULL = "Mon-Fri 01:00-05:00; except 2026-12-24 (Christmas Eve); except yearly 12-24..12-26; except file:///srv/a.ics"


def test_all_of_it_is_one_text() -> None:
    """The text has all but the zone, in any order, and reads back."""
    calendar = parse(
        "Mon-Fri 01:00-05:00", blackouts=["file:///srv/a.ics", "yearly 12-24..12-26", "2026-12-24 (Christmas Eve)"]
    )
    assert str(calendar) == FULL
    assert parse(FULL) == calendar
    assert (
        parse(
            "EXCEPT yearly 12-24..12-26; Mon-Fri 01:00-05:00;except file:///srv/a.ics",
            blackouts="2026-12-24 (Christmas Eve)",
        )
        == calendar
    )
    assert hash(parse(FULL)) == hash(calendar)
    assert pickle.loads(pickle.dumps(calendar)) == calendar


@holidays
@pytest.mark.parametrize(
    ("more", "text"), [({}, "; except holidays DE-BY, US"), ({"on_holidays": "quiet"}, "; holidays DE-BY, US")]
)
def test_holidays_are_in_the_text(more: dict[str, str], text: str) -> None:
    """Busy holidays are excepted, quiet ones are windows."""
    calendar = parse("Mon-Fri 01:00-05:00", holidays="US, DE-BY", **more)
    assert str(calendar) == f"Mon-Fri 01:00-05:00{text}"
    assert parse(str(calendar)) == calendar
    assert OffPeakCalendar.from_dict(calendar.to_dict()) == calendar
    assert calendar.to_dict()["on_holidays"] == more.get("on_holidays", "busy")


def test_a_calendar_is_stored_as_plain_values() -> None:
    """The dict reads back; what was read from sources is not in it, as it does not last."""
    calendar = parse(FULL)
    assert calendar.to_dict() == {
        "windows": "Mon-Fri 01:00-05:00",
        "tz": BERLIN,
        "blackouts": ["2026-12-24 (Christmas Eve)", "yearly 12-24..12-26", "file:///srv/a.ics"],
    }
    assert OffPeakCalendar.from_dict(calendar.to_dict()) == calendar
    assert parse(blackouts=[SOURCE]).read([reading()]).to_dict() == parse(blackouts=[SOURCE]).to_dict()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"blackout": ["2026-12-24"]}, "calendar, blackout"),
        ({"blackouts": 5}, "calendar, blackouts"),
        ({"blackouts": [5]}, "calendar, blackouts"),
        ({"blackouts": ["never"]}, "calendar, blackouts"),
        ({"holidays": 5}, "calendar, holidays"),
    ],
)
def test_a_bad_dict_is_refused(data: dict[str, object], field: str) -> None:
    """A name that is misspelled is not passed over, as it forbids something."""
    with pytest.raises(InvalidPlan) as caught:
        OffPeakCalendar.from_dict({"windows": NIGHTS, "tz": "UTC", **data})
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["except 2026-12-24", "except", "except holidays DE", "holidays DE"])
def test_blackouts_alone_are_no_calendar(text: str) -> None:
    """There must be windows that they can be taken from."""
    with pytest.raises(InvalidPlan, match="Allowed: windows, such as"):
        parse(text)


# A window must be left


@pytest.mark.parametrize(
    ("text", "blackouts", "named"),
    [
        (NIGHTS, ["2026-01-01..2027-12-31 (migration)"], "2026-01-01..2027-12-31 (migration)"),
        (NIGHTS, ["2031-01-01..2031-12-31", "yearly 01-01"], "2031-01-01..2031-12-31, yearly 01-01"),
        (NIGHTS, ["yearly 01-01..06-30", "yearly 07-01..12-31"], "yearly 01-01..06-30, yearly 07-01..12-31"),
        (ALWAYS, ["yearly 01-01..06-30", "yearly 07-01..12-31"], "yearly 01-01..06-30, yearly 07-01..12-31"),
        ("Sun 01:00-05:00", ["yearly 01-01..06-30", "yearly 07-01..12-30"], "yearly 01-01..06-30, yearly 07-01..12-30"),
        ("Wed 01:00-05:00", ["yearly 01-01..06-30", "yearly 07-04..12-31"], "yearly 01-01..06-30, yearly 07-04..12-31"),
    ],
)
def test_blackouts_must_leave_a_window_within_a_year(text: str, blackouts: list[str], named: str) -> None:
    """A calendar that stays closed for a year is a mistake, and the error says which blackouts make it."""
    with pytest.raises(InvalidPlan) as caught:
        parse(text, blackouts=blackouts)
    assert caught.value.field == "calendar, blackouts"
    assert caught.value.value == named
    assert "a window within a year" in caught.value.allowed


@pytest.mark.parametrize(
    ("text", "blackouts"),
    [
        (NIGHTS, ["2026-01-01..2026-12-15"]),
        (NIGHTS, ["yearly 01-01..06-30", "yearly 07-03..12-31"]),
        (ALWAYS, ["yearly 01-01..06-30", "yearly 07-01..12-31 23:59"]),
        (NIGHTS, [f"{date(2026, 1, 1) + timedelta(weeks=week)}" for week in range(60)]),
        (NIGHTS, ["1970-01-01", "9998-12-30", "yearly 12-31"]),
    ],
)
def test_a_window_in_a_year_is_enough(text: str, blackouts: list[str]) -> None:
    """However rare windows are, and far away the dates."""
    assert parse(text, blackouts=blackouts).blackouts


# Laws

moments = st.datetimes(datetime(2025, 1, 1), datetime(2029, 1, 1), timezones=st.just(timezone.utc))
texts = st.sampled_from([NIGHTS, ALWAYS, "Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00", "Sun 02:00-04:00"])
rules = st.sampled_from(
    [
        "2026-11-27..2026-11-30",
        "2026-10-25T02:30..02:45",
        "yearly 12-24..12-26 (Christmas)",
        "yearly 4th Thu of Nov..+4d",
        "yearly last Sun of Mar 02:15..12:00",
        "yearly 12-31 18:00..01-01 12:00",
        "yearly 02-29",
        "yearly 07-01..08-31",
    ]
)


@settings(deadline=None)
@given(texts, st.sets(rules), moments, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_answers_hang_together(text: str, blackouts: set[str], moment: datetime, length: timedelta) -> None:
    """Windows, blackouts and reasons tell the same story, and blackouts only ever take away."""
    calendar, without = parse(text, blackouts=sorted(blackouts)), parse(text)
    assert parse(str(calendar)) == calendar == OffPeakCalendar.from_dict(calendar.to_dict())
    assert calendar.contains(moment) is not bool(calendar.why_closed(moment))
    forbidden = list(calendar.forbidden(moment, moment + length))
    open_windows = list(calendar.windows(moment, moment + length))
    for window in open_windows:
        assert calendar.contains(window.start)
        assert without.contains(window.start)
        assert all(
            f.end.timestamp() <= window.start.timestamp() or f.start.timestamp() >= window.end.timestamp()
            for f in forbidden
        )
    for one in forbidden:
        assert not calendar.contains(one.start)
        assert not calendar.contains(one.end - timedelta(microseconds=1))
    total = sum(window.end.timestamp() - window.start.timestamp() for window in open_windows)
    assert calendar.open_time(moment, moment + length).total_seconds() == pytest.approx(total, abs=1e-3)
    assert calendar.open_time(moment, moment + length) <= without.open_time(moment, moment + length)
    start, end = calendar.next_start(moment), calendar.window_end(moment)
    if start is not None:
        assert calendar.contains(start)
        assert not calendar.contains(start - timedelta(microseconds=1))
        assert calendar.next_start(start) == start
    if end is not None and end.year < 9999:
        assert not calendar.contains(end)
        assert calendar.contains(end - timedelta(microseconds=1))
