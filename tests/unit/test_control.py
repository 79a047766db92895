"""Orders to a copy: what is in force, the pace that obeys, and their life in a repository."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar, backup
from airflow_backup_guard.core.backup import Attempt, Cluster, Snapshot
from airflow_backup_guard.core.control import Action, Order, Orders, obey, orders_prefix
from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.engine import control
from airflow_backup_guard.errors import BackupDamaged, BackupNotRunning, InvalidPlan
from airflow_backup_guard.repository.memory import MemoryRepository

FLOOR, CEILING = Rate(1_000_000), Rate(100_000_000)
NOW = datetime(2024, 6, 1, 19, tzinfo=timezone.utc)
PLAN = BackupPlan(
    name="shop",
    connection="shop",
    repository="file:///srv/backups",
    calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
)
IDS = [f"2024060{day}T190000Z-000{day}" for day in range(1, 6)]


def order(action: str, max_rate: str | None = None, reason: str = "checkout is slow", by: str = "alice@db1") -> Order:
    """An order of Alice's."""
    return Order(backup.FORMAT, Action(action), by, reason, NOW, max_rate)


def orders(*given: Order) -> Orders:
    """What is in force after these."""
    found = Orders()
    for item in given:
        found = found.after(item)
    return found


def attempt(
    repository: MemoryRepository, backup_id: str, *, system: str = "1", plan: str = "shop", outcome: str | None = None
) -> Snapshot:
    """A backup that has begun."""
    snapshot = Snapshot(
        backup_id=backup_id,
        plan={**PLAN.to_dict(), "name": plan},
        cluster=Cluster(system, 180006, 1, 1 << 24, True),
        lsn=LSN(1),
        taken_at=NOW,
        size=1,
        databases=(),
        tablespaces=(),
    )
    key = backup.attempt_key(plan, backup_id)
    repository.put(key, backup.dump(Attempt(backup.FORMAT, snapshot, outcome)))
    return snapshot


PACES = st.builds(
    lambda rate, state: Pace(FLOOR, CEILING, Rate(rate), state, "load"),
    st.integers(FLOOR, CEILING),
    st.sampled_from(PaceState),
)
ORDERS = st.lists(
    st.sampled_from([order("pause"), order("resume"), order("limit"), order("stop")])
    | st.integers(0, 2 * CEILING).map(lambda rate: order("limit", f"{rate}B/s")),
    max_size=6,
).map(lambda given: orders(*given))


@given(PACES, ORDERS)
def test_orders_only_ever_lower_the_pace(pace: Pace, ordered: Orders) -> None:
    """Whatever the orders, the rate lies between the floor and what the load allows, and the reason says who."""
    obeyed = obey(pace, ordered)
    assert pace.floor <= obeyed.rate <= pace.rate
    assert (obeyed.floor, obeyed.ceiling) == (pace.floor, pace.ceiling)
    assert obeyed == pace or "alice@db1" in obeyed.reason
    if ordered.pause is not None:
        assert (obeyed.rate, obeyed.state) == (pace.floor, PaceState.PAUSED)
    elif ordered.limit is not None and ordered.limit.rate is not None:
        assert obeyed.rate <= max(ordered.limit.rate, pace.floor)


def test_the_reason_names_who_and_why() -> None:
    """A pause and a limit each keep their own author; a limit that does not matter does not hide the load's reason."""
    running = Pace(FLOOR, CEILING, CEILING, PaceState.RUNNING, "load is within limits")
    slow = Pace(FLOOR, CEILING, Rate(2_000_000), PaceState.THROTTLED, "commit latency 31 ms > 25 ms")
    limited = orders(order("limit", "20MB/s", by="bob@laptop", reason=""))
    both = limited.after(order("pause"))
    assert obey(running, both).reason == "paused by alice@db1: checkout is slow"
    assert obey(running, limited).reason == "limited to 20MB/s by bob@laptop"
    assert obey(running, limited).state is PaceState.THROTTLED
    assert obey(slow, limited) == slow
    assert both.after(order("resume")) == limited
    assert limited.after(order("limit")) == Orders()


@pytest.mark.parametrize(
    ("by", "reason", "shown"),
    [
        ("alice@db1", "", "alice@db1"),
        ("alice@db1", "one\ntwo\t three\x1b[31m", "alice@db1: one two three [31m"),
        ("alice", "x" * 500, f"alice: {'x' * 192}…"),
    ],
)
def test_an_order_is_one_short_line_whoever_wrote_it(by: str, reason: str, shown: str) -> None:
    """Nothing in a repository can forge lines of a log, or colour a terminal."""
    assert order("pause", by=by, reason=reason).origin == shown


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"paused",
        b"[1]",
        b"{}",
        b'{"format": 2, "action": "pause", "by": "a", "reason": "", "at": "2024-06-01T19:00:00Z"}',
        b'{"format": 1, "action": "explode", "by": "a", "reason": "", "at": "2024-06-01T19:00:00Z"}',
        b'{"format": 1, "action": "limit", "by": "a", "reason": "", "at": "2024-06-01T19:00:00Z", "max_rate": "20"}',
        b'{"format": 1, "action": "limit", "by": "a", "reason": "", "at": "2024-06-01T19:00:00Z", "max_rate": 20}',
        b"\xff",
    ],
)
def test_what_is_no_order_is_told_from_one(content: bytes) -> None:
    """Foreign content, another format and a rate without its unit are errors of one kind."""
    with pytest.raises(BackupDamaged):
        backup.load(Order, content, "control/shop/x/000001.json")


def test_an_order_is_read_back_as_it_was_written() -> None:
    """Rates keep their unit in storage, too."""
    written = order("limit", "20MB/s")
    assert backup.load(Order, backup.dump(written), "it") == written
    assert b'"20MB/s"' in backup.dump(written)


def test_orders_given_at_once_are_all_kept() -> None:
    """Each gets a number of its own; what is in force is the same for every reader."""
    repository = MemoryRepository()
    snapshot = attempt(repository, IDS[0])
    given = [order("limit", "20MB/s"), order("pause"), *(order("pause", by=f"user{n}") for n in range(20))]
    barrier = threading.Barrier(len(given))

    def give(item: Order) -> None:
        barrier.wait()
        control.give(repository, snapshot, item)

    threads = [threading.Thread(target=give, args=(item,)) for item in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [info.key.rpartition("/")[2] for info in repository.list(orders_prefix("shop", IDS[0]))]
    assert keys == [f"{number:06}.json" for number in range(1, len(given) + 1)]
    in_force = control.orders_to(repository, snapshot)
    assert in_force.limit == given[0]
    assert in_force.pause is not None


@pytest.mark.parametrize(
    ("rate", "allowed"), [("999kB/s", False), ("1MB/s", True), ("100MB/s", True), ("101MB/s", False)]
)
def test_a_limit_lies_between_the_plans_rates(rate: str, allowed: bool) -> None:
    """Above max_rate the server's own MAX_RATE holds, and the error says so; nothing is stored then."""
    repository = MemoryRepository()
    snapshot = attempt(repository, IDS[0])
    if allowed:
        control.give(repository, snapshot, order("limit", rate))
        return
    with pytest.raises(InvalidPlan, match=r"Allowed: 1MB/s to 100MB/s, or none: .*MAX_RATE"):
        control.give(repository, snapshot, order("limit", rate))
    assert not list(repository.list("control/"))


def test_what_runs_is_the_newest_attempt_of_each_cluster_without_an_end() -> None:
    """Failed, whole, superseded and unreadable attempts do not run; one that runs needs no name, two do."""
    repository = MemoryRepository()
    with pytest.raises(BackupNotRunning, match=r"no backup runs.*list"):
        control.find(repository)
    attempt(repository, IDS[0])
    alive = attempt(repository, IDS[1])
    attempt(repository, IDS[2], outcome="it failed")
    whole = attempt(repository, IDS[3])
    repository.put(backup.record_key("shop", whole.backup_id), b"{}")
    repository.put(backup.attempt_key("shop", IDS[4]), b"not ours")
    assert control.running(repository) == [alive] == [control.find(repository)]
    assert control.find(repository, IDS[0]).backup_id == IDS[0]
    for ended in (IDS[2], IDS[3], "20200101T000000Z-0000"):
        with pytest.raises(BackupNotRunning, match=f"{ended} does not run.*{alive.backup_id} of plan shop"):
            control.find(repository, ended)
    other = attempt(repository, IDS[0], plan="other", system="2")
    with pytest.raises(BackupNotRunning, match=r"several backups run.*of plan other, .*of plan shop"):
        control.find(repository)
    assert control.find(repository, plan_name="other") == other
    assert control.running(repository) == [other, alive]


def test_an_order_that_comes_too_late_is_withdrawn() -> None:
    """The copy ended while it was given: it is refused, and not left for a copy to come."""
    repository = MemoryRepository()
    snapshot = attempt(repository, IDS[0])
    attempt(repository, IDS[0], outcome="it failed")
    with pytest.raises(BackupNotRunning, match="just ended"):
        control.give(repository, snapshot, order("stop"))
    assert not list(repository.list("control/"))


def test_a_retry_keeps_the_pause_and_the_limit_and_nothing_else() -> None:
    """What was superseded, the stop and all answers are removed; after the run, so is the rest."""
    repository = MemoryRepository()
    snapshot = attempt(repository, IDS[1])
    actions: list[Any] = [("limit", "50MB/s"), ("pause",), ("limit", "20MB/s"), ("stop",)]
    for action in actions:
        key = control.give(repository, snapshot, order(*action)).key
        repository.put(key.replace(".json", ".obeyed"), b"")
    repository.put(f"{orders_prefix('shop', IDS[1])}note.json", b"not ours")
    control.clear(repository, "shop", IDS[1], for_retry=True)
    left = [info.key.rpartition("/")[2] for info in repository.list("control/")]
    assert left == ["000002.json", "000003.json"]
    assert control.orders_to(repository, snapshot) == orders(order("pause"), order("limit", "20MB/s"))
    control.sweep(repository, "shop", before=IDS[1])
    assert len(list(repository.list("control/"))) == 2
    control.sweep(repository, "shop", before=IDS[2])
    assert not list(repository.list("control/"))
