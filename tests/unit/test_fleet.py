"""How plans stand: the judgement as a value, the gathering over a repository in memory, and what is remembered."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, backup
from airflow_backup_guard.core.alert_log import Delivery, delivery_key
from airflow_backup_guard.core.control import Action, Order
from airflow_backup_guard.core.drill import DrillResult, drill_key
from airflow_backup_guard.core.fleet import (
    PlanStatus,
    Problem,
    Protection,
    Trend,
    by_urgency,
    judge_protection,
    open_alerts,
)
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import control, fleet
from airflow_backup_guard.engine.fleet_cache import FleetCache
from airflow_backup_guard.errors import RepositoryDenied, RepositoryUnavailable
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.stored import snapshot_at, store_attempt, store_backup

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PLAN = BackupPlan(
    name="shop",
    connection="shop",
    repository="s3://backups/postgres",
    calendar=OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC"),
    rpo="26h",
    rto="1h",
)


def delivery(transition: str, minutes: int, key: str = "load.commit_latency", **values: Any) -> Delivery:
    """A message some minutes before now."""
    at = NOW - timedelta(minutes=minutes)
    made = Delivery(1, "shop", key, "Commits are slow", "warning", transition, "chat", at, 1)
    return replace(made, **values)


def drill(ended_at: datetime = NOW - DAY, **values: Any) -> DrillResult:
    """A drill that passed, of a backup that need not be there."""
    made = DrillResult(
        1, "shop", "20261123T013000Z-a98c", ended_at, ended_at, "PostgreSQL 18", (), 44.0, 3600, (), True
    )
    return replace(made, **values)


def look(repository: MemoryRepository, plan: BackupPlan = PLAN) -> PlanStatus:
    """How the plan stands at nine."""
    return fleet.status(plan, repository, NOW)


@given(
    st.none() | st.integers(-100, 10_000),
    st.none() | st.integers(1, 10_000),
    st.booleans(),
)
def test_nothing_is_called_protected_without_a_young_verified_backup(
    age: int | None, rpo: int | None, unreadable: bool
) -> None:
    """Protected is said exactly where a verified backup of the past is within the RPO, whatever else is not known."""
    point = None if age is None else NOW - age * HOUR
    found, reason = judge_protection(point, None if rpo is None else rpo * HOUR, NOW, unreadable)
    assert (found is Protection.PROTECTED) == (age is not None and rpo is not None and 0 <= age <= rpo)
    assert reason
    if unreadable:
        assert found not in (Protection.UNPROTECTED, Protection.LATE), "what cannot be read may be better"


def test_a_trend_is_the_change_against_what_is_usual() -> None:
    """The newest value is held against the median of those before it; with fewer than three nothing is compared."""
    assert Trend.of([]) is None
    assert Trend.of([100, 100, 150]) == Trend(150, None)
    assert Trend.of([100, 900, 100, 150]) == Trend(150, 0.5)
    assert Trend.of([0, 0, 0, 5]) == Trend(5, None)
    assert Trend.of([1] * 50 + [100] * 10 + [100]) == Trend(100, 0.0), "only the last ten count"


def test_alerts_are_open_until_a_message_ends_them() -> None:
    """An alert is open from its first message to the one that it is over; tests are none, and events stay."""
    assert open_alerts([delivery("raised", 30), delivery("over", 10)]) == ()
    assert open_alerts([delivery("test", 5, key="test")]) == ()
    (again,) = open_alerts([delivery("raised", 5), delivery("over", 10), delivery("raised", 30)])
    assert again.at == NOW - timedelta(minutes=5)
    rogue, slow = open_alerts([delivery("raised", 5), delivery("raised", 2, key="rogue.1")])
    assert (rogue.key, slow.key) == ("rogue.1", "load.commit_latency"), "the newest first"


def test_an_alert_tells_how_many_channels_did_not_get_it() -> None:
    """A channel that failed once and got a later message counts as told; one of an earlier alert does not count."""
    lost = [
        delivery("raised", 40, channel="old", problem="refused"),
        delivery("over", 35),
        delivery("raised", 30, problem="refused"),
        delivery("raised", 29, channel="pager", problem="refused"),
        delivery("still", 10),
    ]
    (found,) = open_alerts(lost)
    assert found.undelivered == 1


def test_the_worst_comes_first() -> None:
    """Plans that nobody could restore come before those that are late or unknown, and all that are good come last."""
    kinds = list(Protection)
    made = [PlanStatus(f"plan{n}", "", NOW, kind, "") for n, kind in enumerate(reversed(kinds))]
    assert [one.protection for one in by_urgency(made)] == kinds
    assert kinds[0] is Protection.UNPROTECTED


def test_a_plan_that_keeps_its_promises_is_good() -> None:
    """Verified last night, drilled within the RTO: protected, good, and the document says by which backup."""
    repository = MemoryRepository()
    for days in range(4, 0, -1):
        store_backup(repository, NOW - days * DAY + 15 * HOUR)
    newest = store_backup(repository, NOW - 8 * HOUR)
    repository.put(drill_key("shop", newest.backup_id), backup.dump(drill()))
    found = look(repository)
    assert (found.protection, found.good, found.rto_met) == (Protection.PROTECTED, True, True)
    assert (found.backups, found.recovery_point) == (5, newest.snapshot.taken_at)
    assert found.size == Trend(float(newest.database_size), 0.0)
    document = found.to_dict()
    assert document["last_verified"]["backup_id"] == newest.backup_id
    assert document["window"]["next_start"] == "2026-11-25T01:00:00+00:00"


@pytest.mark.parametrize("verdict", [None, Verdict.DAMAGED, Verdict.UNKNOWN])
def test_a_backup_that_is_not_verified_protects_nobody(verdict: Verdict | None) -> None:
    """A newer backup that is not verified, or damaged, does not make a late plan protected; a damaged one is named."""
    repository = MemoryRepository()
    store_backup(repository, NOW - 30 * HOUR)
    newer = store_backup(repository, NOW - HOUR, verdict)
    found = look(repository)
    assert found.protection is Protection.LATE
    assert found.damaged == ((newer.backup_id,) if verdict is Verdict.DAMAGED else ())


def test_a_drill_that_was_too_slow_or_failed_is_not_good() -> None:
    """A drill counts by the plan's RTO, and a server that never answered has not met it."""
    repository = MemoryRepository()
    made = store_backup(repository, NOW - HOUR)
    for values in ({"rto_seconds": 3601.0}, {"rto_seconds": None, "passed": False}):
        repository.put(drill_key("shop", made.backup_id), backup.dump(drill(**values)))
        found = look(repository)
        assert (found.protection, found.good, found.rto_met) == (Protection.PROTECTED, False, False)


def test_what_is_broken_is_a_problem_and_hides_nothing() -> None:
    """A broken record, drill and message are each named, and the rest is told as it is."""
    repository = MemoryRepository()
    good = store_backup(repository, NOW - 2 * HOUR)
    broken = store_backup(repository, NOW - HOUR)
    repository.put(backup.record_key("shop", broken.backup_id), b"{")
    repository.put(drill_key("shop", good.backup_id), b"[]")
    repository.put(delivery_key("shop", delivery("raised", 5)), b"no JSON")
    repository.put("records/shop/notes.txt", b"of somebody else")
    found = look(repository)
    assert (found.protection, found.recovery_point) == (Protection.PROTECTED, good.snapshot.taken_at)
    assert [one.message.split()[0].partition("/")[0] for one in found.problems] == ["records", "drills", "alerts"]
    assert not found.good


def test_what_cannot_be_read_may_be_what_is_missing() -> None:
    """A plan whose only records are broken is not called unprotected: it is unknown."""
    repository = MemoryRepository()
    broken = store_backup(repository, NOW - HOUR)
    repository.put(backup.record_key("shop", broken.backup_id), b"{")
    assert look(repository).protection is Protection.UNKNOWN


def test_what_runs_is_told_with_the_orders_to_it() -> None:
    """A copy under way is there with who paused it; one that failed is not."""
    repository = MemoryRepository()
    store_attempt(repository, snapshot_at(NOW - DAY), outcome="its connection broke")
    running = snapshot_at(NOW - HOUR, max_rate="100MB/s", min_rate="1MB/s")
    store_attempt(repository, running)
    control.give(repository, running, Order(1, Action.PAUSE, "alice@db1", "checkout is slow", NOW))
    (found,) = look(repository).running
    assert (found.backup_id, found.orders) == (running.backup_id, ("paused by alice@db1: checkout is slow",))


def test_messages_of_long_ago_are_not_read() -> None:
    """Of a log of years the last day is read, and no more than a few messages of it."""
    repository = MemoryRepository()
    store_backup(repository, NOW - HOUR)
    for minutes in (3 * 24 * 60, 2 * 24 * 60, 60):
        made = delivery("raised", minutes, key=f"copy.{minutes}")
        repository.put(delivery_key("shop", made), backup.dump(made))
    assert [one.key for one in look(repository).alerts] == ["copy.60"]


def test_plans_are_those_of_their_newest_backups() -> None:
    """A plan that only has attempts is there, too; one whose newest record is broken is as the one before it says."""
    repository = MemoryRepository()
    store_backup(repository, NOW - 2 * DAY, name="shop", rpo="26h")
    store_backup(repository, NOW - DAY, name="shop", rpo="50h")
    newest = store_backup(repository, NOW - HOUR, name="shop")
    repository.put(backup.record_key("shop", newest.backup_id), b"{")
    store_attempt(repository, snapshot_at(NOW - HOUR, name="books", rpo="2h"))
    broken = store_backup(repository, NOW - HOUR, name="games")
    repository.put(backup.record_key("games", broken.backup_id), b"{")
    books, games, shop = fleet.plans_in(repository, "s3://elsewhere/prefix")
    assert books.plan is not None
    assert (books.plan.rpo, books.plan.repository) == (2 * HOUR, "s3://elsewhere/prefix")
    assert shop.plan is not None
    assert shop.plan.rpo == 50 * HOUR
    assert games.plan is None
    assert games.problem is not None
    found = {one.plan_name: one.protection for one in fleet.statuses(repository, "s3://elsewhere/prefix")}
    assert found["books"] is Protection.UNPROTECTED
    assert found["games"] is Protection.UNKNOWN


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fine(plan: BackupPlan) -> PlanStatus:
    """A plan that stands well."""
    return PlanStatus(plan.name, plan.repository, NOW, Protection.PROTECTED, "")


def plans(count: int, repository: str = "s3://backups/postgres") -> list[BackupPlan]:
    """Some plans of one repository."""
    return [
        attrs.evolve(PLAN, name=f"{repository[5:].partition('/')[0]}{n}", repository=repository) for n in range(count)
    ]


def test_what_is_fresh_is_not_asked_again() -> None:
    """A plan is asked once as long as it is fresh; then what was known is answered at once with its age, and asked."""
    clock, asked, again = Clock(), [], threading.Event()

    def once_more(plan: BackupPlan) -> PlanStatus:
        asked.append(plan.name)
        if len(asked) == 2:
            again.set()
        return fine(plan)

    cache = FleetCache(once_more, fresh_seconds=60, clock=clock)
    for clock.now in (0.0, 59.0):
        (seen,) = cache.statuses([PLAN], 10)
        assert seen.status is not None
        assert seen.age_seconds == clock.now
    assert asked == ["shop"]
    clock.now = 61.0
    (stale,) = cache.statuses([PLAN], 10)
    assert stale.status is not None
    assert again.wait(10)
    assert asked == ["shop", "shop"]


def test_a_repository_that_hangs_delays_no_other() -> None:
    """Of fifty plans in a repository that never answers few wait in threads, and those of another are all told."""
    release = threading.Event()
    hung = plans(50, "s3://dead/prefix")

    def hang(plan: BackupPlan) -> PlanStatus:
        if plan.repository == hung[0].repository:
            release.wait(60)
        return fine(plan)

    cache = FleetCache(hang, threads=6, threads_a_repository=2)
    live = plans(30, "s3://live/prefix")
    try:
        cache.statuses(hung, 0)
        assert all(seen.status is not None for seen in cache.statuses(live, 30))
        assert all(seen.status is None for seen in cache.statuses(hung, 0))
        assert sum(thread.name.startswith("fleet-dead") for thread in threading.enumerate()) == 2
    finally:
        release.set()


def test_what_a_repository_does_not_answer_is_told_of_all_its_plans() -> None:
    """One plan finds that the repository is not there; the others that wait are not asked, and say the same."""
    asked = []

    def refuse(plan: BackupPlan) -> PlanStatus:
        asked.append(plan.name)
        raise RepositoryUnavailable("s3://dead cannot be reached.", remedy="See the network.")

    cache = FleetCache(refuse, threads_a_repository=1)
    seen = cache.statuses(plans(50, "s3://dead/prefix"), 30)
    assert len(asked) == 1
    assert {one.status.reason for one in seen if one.status} == {"s3://dead cannot be reached."}
    assert all(one.status is not None and one.status.protection is Protection.UNKNOWN for one in seen)


def test_an_error_is_of_its_plan_alone() -> None:
    """Credentials that are refused, or a fault of a library, make one plan unknown, with the reason."""

    def some_fail(plan: BackupPlan) -> PlanStatus:
        if plan.name == "backups0":
            raise RepositoryDenied("Access denied.", remedy="Grant it.")
        if plan.name == "backups1":
            raise ZeroDivisionError("a fault")
        return fine(plan)

    denied, faulty, good = FleetCache(some_fail).statuses(plans(3), 30)
    assert denied.status is not None
    assert denied.status.problems == (Problem("Access denied.", "Grant it."),)
    assert (denied.status.known, denied.status.rpo) == (False, PLAN.rpo)
    assert denied.status.window is not None, "the calendar needs no repository"
    assert faulty.status is not None
    assert "ZeroDivisionError" in faulty.status.reason
    assert good.status is not None
    assert good.status.protection is Protection.PROTECTED


def test_a_plan_that_changed_is_asked_anew() -> None:
    """What was known of a plan as it was before says nothing of it with another RPO."""
    cache = FleetCache(lambda plan: replace(fine(plan), rpo=plan.rpo), clock=Clock())
    cache.statuses([PLAN], 10)
    (seen,) = cache.statuses([attrs.evolve(PLAN, rpo="2h")], 10)
    assert seen.status is not None
    assert seen.status.rpo == 2 * HOUR
