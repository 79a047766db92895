"""Windows and blackouts in every time zone, against a model that walks through UTC minute by minute.

The model knows nothing of how the calendar works: it looks at a clock in each minute, and asks what it shows.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core.calendar import OffPeakCalendar

UTC = timezone.utc
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LOOKED_AT = 36 * 60  # minutes on either side of the jump that are compared
REACH = 4 * 24 * 60  # minutes on either side that the model walks through, as what it compares may begin earlier
ZONES = sorted(available_timezones() - {"Factory", "localtime"})

Weekly = tuple[tuple[int, int], ...]  # starts and lengths, in minutes since Monday 00:00
Stretch = tuple[datetime, datetime]  # by the wall clock


@cache
def jumps(zone: str, first: int, last: int) -> tuple[datetime, ...]:
    """The first minute, in UTC, after each jump of the zone's clock in these years."""
    clock = ZoneInfo(zone)
    found, day = [], datetime(first, 1, 1, tzinfo=UTC)
    while day.year < last:
        if day.astimezone(clock).utcoffset() != (day + DAY).astimezone(clock).utcoffset():
            before, after = day, day + DAY
            while after - before > MINUTE:
                middle = before + (after - before) // MINUTE // 2 * MINUTE
                same = middle.astimezone(clock).utcoffset() == day.astimezone(clock).utcoffset()
                before, after = (middle, after) if same else (before, middle)
            found.append(after)
        day += DAY
    return tuple(found)


@cache
def walls(zone: str, jump: datetime) -> list[datetime]:
    """What the clock shows in each UTC minute around the jump."""
    clock = ZoneInfo(zone)
    return [(jump + i * MINUTE).astimezone(clock).replace(tzinfo=None) for i in range(-REACH, REACH)]


def walk(zone: str, jump: datetime, weekly: Weekly, blackouts: tuple[Stretch, ...]) -> list[bool]:
    """For each UTC minute around the jump: may a backup run?

    A window of one week is all minutes in which the clock shows a time in it. Of those it is open from the last one
    that shows its start (or the first of all, where no clock showed it), as long as they are in a row. A blackout is
    from the first minute that shows its start to the last that shows its end (or to the jump over it).
    """
    shown = walls(zone, jump)
    into_window = {(start + into) % 10080: into for start, length in weekly for into in range(length)}
    minutes_of: dict[datetime, list[int]] = {}
    for index, wall in enumerate(shown):
        if (into := into_window.get(into_week(wall))) is not None:
            minutes_of.setdefault(wall - into * MINUTE, []).append(index)
    opened = [False] * (2 * REACH)
    for opening, minutes in minutes_of.items():
        index = max((i for i in minutes if shown[i] == opening), default=minutes[0])
        members = set(minutes)
        while index in members:
            opened[index] = True
            index += 1
    for start, end in blackouts:
        first, last = passed(shown, start)[0], passed(shown, end)[-1]
        opened[first:last] = [False] * (last - first)
    return opened


def passed(shown: list[datetime], wall: datetime) -> list[int]:
    """The minutes in which the clock shows ``wall``; if there are none, the one in which it has jumped over it."""
    exact = [i for i, other in enumerate(shown) if other == wall]
    over = [i for i in range(1, len(shown)) if shown[i - 1] < wall < shown[i]]
    return exact or over or [0 if wall < shown[0] else len(shown)]


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def calendar_of(zone: str, weekly: Weekly, blackouts: tuple[Stretch, ...]) -> OffPeakCalendar:
    """The calendar with these windows, none of which is longer than a day."""
    text = "; ".join(
        f"{DAYS[start // 1440]} {clock(start % 1440)}-{clock((start + length - 1) % 1440 + 1)}"
        for start, length in weekly
    )
    texts = [f"{start:%Y-%m-%dT%H:%M}..{end:%Y-%m-%dT%H:%M}" for start, end in blackouts]
    return OffPeakCalendar.parse(text, tz=zone, blackouts=texts)


def found_by(calendar: OffPeakCalendar, jump: datetime) -> list[bool]:
    """For each minute that is compared: is it in one of the calendar's windows?"""
    first = jump - LOOKED_AT * MINUTE
    found = [False] * (2 * LOOKED_AT)
    previous = -1
    for start, end in calendar.windows(first, jump + LOOKED_AT * MINUTE):
        opening, closing = (round((moment.timestamp() - first.timestamp()) / 60) for moment in (start, end))
        assert previous < opening < closing
        found[opening:closing] = [True] * (closing - opening)
        previous = closing
    return found


def near(wall: datetime) -> st.SearchStrategy[datetime]:
    """Quarters of an hour within three hours of what the clock showed, or any minute of the days around."""
    close = st.integers(-12, 12).map(lambda quarter: wall.replace(minute=0) + quarter * timedelta(minutes=15))
    return st.one_of(close, close, st.integers(-2880, 2880).map(lambda minute: wall + minute * MINUTE))


def into_week(wall: datetime) -> int:
    return wall.weekday() * 1440 + wall.hour * 60 + wall.minute


@st.composite
def places(draw: st.DrawFn) -> tuple[str, datetime]:
    """Any zone of the database whose clock ever jumped since 1980, and one of its jumps."""
    zone = draw(st.sampled_from(ZONES))
    found = jumps(zone, 1980, 2038)
    return (zone, draw(st.sampled_from(found))) if found else (zone, datetime(2026, 6, 1, tzinfo=UTC))


Case = tuple[str, datetime, Weekly, tuple[Stretch, ...]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A zone, a jump, and windows and blackouts with edges near it."""
    zone, jump = draw(places())
    shown = walls(zone, jump)[draw(st.sampled_from([REACH - 1, REACH]))]
    edges = sorted({into_week(draw(near(shown))) for _ in range(draw(st.sampled_from([2, 4, 6])))})
    pairs = zip(edges[::2], edges[1::2], strict=False)
    # A whole day can only be written from midnight to midnight.
    longest = {start: 1440 if start % 1440 == 0 else 1439 for start in edges}
    weekly = tuple((start, end - start) for start, end in pairs if end - start <= longest[start])
    blackouts = draw(st.lists(st.tuples(near(shown), near(shown)).filter(lambda two: two[0] < two[1]), max_size=2))
    return zone, jump, weekly or ((0, 60),), tuple(blackouts)


def seconds(moment: datetime) -> float:
    """Since 1970; Python's ``-`` and ``==`` go by the wall clock in repeated hours."""
    return moment.timestamp()


def check(case: Case) -> None:
    """Compare the windows with the model, and all other answers with the windows, at their edges and in them."""
    zone, jump, weekly, blackouts = case
    calendar = calendar_of(zone, weekly, blackouts)
    model = walk(zone, jump, weekly, blackouts)[REACH - LOOKED_AT : REACH + LOOKED_AT]
    assert found_by(calendar, jump) == model
    first, last = jump - LOOKED_AT * MINUTE, jump + LOOKED_AT * MINUTE
    assert calendar.open_time(first, last) == sum(model) * MINUTE
    edges = [i for i in range(1, 2 * LOOKED_AT) if model[i] != model[i - 1]]
    by_jump = sorted(edges, key=lambda i: abs(i - LOOKED_AT))[:3]
    for index in {*by_jump, *(edge - 1 for edge in by_jump), LOOKED_AT}:
        moment = first + index * MINUTE
        assert calendar.contains(moment) is model[index] is not bool(calendar.why_closed(moment))
        end, start = calendar.window_end(moment), calendar.next_start(moment)
        assert (end is not None) is model[index]
        ends = [i for i in edges if i > index and not model[i]]
        starts = [i for i in edges if i >= index and model[i]]
        if end is not None and ends:
            assert seconds(end) == seconds(first + ends[0] * MINUTE)
        if starts:
            assert start is not None
            assert seconds(start) == seconds(first + starts[0] * MINUTE)


@settings(deadline=None, max_examples=60)
@given(cases())
@example(("Australia/Lord_Howe", jumps("Australia/Lord_Howe", 2024, 2025)[0], ((6 * 1440 + 90, 60),), ()))
@example(("Antarctica/Troll", jumps("Antarctica/Troll", 2024, 2025)[0], ((6 * 1440 + 120, 120),), ()))
def test_any_zone_at_any_jump(case: Case) -> None:
    """Minute by minute, the calendar is open as the model says, and its answers agree with each other."""
    check(case)


NIGHTS = tuple((day * 1440 + 23 * 60, 4 * 60) for day in range(7))  # 23:00-03:00
SHORT = tuple((day * 1440 + start, 45) for day in range(7) for start in (0, 75, 140, 195, 720))
LONG = tuple((day * 1440 + 90, 1440 - 45) for day in range(7))  # 01:30-00:45
SETS = {"nights": NIGHTS, "short": SHORT, "long": LONG}


def around(zone: str, jump: datetime) -> tuple[Stretch, ...]:
    """Blackouts that begin, end or lie within what the jump skips or repeats."""
    before, after = walls(zone, jump)[REACH - 1], walls(zone, jump)[REACH]
    low, high = sorted((before, after))
    middle = low + (high - low) // 2 // MINUTE * MINUTE
    return ((low - 5 * 60 * MINUTE, middle), (middle + 10 * MINUTE, high + 20 * MINUTE))


ODD = [
    ("Australia/Lord_Howe", 2024),
    ("Antarctica/Troll", 2024),
    ("Pacific/Apia", 2011),
    ("Pacific/Kwajalein", 1993),
    ("America/Havana", 2024),
    ("Asia/Kathmandu", 1986),
    ("Asia/Pyongyang", 2015),
    ("Africa/Casablanca", 2026),
    ("America/Scoresbysund", 2024),
]


@pytest.mark.parametrize("weekly", SETS.values(), ids=SETS)
@pytest.mark.parametrize(("zone", "year"), ODD)
def test_the_odd_ones(zone: str, year: int, weekly: Weekly) -> None:
    """Half hours, two hours, a skipped day, midnights that come twice: each jump of such a year, with blackouts."""
    found = jumps(zone, year - 1, year + 1)
    assert found
    for jump in found:
        check((zone, jump, weekly, ()))
        check((zone, jump, weekly, around(zone, jump)))


def test_every_zone_in_these_years() -> None:
    """Each way in which a clock of the database jumps, minute by minute; zones that jump alike answer alike."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for zone in ZONES:
        moments = [datetime(2024, 1, 1, tzinfo=UTC), *jumps(zone, 2024, 2027)]
        offsets = [moment.astimezone(ZoneInfo(zone)).utcoffset() for moment in moments]
        alike.setdefault((*moments, *offsets), []).append(zone)
    assert sum(map(len, alike.values())) == len(ZONES) > 500
    for first, *others in alike.values():
        for jump in jumps(first, 2024, 2025):
            blackouts = around(first, jump)
            model = walk(first, jump, SHORT, blackouts)[REACH - LOOKED_AT : REACH + LOOKED_AT]
            assert found_by(calendar_of(first, SHORT, blackouts), jump) == model
        jump = (*jumps(first, 2024, 2027), datetime(2026, 6, 1, tzinfo=UTC))[0]
        expected = [tuple(map(seconds, w)) for w in calendar_of(first, NIGHTS, ()).windows(jump - DAY, jump + DAY)]
        for zone in others:
            found = calendar_of(zone, NIGHTS, ()).windows(jump - DAY, jump + DAY)
            assert [tuple(map(seconds, w)) for w in found] == expected
