"""Work in several threads, some of it in order: nothing is lost, nothing is out of turn, no thread is left."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.repository.in_turn import in_turn


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "in-turn"]


def nothing() -> None:
    """Nothing is left to be done."""


def some_time(chance: random.Random) -> None:
    """Now and then a little."""
    if chance.random() < 0.3:
        time.sleep(chance.random() / 2000)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), st.integers(1, 5), st.integers(0, 2**32))
def test_in_order_and_one_at_a_time(count: int, threads: int, seed: int) -> None:
    """Whichever thread is faster: all are asked for and taken in their order, and the rest is done once for each."""
    chance = random.Random(seed)
    asking, taking = threading.Lock(), threading.Lock()
    taken: list[int] = []
    done: list[int] = []

    def things() -> Iterator[int]:
        for number in range(count):
            assert asking.acquire(blocking=False)
            some_time(chance)
            asking.release()
            yield number

    def prepare(number: int) -> int:
        some_time(chance)
        return number * 10

    def take(number: int) -> Callable[[], None]:
        assert taking.acquire(blocking=False)
        some_time(chance)
        taken.append(number)
        taking.release()

        def rest() -> None:
            some_time(chance)
            done.append(number)

        return rest

    in_turn(things(), prepare, take, threads)
    assert taken == [number * 10 for number in range(count)]
    assert sorted(done) == taken


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 20), st.integers(1, 5), st.sampled_from(["asked for", "prepared", "taken", "done"]), st.data())
def test_the_first_failure_is_raised(number: int, threads: int, where: str, data: st.DataObject) -> None:
    """All before it were taken, and none after it, also where later ones fail sooner."""
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    taken: list[int] = []

    def fail(at: int, step: str) -> None:
        some_time(chance)
        if (step, at) == (where, number) or (step == "prepared" and at > number):
            raise ValueError(f"{step} {at}")

    def things() -> Iterator[int]:
        for at in range(number + 5):
            fail(at, "asked for")
            yield at

    def prepare(at: int) -> int:
        fail(at, "prepared")
        return at

    def take(at: int) -> Callable[[], None]:
        fail(at, "taken")
        taken.append(at)
        return lambda: fail(at, "done")

    with pytest.raises(ValueError, match=f"^{where} {number}$" if where != "done" else "^(done|prepared) [0-9]+$"):
        in_turn(things(), prepare, take, threads)
    assert taken == list(range(number + (where == "done")))


def test_several_work_at_once() -> None:
    """One prepares, and one does the rest, while another takes."""
    meeting = threading.Barrier(3, timeout=30)
    in_turn(iter(range(3)), lambda number: number, lambda number: lambda: _meet(meeting), 3)
    meeting.reset()
    in_turn(iter(range(3)), lambda number: _meet(meeting), lambda _: nothing, 3)


def _meet(meeting: threading.Barrier) -> int:
    return meeting.wait()


def test_where_no_more_threads_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that there is does all of it."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    taken: list[int] = []

    def take(number: int) -> Callable[[], None]:
        taken.append(number)
        return nothing

    in_turn(iter(range(10)), lambda number: number, take, 4)
    assert taken == list(range(10))


def test_an_interrupt_ends_it() -> None:
    """As any failure does; nobody waits for the turn of who was interrupted."""

    def prepare(number: int) -> int:
        if number == 3:
            raise KeyboardInterrupt
        return number

    with pytest.raises(KeyboardInterrupt):
        in_turn(iter(range(100)), prepare, lambda _: nothing, 3)
