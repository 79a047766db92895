"""When off-peak runs begin, by example, against the calendar in every time zone, and through an impatient scheduler."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise, takewhile

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.core.schedule import OffPeakSchedule, Part
from airflow_backup_guard.errors import InvalidPlan

LOS_ANGELES = "America/Los_Angeles"
NIGHTS = "Mon-Fri 01:00-05:00"
ALWAYS = "daily 00:00-24:00"
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NOW = pendulum.datetime(2026, 3, 4, 12)


def schedule(windows: str = NIGHTS, tz: str = LOS_ANGELES, **options: object) -> OffPeakSchedule:
    """A schedule of a calendar."""
    return OffPeakSchedule.of(OffPeakCalendar.parse(windows, tz=tz), **options)  # type: ignore[arg-type]


def at(text: str, tz: str = LOS_ANGELES) -> pendulum.DateTime:
    """A moment by the wall clock of ``tz``."""
    moment = pendulum.parse(text, tz=tz)
    assert isinstance(moment, pendulum.DateTime)
    return moment


def starts(made: OffPeakSchedule, begin: str, end: str) -> list[str]:
    """Where the runs of a span of days begin, one asked for after the other as Airflow does, by the wall clock."""
    tz, found, last = made.calendar.tz, [], None
    while last := made.next_start(last=last, earliest=at(begin, tz), latest=at(end, tz), catchup=True, now=NOW):
        found.append(f"{last.in_timezone(tz):%d %H:%M%z}")
    return found


# By example


def test_a_run_in_each_window_as_it_opens() -> None:
    """A calendar alone has no key, so there is nothing to spread by."""
    assert starts(schedule(), "2026-03-06", "2026-03-11") == ["06 01:00-0800", "09 01:00-0700", "10 01:00-0700"]


def test_a_key_spreads_starts_over_the_first_quarter() -> None:
    """At the same place every night, which is the same in every process and for ever."""
    made = schedule(key="shop")
    assert starts(made, "2026-03-06", "2026-03-11") == ["06 01:33-0800", "09 01:33-0700", "10 01:33-0700"]
    fleet = [schedule(key=f"shop-{number}") for number in range(400)]
    first = [one.next_start(last=None, earliest=NOW, latest=None, catchup=True, now=NOW) for one in fleet]
    opening = at("2026-03-05 01:00")
    delays = sorted((start - opening).total_seconds() for start in first if start)
    assert 0 <= delays[0] < 60
    assert 3540 < delays[-1] < 3600
    in_each_tenth = [sum(1 for delay in delays if number * 360 <= delay < number * 360 + 360) for number in range(10)]
    assert min(in_each_tenth) >= 20


def test_a_plan_is_its_own_key() -> None:
    """``OffPeakTimetable(plan)`` needs no more; a key beside it counts instead of its name."""
    calendar = OffPeakCalendar.parse(NIGHTS, tz=LOS_ANGELES)
    plan = BackupPlan(name="shop", connection="shop", repository="file:///srv/backups", calendar=calendar)
    assert OffPeakSchedule.of(plan) == OffPeakSchedule.of(calendar, key="shop")
    assert OffPeakSchedule.of(plan, key="other") == OffPeakSchedule.of(calendar, key="other")
    assert starts(OffPeakSchedule.of(plan, spread="0%"), "2026-03-06", "2026-03-07") == ["06 01:00-0800"]


def test_several_runs_divide_the_window() -> None:
    """Each part is spread over by itself, so that the runs stay even."""
    expected = ["06 01:00-0800", "06 02:00-0800", "06 03:00-0800", "06 04:00-0800"]
    assert starts(schedule(runs_per_window=4), "2026-03-06", "2026-03-07") == expected
    expected = ["06 01:08-0800", "06 02:08-0800", "06 03:08-0800", "06 04:08-0800"]
    assert starts(schedule(runs_per_window=4, key="shop"), "2026-03-06", "2026-03-07") == expected


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        (ALWAYS, ["07 00:00-0800", "08 00:00-0800", "09 00:00-0700", "10 00:00-0700"]),
        ("Fri 22:00-24:00; Sat,Sun 00:00-24:00; Mon 00:00-05:00", ["08 00:00-0800"]),
        ("Fri 12:00-24:00; Sat,Sun 00:00-24:00; Mon 00:00-12:00", ["07 00:00-0800", "08 00:00-0800", "09 00:00-0700"]),
        ("Sat,Sun 00:00-24:00", ["07 00:00-0800", "08 00:00-0800"]),
        ("daily 12:00-11:00", ["07 12:00-0800", "08 12:00-0700", "09 12:00-0700"]),
    ],
)
def test_a_long_window_has_a_run_a_day(windows: str, expected: list[str]) -> None:
    """It is cut at midnights, but not near its own ends."""
    assert starts(schedule(windows), "2026-03-07", "2026-03-10") == expected


def test_a_window_of_a_day_stays_whole_in_the_night_that_has_an_hour_more() -> None:
    """It is a day by the clock on the wall, if 25 hours by any other."""
    noon_to_noon = "Sat 12:00-24:00; Sun 00:00-12:00"
    assert starts(schedule(noon_to_noon), "2026-10-31", "2026-11-03") == ["31 12:00-0700"]
    an_hour_more = "Sat 12:00-24:00; Sun 00:00-13:00"
    assert starts(schedule(an_hour_more), "2026-10-31", "2026-11-03") == ["31 12:00-0700", "01 00:00-0700"]


def test_short_windows_can_be_left_out() -> None:
    """Those of the calendar, and what a jump of the clock leaves of one."""
    made = schedule("Fri 01:00-05:00; Sat 01:00-01:30; Sun 01:00-03:00", min_window="2h")
    assert starts(made, "2026-03-06", "2026-03-14") == ["06 01:00-0800", "13 01:00-0700"]


def test_no_run_begins_in_a_blackout() -> None:
    """The night that it fills has none; the night that it divides has one for each window that is left."""
    windows = f"{NIGHTS}; except 2026-03-09; except 2026-03-11 02:00..2026-03-11 04:30 (replacement of disks)"
    assert starts(schedule(windows), "2026-03-06", "2026-03-12") == [
        "06 01:00-0800",
        "10 01:00-0700",
        "11 01:00-0700",
        "11 04:30-0700",
    ]
    expected = ["06 01:00-0800", "10 01:00-0700", "11 01:00-0700"]
    assert starts(schedule(windows, min_window="45min"), "2026-03-06", "2026-03-12") == expected
    always = schedule(f"{ALWAYS}; except yearly 03-08..03-09", key="shop")
    assert starts(always, "2026-03-07", "2026-03-12") == ["07 03:19-0800", "10 03:19-0700", "11 03:19-0700"]


def test_the_dates_of_the_dag_are_allowed_themselves() -> None:
    """A run begins at the start date or the end date, but neither before nor after."""
    made, start = schedule(), at("2026-03-06 01:00")
    second = timedelta(seconds=1)

    def first(earliest: datetime, latest: datetime | None) -> pendulum.DateTime | None:
        return made.next_start(last=None, earliest=earliest, latest=latest, catchup=True, now=NOW)

    assert first(start, start) == start
    assert first(start + second, None) == at("2026-03-09 01:00")
    assert first(start - second, start - second) is None


def test_without_catchup_windows_that_have_ended_are_passed_over() -> None:
    """The one that is open has its run, even where its moment has passed: the scheduler looks a little later."""
    made = schedule()

    def asked(now: str, last: str | None = None) -> pendulum.DateTime | None:
        before = at(last) if last else None
        return made.next_start(last=before, earliest=at("2024-01-01"), latest=None, catchup=False, now=at(now))

    assert asked("2026-03-05 00:59") == at("2026-03-05 01:00")
    assert asked("2026-03-05 04:59") == at("2026-03-05 01:00")
    assert asked("2026-03-05 05:00") == at("2026-03-06 01:00")
    assert asked("2026-03-05 04:59", last="2026-03-05 01:00") == at("2026-03-06 01:00")
    assert asked("2026-03-05 12:00", last="2024-06-03 01:00") == at("2026-03-06 01:00")


def test_without_a_start_date_nothing_of_the_past_is_caught_up() -> None:
    """As with Airflow's own timetables; the window that is open counts."""

    def first(now: str) -> pendulum.DateTime | None:
        return schedule().next_start(last=None, earliest=None, latest=None, catchup=True, now=at(now))

    assert first("2026-03-05 12:00") == at("2026-03-06 01:00")
    assert first("2026-03-05 04:00") == at("2026-03-05 01:00")


def test_another_key_gives_no_second_run_in_the_same_window() -> None:
    """A plan is renamed, or its spread changed, while its window is open and its run has begun."""
    before, after = schedule(key="shop-1", spread="10%"), schedule(key="shop", spread="100%")
    last = before.next_start(last=None, earliest=at("2026-03-05"), latest=None, catchup=True, now=NOW)
    assert last
    following = after.next_start(last=last, earliest=None, latest=None, catchup=False, now=last.add(minutes=1))
    assert following
    assert following.in_timezone(LOS_ANGELES).date() == pendulum.date(2026, 3, 6)


@pytest.mark.parametrize(
    ("made", "text", "sentence"),
    [
        (
            schedule(key="shop"),
            "off-peak: Mon-Fri 01:00-05:00 (America/Los_Angeles)",
            "Once in each off-peak window, when 13.8% of it has passed (spread by 'shop'): "
            "Mon-Fri 01:00-05:00 (America/Los_Angeles)",
        ),
        (
            schedule(runs_per_window=2, min_window="90min"),
            "2 × off-peak: Mon-Fri 01:00-05:00 (America/Los_Angeles)",
            "2 times in each off-peak window of 1h 30min or more, as each of 2 equal parts begins: "
            "Mon-Fri 01:00-05:00 (America/Los_Angeles)",
        ),
        (
            schedule(ALWAYS, "UTC"),
            "off-peak: daily 00:00-24:00 (UTC)",
            "Once in each day, as it begins: daily 00:00-24:00 (UTC)",
        ),
        (
            schedule(f"{NIGHTS}; except yearly 12-24..12-26 (Christmas); except yearly 11-27 (Black Friday)", "UTC"),
            "off-peak: Mon-Fri 01:00-05:00; except yearly 11-27 (Black Friday); except yearly 12-24..1… (UTC)",
            "Once in each off-peak window, as it begins: Mon-Fri 01:00-05:00; except yearly 11-27 (Black Friday); "
            "except yearly 12-24..12-26 (Christmas) (UTC)",
        ),
    ],
)
def test_a_schedule_can_be_read(made: OffPeakSchedule, text: str, sentence: str) -> None:
    """In a column, and in a sentence."""
    assert str(made) == text
    assert made.describe() == sentence


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"spread": "25%"}, "key"),
        ({"key": ""}, "key"),
        ({"key": 7}, "key"),
        ({"key": "shop", "spread": "101%"}, "spread"),
        ({"key": "shop", "spread": "-1%"}, "spread"),
        ({"key": "shop", "spread": 0.25}, "spread"),
        ({"key": "shop", "spread": "15min"}, "spread"),
        ({"runs_per_window": 0}, "runs_per_window"),
        ({"runs_per_window": 25}, "runs_per_window"),
        ({"runs_per_window": True}, "runs_per_window"),
        ({"runs_per_window": 1.5}, "runs_per_window"),
        ({"min_window": "90"}, "min_window"),
        ({"min_window": "25h"}, "min_window"),
    ],
)
def test_bad_values_are_refused(options: dict[str, object], field: str) -> None:
    """With the field, the value, and what is allowed."""
    with pytest.raises(InvalidPlan) as caught:
        schedule(**options)
    assert caught.value.field == field
    assert "Allowed: " in str(caught.value)


@pytest.mark.parametrize("when", [None, "0 1 * * *", NIGHTS, 5])
def test_only_plans_and_calendars_are_schedules(when: object) -> None:
    """A cron expression has a place of its own in Airflow."""
    with pytest.raises(InvalidPlan, match="a BackupPlan or an OffPeakCalendar"):
        OffPeakSchedule.of(when)  # type: ignore[arg-type]


def test_a_schedule_that_never_starts_is_refused() -> None:
    """Every window is shorter than what is asked for."""
    schedule(min_window="4h").check(NOW)
    with pytest.raises(InvalidPlan, match="min_window: '5h' is not valid"):
        schedule(min_window="5h").check(NOW)


# Against the calendar, in every zone


def runs_between(made: OffPeakSchedule, begin: pendulum.DateTime, end: pendulum.DateTime) -> list[Part]:
    """The parts of windows whose runs begin within a span."""
    parts = takewhile(lambda part: part.begin <= end, made.parts(begin))
    return [part for part in parts if begin <= part.start <= end]


BLACKOUTS = st.lists(
    st.sampled_from(("yearly 12-24..01-02", "yearly 03-08", "yearly 10-25..10-27", "yearly 11-01")), max_size=2
)


@st.composite
def calendars(draw: st.DrawFn) -> OffPeakCalendar:
    """One to three windows a day, at the hours and days that they fall on, in any zone."""
    edges = sorted(draw(st.sets(st.integers(0, 95), min_size=2, max_size=6)))
    times = [f"{a // 4:02}:{a % 4 * 15:02}-{b // 4:02}:{b % 4 * 15:02}" for a, b in pairwise(edges)][::2]
    if draw(st.booleans()):
        first, last = times[0].split("-")[0], times[-1].split("-")[1]
        times = [f"{last}-{first}"]  # over midnight
    days = draw(st.sets(st.sampled_from(DAYS), min_size=1))
    zone = draw(st.sampled_from(sorted(pendulum.timezones())))
    return OffPeakCalendar.parse(f"{','.join(days)} {', '.join(times)}", tz=zone, blackouts=draw(BLACKOUTS))


@st.composite
def schedules(draw: st.DrawFn) -> OffPeakSchedule:
    """Of such a calendar, or of one that is always open."""
    zone = draw(st.sampled_from(sorted(pendulum.timezones())))
    always = OffPeakCalendar.parse(ALWAYS, tz=zone, blackouts=draw(BLACKOUTS))
    calendar = draw(st.one_of(calendars(), calendars(), st.just(always)))
    return OffPeakSchedule.of(
        calendar,
        key=draw(st.text(min_size=1).filter(str.strip)),
        spread=f"{draw(st.integers(0, 100))}%",
        runs_per_window=draw(st.integers(1, 5)),
    )


MOMENTS = st.datetimes(datetime(1975, 1, 1), datetime(2037, 1, 1)).map(lambda moment: pendulum.instance(moment, "UTC"))


@given(schedules(), MOMENTS)
@settings(max_examples=30)
def test_a_year_of_runs_keeps_to_the_windows(made: OffPeakSchedule, begin: pendulum.DateTime) -> None:
    """Across the changes of the clock: each window has its runs, in order, early, and none is outside of one."""
    end = begin.add(years=1)
    runs = [part.start for part in runs_between(made, begin, end)]
    assert runs == sorted(set(runs))
    assert all(made.calendar.contains(start) and start.microsecond == 0 for start in runs)
    whole = [window for window in made.calendar.windows(begin, end) if begin < window.start and window.end < end]
    for window in whole:
        opening, closing = window.start.in_timezone("UTC"), window.end.in_timezone("UTC")
        inside = [start for start in runs if opening <= start < closing]
        length = closing - opening
        if length <= timedelta(hours=23):
            assert len(inside) == made.runs_per_window
            part = length / made.runs_per_window
            for number, start in enumerate(inside):
                late = start - opening - number * part
                assert timedelta(seconds=-1) < late <= part * made.spread / 100
        gaps = [later - earlier for earlier, later in pairwise([opening, *inside, closing])]
        assert max(gaps) < timedelta(hours=75)


@given(schedules(), MOMENTS, st.integers(0, 20 * 24 * 60))
@settings(max_examples=20)
def test_asking_for_one_run_after_the_other_leaves_none_out(
    made: OffPeakSchedule, begin: pendulum.DateTime, minutes: int
) -> None:
    """It does not matter from where a window is looked at: its runs are the same."""
    end = begin.add(days=30)
    expected = [part.start for part in runs_between(made, begin, end)]
    asked = begin.add(minutes=minutes)
    last, found = None, []
    while last := made.next_start(last=last, earliest=begin, latest=end, catchup=True, now=asked):
        found.append(last)
    assert found == expected
    assert next(made.parts(asked)) == next(part for part in made.parts(begin) if part.end > asked)


@given(schedules(), MOMENTS, st.lists(st.integers(1, 300), min_size=40, max_size=40), st.booleans())
@settings(max_examples=25)
def test_a_scheduler_that_looks_now_and_then_starts_each_run_once(
    made: OffPeakSchedule, begin: pendulum.DateTime, steps: list[int], reads_first: bool
) -> None:
    """It plans the next run anew whenever it has read the DAG, and creates the planned one once its moment has come.

    Whichever it does first: a run whose moment it sees pass is not lost, and none is created twice. One that it could
    not create until its part had ended is given up when the DAG is read first.
    """
    now, last = begin, None
    looks, created = [], []

    def planned() -> pendulum.DateTime | None:
        return made.next_start(last=last, earliest=begin, latest=None, catchup=False, now=now)

    plan = planned()
    for step in steps:
        now = now.add(minutes=step)
        looks.append(now)
        if reads_first:
            plan = planned()
        if plan and plan <= now:
            created.append(plan)
            last = plan
        plan = planned()
    if plan and plan <= now:
        created.append(plan)
    assert created == sorted(set(created))
    parts = runs_between(made, begin, now)
    seen = [part.start for part in parts if any(part.start <= look < part.end for look in looks)]
    if reads_first:
        assert created == seen
    else:
        assert set(seen) <= set(created) <= {part.start for part in parts}


@given(schedules(), st.integers(0, 86400))
def test_a_schedule_is_stored_as_plain_values(made: OffPeakSchedule, seconds: int) -> None:
    """They survive JSON, and read back to an equal schedule with an equal hash."""
    changed = OffPeakSchedule.of(
        made.calendar,
        key=made.key,
        spread=f"{made.spread}%",
        runs_per_window=made.runs_per_window,
        min_window=timedelta(seconds=seconds),
    )
    stored = json.dumps(changed.to_dict())
    assert OffPeakSchedule.from_dict(json.loads(stored)) == changed
    assert hash(OffPeakSchedule.from_dict(json.loads(stored))) == hash(changed)
    assert json.dumps(OffPeakSchedule.from_dict(json.loads(stored)).to_dict()) == stored
