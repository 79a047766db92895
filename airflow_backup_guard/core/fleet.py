"""How each of many plans stands: is there a backup to restore from, was that tried, what runs, when is the next window.

What could not be read is never taken for good: it is a problem of that plan, and its protection is unknown where that
depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from statistics import median
from typing import Any

from airflow_backup_guard.core.agenda import NextWindow, next_window
from airflow_backup_guard.core.alert_log import Delivery
from airflow_backup_guard.core.alerts import Transition
from airflow_backup_guard.core.catalog import BackupSummary
from airflow_backup_guard.core.drill import DrillResult
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.units import format_duration, whole_seconds

_COMPARED = 10
_FEWEST_COMPARED = 3


class Protection(str, Enum):
    """Whether a plan could be restored from, as its RPO asks; the worst first.

    ``unknown``: what there is could not be read. ``unprotected``: no verified backup. ``late``: the last verified
    backup is older than the RPO. ``no rpo``: there is one, and the plan does not say how old it may become.
    """

    UNPROTECTED = "unprotected"
    LATE = "late"
    UNKNOWN = "unknown"
    NO_RPO = "no rpo"
    PROTECTED = "protected"

    @property
    def rank(self) -> int:
        """Sorts the worst first."""
        return list(Protection).index(self)

    @property
    def good(self) -> bool:
        """Whether nobody has to do anything about it."""
        return self in (Protection.PROTECTED, Protection.NO_RPO)


@dataclass(frozen=True)
class Problem:
    """Something of a plan that could not be read, and what to do."""

    message: str
    remedy: str


@dataclass(frozen=True)
class RunningCopy:
    """A copy that has begun and not ended; ``size`` of the cluster in bytes, ``orders`` of people that are in force."""

    backup_id: str
    since: datetime
    size: int
    orders: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenAlert:
    """A condition whose last message did not say that it is over, when that message was sent, and to how many channels
    it could not be."""

    key: str
    title: str
    severity: str
    at: datetime
    undelivered: int = 0


@dataclass(frozen=True)
class Trend:
    """The newest value, and its change against the median of up to ten before it, as a share; None with fewer than
    three. ``recent`` are all of these, the oldest first."""

    newest: float
    change: float | None
    recent: tuple[float, ...] = field(default=(), compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"newest": self.newest, "change": self.change, "recent": list(self.recent)}

    @classmethod
    def of(cls, values: Sequence[float]) -> Trend | None:
        """Of values by time, the oldest first; None if there are none."""
        if not values:
            return None
        recent = tuple(values[-_COMPARED - 1 :])
        *earlier, newest = recent
        usual = median(earlier) if len(earlier) >= _FEWEST_COMPARED else 0.0
        return cls(newest, newest / usual - 1 if usual > 0 else None, recent)


@dataclass(frozen=True)
class PlanStatus:
    """How one plan stands at ``at``. Times are None where there is no such thing; ``reason`` says why it is as
    protected as it is.

    ``known`` is False where nothing of its repository could be read: what is missing then is not known to be missing.
    ``drill`` is the latest of all its backups. ``size`` and ``seconds`` are trends of bytes read from the database and
    of how long that took.
    """

    plan_name: str
    repository: str
    at: datetime
    protection: Protection
    reason: str
    rpo: timedelta | None = None
    rto: timedelta | None = None
    recovery_point: datetime | None = None
    backups: int = 0
    damaged: tuple[str, ...] = ()
    newest: BackupSummary | None = None
    last_verified: BackupSummary | None = None
    drill: DrillResult | None = None
    running: tuple[RunningCopy, ...] = ()
    window: NextWindow | None = None
    alerts: tuple[OpenAlert, ...] = ()
    size: Trend | None = None
    seconds: Trend | None = None
    conflicts: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    known: bool = True

    @property
    def rto_met(self) -> bool | None:
        """Whether the latest drill was as fast as promised; None if that is not known."""
        if self.drill is None or self.rto is None:
            return None
        return self.drill.rto_seconds is not None and self.drill.rto_seconds <= self.rto.total_seconds()

    @property
    def good(self) -> bool:
        """Whether nobody has to do anything: protected, the last drill passed, nothing damaged or unreadable."""
        drilled = self.drill is None or (self.drill.passed and self.rto_met is not False)
        return self.protection.good and drilled and not (self.damaged or self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; sizes in bytes, durations in seconds, changes as shares."""
        newest, verified, drill = self.newest, self.last_verified, self.drill
        return {
            "plan_name": self.plan_name,
            "repository": self.repository,
            "at": self.at.isoformat(),
            "good": self.good,
            "known": self.known,
            "protection": self.protection.value,
            "reason": self.reason,
            "rpo_seconds": self.rpo and self.rpo.total_seconds(),
            "recovery_point": self.recovery_point and self.recovery_point.isoformat(),
            "backups": self.backups,
            "damaged": list(self.damaged),
            "newest": newest
            and {
                "backup_id": newest.backup_id,
                "taken_at": newest.taken_at.isoformat(),
                "verdict": newest.verdict and newest.verdict.value,
            },
            "last_verified": verified
            and {
                "backup_id": verified.backup_id,
                "taken_at": verified.taken_at.isoformat(),
                "verified_at": verified.verified_at and verified.verified_at.isoformat(),
                "level": verified.level and verified.level.value,
            },
            "drill": drill
            and {
                "backup_id": drill.backup_id,
                "ended_at": drill.ended_at.isoformat(),
                "passed": drill.passed,
                "rto_seconds": drill.rto_seconds,
                "target_seconds": self.rto and self.rto.total_seconds(),
                "met": self.rto_met,
                "summary": drill.summary,
            },
            "running": [
                {
                    "backup_id": one.backup_id,
                    "since": one.since.isoformat(),
                    "size": one.size,
                    "orders": list(one.orders),
                }
                for one in self.running
            ],
            "window": self.window and self.window.to_dict(),
            "alerts": [
                {
                    "key": one.key,
                    "title": one.title,
                    "severity": one.severity,
                    "at": one.at.isoformat(),
                    "undelivered": one.undelivered,
                }
                for one in self.alerts
            ],
            "size": self.size and self.size.to_dict(),
            "seconds": self.seconds and self.seconds.to_dict(),
            "conflicts": list(self.conflicts),
            "problems": [{"message": one.message, "remedy": one.remedy} for one in self.problems],
        }


def judge_protection(
    point: datetime | None, rpo: timedelta | None, now: datetime, unreadable: bool = False
) -> tuple[Protection, str]:
    """How protected a plan is whose last verified backup has everything up to ``point``, and why.

    ``unreadable``: records of it could not be read, and might be of a newer or of the only verified backup.
    """
    if point is None:
        if unreadable:
            return Protection.UNKNOWN, "what there is of backups cannot be read"
        return Protection.UNPROTECTED, "there is no verified backup"
    if point > now:
        return Protection.UNKNOWN, "the last verified backup is dated after now, so a clock is wrong"
    age = _rounded(now - point)
    if rpo is None:
        return Protection.NO_RPO, f"the last verified backup is {age} old, and the plan has no RPO"
    told = f"the last verified backup is {age} old, and the RPO is {format_duration(rpo)}"
    if now - point <= rpo:
        return Protection.PROTECTED, told
    if unreadable:
        return Protection.UNKNOWN, f"{told}; what cannot be read may be newer"
    return Protection.LATE, told


def _rounded(age: timedelta) -> str:
    """In whole minutes from an hour on: nobody counts the seconds of a day."""
    return whole_seconds(age if age < timedelta(hours=1) else timedelta(minutes=age // timedelta(minutes=1)))


def last_verified(backups: Iterable[BackupSummary]) -> BackupSummary | None:
    """The newest backup of which every byte was read back and is right."""
    trusted = [one for one in backups if one.verdict is not None and one.verdict.trusted]
    return max(trusted, key=lambda one: (one.taken_at, one.backup_id), default=None)


def open_alerts(deliveries: Iterable[Delivery]) -> tuple[OpenAlert, ...]:
    """The conditions among some messages that no later message has ended, the newest first.

    What has happened and does not pass, such as a backup that failed, has no such message: it stays as long as its own
    is among those that are given.
    """
    by_key: dict[str, list[Delivery]] = {}
    for one in sorted(deliveries, key=lambda one: one.at):
        if one.transition != Transition.TEST.value:
            by_key.setdefault(one.key, []).append(one)
    found = []
    for key, told in by_key.items():
        last = told[-1]
        if last.transition == Transition.OVER.value:
            continue
        since = max((n for n, one in enumerate(told) if one.transition == Transition.OVER.value), default=-1)
        # A channel that did not get one message may have got the next.
        problems = {one.channel: one.problem for one in told[since + 1 :]}
        found.append(OpenAlert(key, last.title, last.severity, last.at, sum(map(bool, problems.values()))))
    return tuple(sorted(found, key=lambda one: (one.at, one.key), reverse=True))


def unknown_status(plan_name: str, repository: str, problem: Problem, at: datetime) -> PlanStatus:
    """Of a plan of which nothing could be read, not even what it promises."""
    return PlanStatus(plan_name, repository, at, Protection.UNKNOWN, problem.message, problems=(problem,), known=False)


def unreachable_status(plan: BackupPlan, problem: Problem, at: datetime) -> PlanStatus:
    """Of a plan whose repository could not be read: its promises and its windows are known all the same."""
    found = unknown_status(plan.name, plan.repository, problem, at)
    return replace(found, rpo=plan.rpo, rto=plan.rto, window=next_window(plan.calendar, at))


def by_urgency(statuses: Iterable[PlanStatus]) -> list[PlanStatus]:
    """The worst first, then those with a problem, then by name."""
    return sorted(statuses, key=lambda one: (one.protection.rank, one.good, one.plan_name))
