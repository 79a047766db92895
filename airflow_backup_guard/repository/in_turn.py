"""Work on a stream in several threads, where some of it must be done in order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Thing = TypeVar("Thing")
Prepared = TypeVar("Prepared")

_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = min(4, max(2, _PROCESSORS))
"""One for each processor: more than there are only disturb each other, and more than a few wait for their turn. But two
at least, as one may wait for a repository."""


def in_turn(
    things: Iterator[Thing],
    prepare: Callable[[Thing], Prepared],
    take: Callable[[Prepared], Callable[[], None]],
    threads: int = THREADS,
) -> None:
    """Work on all ``things``, none of which is None, in ``threads``, of which the calling one is the first.

    Each thread asks for the next thing, one at a time, and prepares it while the others are at theirs. When all before
    it were taken, it takes it: ``take`` is called in order, and never twice at once. What that returns is called at
    last, while the others go on. So each thing stays with one thread, and one processor's cache.

    The first failure ends it and is raised here, once no thread is left; one of ``things``, ``prepare`` or ``take``
    only after all before it were taken. Where the process may have no more threads, those that it has do it.
    """
    line = _Line(things, prepare, take)
    helpers = []
    try:
        for _ in range(threads - 1):
            helper = threading.Thread(target=line.work, name="in-turn", daemon=True)
            try:
                helper.start()
            except RuntimeError:
                break
            helpers.append(helper)
        line.work()
    finally:
        for helper in helpers:
            helper.join()
    if line.failure is not None:
        raise line.failure


class _Over(Exception):
    """Another thread has failed."""


class _Line(Generic[Thing, Prepared]):
    def __init__(
        self,
        things: Iterator[Thing],
        prepare: Callable[[Thing], Prepared],
        take: Callable[[Prepared], Callable[[], None]],
    ) -> None:
        self._things = things
        self._prepare = prepare
        self._take = take
        self._asking = threading.Lock()
        self._turn = threading.Condition()
        self._asked = 0
        self._taken = 0
        self.failure: BaseException | None = None

    def work(self) -> None:
        """Until nothing is left, or something failed."""
        try:
            while (rest := self._next()) is not None:
                rest()
        except _Over:
            pass
        except BaseException as error:
            with self._turn:
                self.failure = self.failure or error
                self._turn.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """Have the next thing taken; returns what is to be done with it, None if there is none."""
        number = -1
        try:
            with self._asking:
                if self.failure is not None:
                    raise _Over
                number = self._asked
                self._asked += 1
                thing = next(self._things, None)
            if thing is None:
                return None
            prepared = self._prepare(thing)
        except Exception:
            self._await(number)  # what is wrong with an earlier one is told first
            raise
        self._await(number)
        rest = self._take(prepared)
        with self._turn:
            self._taken += 1
            self._turn.notify_all()
        return rest

    def _await(self, number: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._taken == number or self.failure is not None)
            if self.failure is not None:
                raise _Over
