"""Retention: the decisions of known histories as golden files, and the laws that hold for every history."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core.backup import FORMAT, new_backup_id
from airflow_backup_guard.core.catalog import BackupSummary
from airflow_backup_guard.core.holds import Hold
from airflow_backup_guard.core.retention import Decision, RetentionPolicy, decide
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.errors import InvalidPlan

GOLDEN = Path(__file__).parent / "golden"
UTC = timezone.utc
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
COUNTS = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")
PERIODS = {"keep_daily": "%Y-%m-%d", "keep_weekly": "%G-W%V", "keep_monthly": "%Y-%m", "keep_yearly": "%Y"}


def summary(taken_at: datetime, verdict: Verdict | None = Verdict.VERIFIED, suffix: int = 0, **values: Any) -> Any:
    """A backup of a plan."""
    return BackupSummary(
        plan_name="shop",
        backup_id=new_backup_id(taken_at, suffix),
        taken_at=taken_at,
        database_size=10**9,
        stored_size=10**8,
        seconds=60.0,
        server_version=180006,
        encrypted=False,
        verdict=verdict,
        **values,
    )


def nights(count: int, tz: str = "UTC", until: datetime = NOW) -> list[BackupSummary]:
    """A backup a night at 01:30 by the clock of ``tz``, the last of them before ``until``; all verified."""
    last = pendulum.instance(until).in_timezone(tz).replace(hour=1, minute=30, second=0)
    return [summary(last.subtract(days=number)) for number in range(count)]


def hold(until: date | None) -> Hold:
    """A hold to the end of that day."""
    return Hold(FORMAT, until, "case 4711", "alice@db1", NOW - timedelta(days=30))


def scenario_usual() -> tuple[RetentionPolicy, str, list[BackupSummary]]:
    """A backup a night for two years."""
    return RetentionPolicy(keep_last=3, keep_daily=7, keep_weekly=4, keep_monthly=6, keep_yearly=2), "UTC", nights(730)


def scenario_trust() -> tuple[RetentionPolicy, str, list[BackupSummary]]:
    """The newest are not verified, damaged or of unknown state; gaps; a hold; a clock that was wrong."""
    verdicts = [None, Verdict.DAMAGED, Verdict.UNKNOWN, Verdict.READABLE, None, Verdict.VERIFIED, Verdict.DAMAGED]
    found = [
        summary(NOW - timedelta(hours=8 * number), verdicts[number % len(verdicts)], number) for number in range(20)
    ]
    held = summary(NOW - timedelta(days=400), None, hold=hold(date(2026, 11, 23)))
    over = summary(NOW - timedelta(days=401), None, hold=hold(date(2026, 11, 22)))
    ahead = summary(NOW + timedelta(days=4000))
    return RetentionPolicy(keep_last=2, keep_daily=2, min_age=timedelta(hours=20)), "UTC", [*found, held, over, ahead]


def scenario_clocks() -> tuple[RetentionPolicy, str, list[BackupSummary]]:
    """Three backups an hour around the night in which New York's clocks go back, whose day has 25 hours."""
    begin = datetime(2026, 11, 1, 2, tzinfo=UTC)
    found = [summary(begin + timedelta(minutes=20 * number)) for number in range(3 * 29)]
    return RetentionPolicy(keep_daily=3), "America/New_York", found


SCENARIOS = {"usual": scenario_usual, "trust": scenario_trust, "clocks": scenario_clocks}


@pytest.mark.parametrize("name", SCENARIOS)
def test_known_histories(name: str) -> None:
    """What is kept, what expires and what is said of each is what the file has, whose every line a person has read."""
    policy, tz, backups = SCENARIOS[name]()
    decisions = decide(policy, backups, pendulum.timezone(tz), NOW)
    text = "".join(f"{line}\n" for line in [f"{policy}, {tz}", *_shortened(decisions)])
    file = GOLDEN / f"retention_{name}.txt"
    if "WRITE_GOLDEN" in os.environ:
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def _shortened(decisions: Sequence[Decision]) -> Iterator[str]:
    """A line for each, the newest first; of a run of many that expire the first and the last."""
    shown = list(reversed(decisions))
    for number, one in enumerate(shown):
        inside = not any(near.keep for near in shown[max(number - 1, 0) : number + 2])
        if not inside:
            verdict = one.backup.verdict.value if one.backup.verdict else "not yet"
            yield f"{one.backup.backup_id} {verdict:9} {one}"
        elif shown[number - 1].keep or shown[max(number - 2, 0)].keep:
            yield "..."


# Laws

VERDICTS = st.sampled_from([None, *Verdict])
HOLDS = st.sampled_from([None, None, None, hold(None), hold(date(2026, 11, 22)), hold(date(2026, 11, 23))])
ZONES = st.sampled_from(["UTC", "America/New_York", "Pacific/Kiritimati", "Asia/Kathmandu", "Pacific/Apia"])


@st.composite
def histories(draw: st.DrawFn) -> list[BackupSummary]:
    """Up to 120 backups: minutes to years between two of them, or none at all; any state; some held."""
    source = random.Random(draw(st.integers(0, 2**32)))
    largest = draw(st.sampled_from([60, 3600, 86_400, 86_400 * 7, 86_400 * 40]))
    verdicts = draw(st.lists(VERDICTS, min_size=1, max_size=6))
    holds = draw(st.lists(HOLDS, min_size=1, max_size=3))
    moment = NOW + timedelta(seconds=draw(st.integers(-largest * 3, largest * 3)))
    found = []
    for number in range(draw(st.integers(0, 120))):
        found.append(summary(moment, source.choice(verdicts), number, hold=source.choice(holds)))
        moment -= timedelta(seconds=source.choice([0, 1, source.randint(0, largest)]))
    source.shuffle(found)
    return found


@st.composite
def policies(draw: st.DrawFn) -> RetentionPolicy:
    """Any that there can be."""
    counts = {name: draw(st.sampled_from([0, 0, 1, 2, 3, 7, 12])) for name in COUNTS}
    min_age = draw(st.sampled_from([0, 0, 1, 30])) if any(counts.values()) else 0
    return RetentionPolicy(**counts, min_age=timedelta(days=min_age))


def is_newer(one: BackupSummary, other: BackupSummary) -> bool:
    """Whether ``one`` is the newer, and not dated after now."""
    return one.taken_at <= NOW and (one.taken_at, one.backup_id) > (other.taken_at, other.backup_id)


@settings(max_examples=300)
@given(policies(), histories(), ZONES)
def test_nothing_expires_that_must_not(policy: RetentionPolicy, backups: list[BackupSummary], tz: str) -> None:
    """Each is decided once, with a reason. Not the newest, nor the last verified one, nor what is held or young."""
    zone = pendulum.timezone(tz)
    decisions = decide(policy, backups, zone, NOW)
    assert sorted(one.backup.backup_id for one in decisions) == sorted(one.backup_id for one in backups)
    assert all(before.backup.taken_at <= after.backup.taken_at for before, after in pairwise(decisions))
    assert all(one.reasons and all(one.reasons) for one in decisions)
    expired = [one.backup for one in decisions if not one.keep]
    kept = [one.backup for one in decisions if one.keep]
    assert bool(kept) == bool(backups)
    assert not (policy.is_empty and expired)
    today = NOW.astimezone(zone).date()
    for one in expired:
        assert one.taken_at <= NOW - policy.min_age
        assert one.hold is None or one.hold.is_over(today)
        # Of those that are trusted at least as much there is a newer one, and it is kept.
        assert any(other.trust >= one.trust and is_newer(other, one) for other in kept)


@settings(max_examples=300)
@given(policies(), histories(), ZONES)
def test_what_expires_has_what_the_plan_promises_in_its_place(
    policy: RetentionPolicy, backups: list[BackupSummary], tz: str
) -> None:
    """Of each count: so many newer ones are kept, or one of the same period, that are trusted as much."""
    zone = pendulum.timezone(tz)
    decisions = decide(policy, backups, zone, NOW)
    kept = [one.backup for one in decisions if one.keep]
    for gone in (one.backup for one in decisions if not one.keep):
        newer = [one for one in kept if one.trust >= gone.trust and is_newer(one, gone)]
        assert len(newer) >= policy.keep_last
        for name, form in PERIODS.items():
            own = gone.taken_at.astimezone(zone).strftime(form)
            periods = {one.taken_at.astimezone(zone).strftime(form) for one in newer}
            assert own in periods or len(periods) >= getattr(policy, name)


@given(policies(), histories(), ZONES)
def test_a_second_look_changes_nothing(policy: RetentionPolicy, backups: list[BackupSummary], tz: str) -> None:
    """Once what expires is gone, nothing else expires: expiring twice, or in two goes, is the same."""
    zone = pendulum.timezone(tz)
    kept = [one.backup for one in decide(policy, backups, zone, NOW) if one.keep]
    assert all(one.keep for one in decide(policy, kept, zone, NOW))
    some_left = [one.backup for one in decide(policy, backups, zone, NOW) if one.keep or one.backup.taken_at.second % 2]
    assert {one.backup.backup_id for one in decide(policy, some_left, zone, NOW) if one.keep} == {
        one.backup_id for one in kept
    }


@given(policies(), histories(), st.data())
def test_distrust_protects_what_is_older(
    policy: RetentionPolicy, backups: list[BackupSummary], data: st.DataObject
) -> None:
    """If a verification is taken away from one backup, or finds damage, no other one expires on that account."""
    from dataclasses import replace

    if not backups:
        return
    zone = pendulum.timezone("UTC")
    number = data.draw(st.integers(0, len(backups) - 1))
    worse = [*backups]
    worse[number] = replace(worse[number], verdict=Verdict.DAMAGED)
    before = {one.backup.backup_id for one in decide(policy, backups, zone, NOW) if one.keep}
    after = {one.backup.backup_id for one in decide(policy, worse, zone, NOW) if one.keep}
    assert before - after <= {backups[number].backup_id}


# The policy as a value


@given(policies())
def test_a_policy_survives_being_stored(policy: RetentionPolicy) -> None:
    """As plain values, of which those that are not set are left out."""
    assert RetentionPolicy.from_dict(policy.to_dict()) == policy


@pytest.mark.parametrize(
    ("values", "field", "allowed"),
    [
        *(({name: value}, name, "a whole number from 0") for name in COUNTS for value in (-1, 1.0, "7", True, None)),
        ({"keep_last": 100_001}, "keep_last", "to 100000"),
        ({"keep_last": 1, "min_age": 7}, "min_age", '"7d"'),
        ({"keep_last": 1, "min_age": "-1d"}, "min_age", '"7d"'),
        ({"min_age": "7d"}, "min_age", 'keep_last=1, min_age="7d"'),
        ({"keep_hourly": 1}, "keep_hourly", "keep_last, keep_daily"),
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, Any], field: str, allowed: str) -> None:
    """With its name in the plan, and what is allowed."""
    with pytest.raises(InvalidPlan) as refused:
        RetentionPolicy.from_dict(values)
    assert refused.value.field == f"retention.{field}"
    assert allowed in refused.value.allowed


def test_a_policy_says_what_it_keeps() -> None:
    """In a line."""
    assert str(RetentionPolicy()) == "keeps all"
    assert str(RetentionPolicy(keep_daily=7, keep_yearly=1)) == "keeps 7 daily, 1 yearly"
    assert str(RetentionPolicy(keep_last=1, min_age="30d")) == "keeps 1 last, and all younger than 30d"
    with pytest.raises(InvalidPlan, match="a table of keep_last"):
        RetentionPolicy.from_dict(7)  # type: ignore[arg-type]


def test_a_hold_says_who_and_why_in_a_line() -> None:
    """Whatever is in it, it is safe to print; its last day is the day that it names."""
    assert str(hold(date(2027, 1, 1))) == "held until 2027-01-01 by alice@db1: case 4711"
    odd = Hold(FORMAT, None, "a\x1b[2J\nb" + "x" * 300, "mallory", NOW)
    assert str(odd).startswith("held until it is released by mallory: a [2J bxxx")
    assert len(str(odd)) == 200
    assert not hold(date(2027, 1, 1)).is_over(date(2027, 1, 1))
    assert hold(date(2027, 1, 1)).is_over(date(2027, 1, 2))
    assert not hold(None).is_over(date(9999, 1, 1))
