"""What iCalendar files forbid, in the variety in which they are written, and when that is not known."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_backup_guard.engine.ical import _Unreadable, parse_events

pytest.importorskip("icalendar")
pytest.importorskip("recurring_ical_events")

START = datetime(2026, 11, 1, tzinfo=timezone.utc)
END = START + timedelta(days=60)
DAY = "DTSTART;VALUE=DATE:20261127"
HOUR = "DTSTART:20261127T010000Z\nDURATION:PT1H"
OWN_ZONE = """BEGIN:VTIMEZONE
TZID:Ours
BEGIN:STANDARD
DTSTART:19700101T000000
TZOFFSETFROM:+0330
TZOFFSETTO:+0330
END:STANDARD
END:VTIMEZONE
"""


def file_with(*events: str, head: str = "") -> bytes:
    """An iCalendar file, lines ending as the standard wants it."""
    body = "".join(
        f"BEGIN:VEVENT\nUID:{number}\nDTSTAMP:20260101T000000Z\n{event}\nEND:VEVENT\n"
        for number, event in enumerate(events)
    )
    text = f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:test\n{head}{body}END:VCALENDAR\n"
    return text.replace("\n", "\r\n").encode()


def found(data: bytes, tz: str = "Europe/Berlin") -> list[str]:
    """What the file forbids, as readable text in UTC."""
    return [f"{a:%m-%d %H:%M} to {b:%m-%d %H:%M} {title}" for a, b, title in parse_events(data, START, END, tz)]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (f"{DAY}\nSUMMARY:Sale", "11-26 23:00 to 11-27 23:00 Sale"),
        (f"{DAY}\nDTEND;VALUE=DATE:20261130", "11-26 23:00 to 11-29 23:00 without a title"),
        (f"{DAY}\nSUMMARY:free\nTRANSP:TRANSPARENT", "11-26 23:00 to 11-27 23:00 free"),
        (f"{HOUR}\nSUMMARY: over\\n two lines ", "11-27 01:00 to 11-27 02:00 over two lines"),
        (f"{HOUR}\nSTATUS:TENTATIVE\nSUMMARY:maybe", "11-27 01:00 to 11-27 02:00 maybe"),
        ("DTSTART:20261127T010000\nDTEND:20261127T020000\nSUMMARY:x", "11-27 00:00 to 11-27 01:00 x"),
        ("DTSTART;TZID=Asia/Tokyo:20261127T010000\nDURATION:PT1H\nSUMMARY:x", "11-26 16:00 to 11-26 17:00 x"),
        (
            "DTSTART;TZID=Pacific Standard Time:20261127T010000\nDURATION:PT1H\nSUMMARY:x",
            "11-27 09:00 to 11-27 10:00 x",
        ),
        ("DTSTART:20250101T000000Z\nDTEND:20270201T000000Z\nSUMMARY:long", "01-01 00:00 to 02-01 00:00 long"),
    ],
)
def test_one_event(event: str, expected: str) -> None:
    """Days and times without a zone go by the calendar's clock, others by their own."""
    assert found(file_with(event)) == [expected]


@pytest.mark.parametrize(
    "event",
    [f"{DAY}\nSTATUS:CANCELLED", "DTSTART:20261127T010000Z", "DTSTART;VALUE=DATE:20250101", "DTSTART:20270301T000000Z"],
)
def test_events_that_forbid_nothing(event: str) -> None:
    """Cancelled, without a length, over, or too far away."""
    assert found(file_with(event)) == []


def test_repetitions() -> None:
    """A series, but for one that is left out and one that was moved."""
    series = "DTSTART:20261102T010000Z\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=4\nSUMMARY:patch day"
    assert found(file_with(f"{series}\nEXDATE:20261116T010000Z")) == [
        "11-02 01:00 to 11-02 02:00 patch day",
        "11-09 01:00 to 11-09 02:00 patch day",
        "11-23 01:00 to 11-23 02:00 patch day",
    ]
    moved = "RECURRENCE-ID:20261109T010000Z\nDTSTART:20261110T050000Z\nDURATION:PT2H\nSUMMARY:moved"
    data = file_with(series, moved).replace(b"UID:1", b"UID:0")
    assert found(data)[1] == "11-10 05:00 to 11-10 07:00 moved"
    assert len(found(data)) == 4
    assert len(found(file_with(f"{DAY}\nRRULE:FREQ=DAILY"))) == 35


def test_zones_of_the_file() -> None:
    """A zone may be defined in the file, or be meant for all of it."""
    own = "DTSTART;TZID=Ours:20261127T010000\nDURATION:PT1H\nSUMMARY:x"
    assert found(file_with(own, head=OWN_ZONE)) == ["11-26 21:30 to 11-26 22:30 x"]
    floating = "DTSTART:20261127T010000\nDURATION:PT1H\nSUMMARY:x"
    assert found(file_with(floating, head="X-WR-TIMEZONE:Asia/Tokyo\n")) == ["11-26 16:00 to 11-26 17:00 x"]


def test_when_clocks_change_the_wider_reading_holds() -> None:
    """02:00 to 03:00 come twice in Berlin: an event starts with the first and ends with the second."""
    event = "DTSTART{0}:20261025T021500\nDTEND{0}:20261025T024500\nSUMMARY:x"
    for zone in ("", ";TZID=Europe/Berlin"):
        periods = parse_events(file_with(event.format(zone)), START - timedelta(days=10), END, "Europe/Berlin")
        assert [f"{a:%d %H:%M} to {b:%d %H:%M}" for a, b, _ in periods] == ["25 00:15 to 25 01:45"]


def test_a_file_without_events_forbids_nothing() -> None:
    """It is whole, and it says so."""
    assert found(file_with()) == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no proper iCalendar file"),
        (b"<html><body>Please log in</body></html>", "no proper iCalendar file"),
        (bytes(range(256)), "no proper iCalendar file"),
        (file_with(DAY)[:-20], "no proper iCalendar file"),
        (file_with(DAY, DAY)[:-70], "no proper iCalendar file"),
        (file_with(DAY) + file_with(DAY), "no proper iCalendar file"),
        (b"BEGIN:VEVENT\r\nEND:VEVENT\r\n", "it holds a VEVENT"),
        (file_with("SUMMARY:x"), "an event has no start"),
        (file_with("DTSTART:2026T010000Z"), "the DTSTART of an event cannot be read"),
        (file_with(f"{DAY}\nDTEND:later"), "the DTEND of an event cannot be read"),
        (file_with(f"{DAY}\nRRULE:FREQ=NEVER"), "the RRULE of an event"),
        (file_with(f"{DAY}\nRRULE:often"), "the RRULE of an event"),
        (file_with(f"{DAY}\nRRULE:FREQ=WEEKLY\nEXDATE:2026x"), "the EXDATE of an event cannot be read"),
        (file_with("DTSTART;TZID=Mars/X:20261127T010000\nDURATION:PT1H"), "not known, 'Mars/X'"),
        (file_with(f"{HOUR}\nRDATE;TZID=Mars/X:20261128T010000"), "not known, 'Mars/X'"),
        (file_with("DTSTART:20261127T010000", head="X-WR-TIMEZONE:Mars/X\n"), "Mars/X"),
        (file_with(f"{HOUR}\nRRULE:FREQ=SECONDLY"), "every minute or second"),
        (
            file_with(f"{HOUR}\nRRULE:FREQ=HOURLY;BYMINUTE={','.join(map(str, range(0, 60, 10)))}"),
            "more than 5000 events",
        ),
    ],
)
def test_in_doubt_nothing_is_known(data: bytes, problem: str) -> None:
    """A file that is damaged, or not clear in one place, is not taken for one that forbids little."""
    with pytest.raises(_Unreadable) as caught:
        parse_events(data, START, END, "Europe/Berlin")
    assert problem in str(caught.value)
    assert str(caught.value).isprintable()
