"""A gate that waits for the load keeps an eye on the RPO: warned in time, and never hasty."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.core.starvation import Patience, Urgency, weigh

NOON = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def patience(
    point: datetime | None = NOON - 10 * HOUR, since: datetime = NOON, last: timedelta | None = 4 * HOUR
) -> Patience:
    """With an RPO of a day, of which the last backup took four hours, and a gate that looked first at noon."""
    return Patience(24 * HOUR, point, since, last, timedelta(minutes=5))


@pytest.mark.parametrize(
    ("hours", "urgency"),
    [
        (14.99, Urgency.CALM),
        (15, Urgency.WARNING),
        (17.99, Urgency.WARNING),
        (18, Urgency.ALERT),
        (19.99, Urgency.ALERT),
        (20, Urgency.STARVED),
        (400, Urgency.STARVED),
    ],
)
def test_urgency_rises_with_age(hours: float, urgency: Urgency) -> None:
    """At three quarters, nine tenths, and all of the time in which the next backup must begin: RPO less duration."""
    point = NOON - 10 * HOUR
    assert patience(point).urgency(point + hours * HOUR) is urgency


def test_each_step_is_announced() -> None:
    """Whoever sleeps until ``next_change`` misses none of them."""
    now, seen = NOON, []
    one = patience()
    while (following := one.next_change(now)) is not None:
        now = following
        seen.append(one.urgency(now))
    assert seen == [Urgency.WARNING, Urgency.ALERT, Urgency.STARVED]


def test_a_first_backup_counts_from_the_first_look() -> None:
    """A plan without any backup could never wait otherwise."""
    one = patience(None)
    assert one.urgency(NOON + timedelta(minutes=10)) is Urgency.CALM
    assert one.urgency(NOON + 20 * HOUR) is Urgency.STARVED
    assert "there is no verified backup, and the gate has waited for 1h" in one.text(NOON + HOUR)


def test_an_old_backup_does_not_take_the_gates_chance() -> None:
    """The load may be low at this moment, however long ago the last backup was."""
    one = patience(NOON - 100 * HOUR)
    assert one.urgency(NOON) is Urgency.ALERT
    assert one.urgency(NOON + timedelta(minutes=5)) is Urgency.STARVED


def test_a_long_backup_takes_half_of_the_rpo_at_most() -> None:
    """One that was held up for a day does not make every gate after it give up at once."""
    assert patience(last=30 * HOUR).lead == 12 * HOUR
    assert patience(last=None).lead == timedelta(0)


def test_the_text_says_how_long_there_is() -> None:
    """Age, RPO, and what follows."""
    assert patience().text(NOON) == (
        "the last verified backup is 10h old, with an RPO of 1d: the next must begin within 10h"
    )
    assert patience().text(NOON + 10 * HOUR).endswith("20h old, with an RPO of 1d: it is time to begin")


def test_a_plan_without_an_rpo_has_all_patience() -> None:
    """Nothing to watch."""
    calendar = OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC")
    plan = BackupPlan(name="shop", connection="shop", repository="file:///srv", calendar=calendar)
    assert Patience.of(plan, NOON, NOON, None) is None


MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(timezone.utc))
SPANS = st.timedeltas(timedelta(microseconds=1), timedelta(days=3660))
PATIENCE = st.builds(
    Patience, SPANS, st.none() | MOMENTS, MOMENTS, st.none() | SPANS, st.timedeltas(timedelta(0), HOUR)
)


@given(PATIENCE, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=3000)))
def test_time_only_makes_it_more_urgent(one: Patience, now: datetime, later: timedelta) -> None:
    """Urgency never falls by waiting, and each text can be made."""
    assert one.urgency(now).rank <= one.urgency(now + later).rank
    assert one.text(now)


@given(PATIENCE, MOMENTS)
def test_the_next_change_is_the_next(one: Patience, now: datetime) -> None:
    """Until then nothing changes; then the urgency is higher."""
    change = one.next_change(now)
    if change is None:
        assert one.urgency(now) is Urgency.STARVED
    else:
        assert change > now
        assert one.urgency(change - timedelta(microseconds=1)) is one.urgency(now)
        assert one.urgency(change).rank > one.urgency(now).rank


@given(PATIENCE)
def test_a_backup_that_begins_in_time_keeps_the_rpo(one: Patience) -> None:
    """Begun the moment the gate is starved, one that takes as long as the last is done by the end of the RPO, unless
    the gate came too late for that, or the last took more than half of it."""
    starved = one.moment(Urgency.STARVED)
    start = one.recovery_point or one.waiting_since
    took = one.last_took or timedelta(0)
    if starved > one.waiting_since + one.quiet_for and took <= one.rpo / 2:
        assert starved + took <= start + one.rpo
    assert starved >= one.waiting_since + one.quiet_for


@pytest.mark.parametrize("rule", ["wait", "go_at_floor", "fail"])
def test_only_a_starved_gate_does_what_its_plan_says(rule: str) -> None:
    """Before that it waits whatever the rule is, and each rule does its own and nothing else."""
    plan = BackupPlan(
        name="shop",
        connection="shop",
        repository="file:///srv/backups",
        calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
        min_rate="2MB/s",
        rpo="24h",
        when_starved=rule,
    )
    early, late = (weigh(plan, patience(), NOON + hours * HOUR) for hours in (9.9, 10))
    assert (early.goes_at_floor, early.fails) == (False, False)
    assert early.next_look == NOON + 10 * HOUR
    assert (late.goes_at_floor, late.fails) == (rule == "go_at_floor", rule == "fail")
    assert ("at 2MB/s at most" in late.text) is (rule == "go_at_floor")
    assert late.next_look is None
