"""Remembers how many plans stand, and asks anew in the background, so that who looks never waits for a dead repository.

One repository gets a share of the threads only, and what it did not answer is told of all its plans at once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_backup_guard.core.fleet import PlanStatus, Problem, unreachable_status
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.errors import BackupGuardError, RepositoryUnavailable

FRESH_SECONDS = 60.0
"""How old a status may become before it is asked for anew."""

_FORGET_SECONDS = 3600.0
_Key = tuple[str, str]  # plan's name and repository


@dataclass(frozen=True)
class Seen:
    """What is known of a plan now: its status and how old that is, in seconds; both None while it is first asked."""

    plan_name: str
    repository: str
    status: PlanStatus | None
    age_seconds: float | None


@dataclass
class _Entry:
    plan: BackupPlan
    asked_at: float
    status: PlanStatus | None = None
    known_at: float | None = None
    waiting: bool = False
    busy: bool = False

    @property
    def key(self) -> _Key:
        return self.plan.name, self.plan.repository


class FleetCache:
    """Safe to use from many threads. Its own threads end with the process, however a repository hangs.

    ``look`` finds out how one plan stands, and raises where nothing of it can be known.
    """

    def __init__(
        self,
        look: Callable[[BackupPlan], PlanStatus],
        *,
        fresh_seconds: float = FRESH_SECONDS,
        threads: int = 12,
        threads_a_repository: int = 3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._fresh_seconds = fresh_seconds
        self._threads = threads
        self._share = threads_a_repository
        self._clock = clock
        self._entries: dict[_Key, _Entry] = {}
        self._at_work: Counter[str] = Counter()
        self._changed = threading.Condition()

    def statuses(self, plans: Sequence[BackupPlan], wait_seconds: float) -> list[Seen]:
        """What is known of these, in their order, after at most ``wait_seconds`` for those that are not known at all.

        What is known but not fresh is answered at once as it was, and asked for anew.
        """
        until = time.monotonic() + wait_seconds
        with self._changed:
            entries = [self._entry(plan) for plan in plans]
            self._forget()
            self._start()
            while any(one.status is None for one in entries):
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            now = self._clock()
            return [Seen(*one.key, one.status, None if one.known_at is None else now - one.known_at) for one in entries]

    def _entry(self, plan: BackupPlan) -> _Entry:
        now, key = self._clock(), (plan.name, plan.repository)
        entry = self._entries.get(key)
        if entry is None or entry.plan != plan:
            entry = self._entries[key] = _Entry(plan, now)
        entry.asked_at = now
        if not entry.busy and (entry.known_at is None or now - entry.known_at >= self._fresh_seconds):
            entry.waiting = True
        return entry

    def _forget(self) -> None:
        """Drop plans that nobody has asked for in an hour: they may have been removed."""
        oldest = self._clock() - _FORGET_SECONDS
        self._entries = {key: one for key, one in self._entries.items() if one.asked_at >= oldest}

    def _start(self) -> None:
        for entry in self._entries.values():
            if self._at_work.total() >= self._threads:
                return
            if entry.waiting and self._at_work[entry.plan.repository] < self._share:
                entry.waiting, entry.busy = False, True
                self._at_work[entry.plan.repository] += 1
                threading.Thread(target=self._work, args=(entry,), name=f"fleet-{entry.plan.name}", daemon=True).start()

    def _work(self, entry: _Entry) -> None:
        plan = entry.plan
        unavailable = False
        try:
            status = self._look(plan)
        except BackupGuardError as error:
            unavailable = isinstance(error, RepositoryUnavailable)
            status = _unreachable(plan, Problem(error.message, error.remedy))
        except Exception as error:  # a library's own error must not leave the plan asked for ever
            status = _unreachable(plan, Problem(f"How {plan.name} stands could not be found out: {error!r}", ""))
        with self._changed:
            entry.busy = False
            self._at_work[plan.repository] -= 1
            self._know(entry, status)
            if unavailable:
                for other in self._entries.values():
                    if other.waiting and other.plan.repository == plan.repository:
                        other.waiting = False
                        self._know(other, _unreachable(other.plan, status.problems[0]))
            self._start()
            self._changed.notify_all()

    def _know(self, entry: _Entry, status: PlanStatus) -> None:
        entry.status, entry.known_at = status, self._clock()


def _unreachable(plan: BackupPlan, problem: Problem) -> PlanStatus:
    return unreachable_status(plan, problem, datetime.now(timezone.utc))
