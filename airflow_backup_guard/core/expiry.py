"""What an expiry of one plan's backups comes to: what is kept, what goes, and what others have left behind.

Key below a repository's root::

    expiring/<plan>/<backup_id>.json       there from before a backup's record is removed until the last of it is
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from airflow_backup_guard.core.backup import Snapshot
from airflow_backup_guard.core.catalog import BackupSummary, Unreadable
from airflow_backup_guard.core.retention import Decision, RetentionPolicy
from airflow_backup_guard.core.units import Size

EXPIRING = "expiring/"
"""Where the marks of all plans lie."""


def expiring_prefix(plan: str) -> str:
    """Where the marks of a plan lie."""
    return f"{EXPIRING}{plan}/"


def expiring_key(plan: str, backup_id: str) -> str:
    """Where the mark of one backup lies."""
    return f"{EXPIRING}{plan}/{backup_id}.json"


@dataclass(frozen=True)
class Expiring:
    """The mark of a backup that is being removed, and since when."""

    format: int
    at: datetime


@dataclass(frozen=True)
class LeftOver:
    """Objects that belong to no backup: ``size`` in bytes, and ``unfinished`` more that were never whole.

    ``snapshot`` is that of its attempt. What is not ``known`` to be without use stays, as it may be a backup that has
    lost its record.
    """

    backup_id: str
    why: str
    objects: int
    size: int
    unfinished: int
    known: bool = True
    snapshot: Snapshot | None = None

    def __str__(self) -> str:
        what = [f"{self.objects} objects, {Size(self.size)}"] if self.objects else []
        what += [f"{self.unfinished} unfinished"] if self.unfinished else []
        return f"{self.why}: {', '.join(what) or 'nothing stored'}"


@dataclass(frozen=True)
class Failure:
    """What could not be removed, and why."""

    backup_id: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Expiry:
    """One look at a plan's backups, and, if it is ``done``, what became of it."""

    plan_name: str
    policy: RetentionPolicy
    tz: str
    decisions: tuple[Decision, ...]
    left_over: tuple[LeftOver, ...]
    unreadable: tuple[Unreadable, ...]
    failures: tuple[Failure, ...] = ()
    done: bool = False
    stale: tuple[str, ...] = field(default=(), repr=False)  # marks on backups that are kept

    @property
    def kept(self) -> list[Decision]:
        """The backups that stay, the oldest first."""
        return [one for one in self.decisions if one.keep]

    @property
    def expired(self) -> list[Decision]:
        """The backups that go, or went."""
        return [one for one in self.decisions if not one.keep]

    @property
    def swept(self) -> list[LeftOver]:
        """What is left over and goes, or went."""
        return [one for one in self.left_over if one.known]

    @property
    def freed(self) -> int:
        """Bytes that this makes free; in a bucket with versions, only once its lifecycle rules remove old ones."""
        return sum(one.backup.stored_size for one in self.expired) + sum(one.size for one in self.swept)

    def after(self, changes: Mapping[str, Decision], failures: Mapping[str, Failure]) -> Expiry:
        """What it came to: some are kept after all, of some not all could be removed."""
        return replace(
            self,
            decisions=tuple(changes.get(one.backup.backup_id, one) for one in self.decisions),
            failures=tuple(failures.values()),
            done=True,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for XCom and ``--json``; sizes in bytes."""
        return {
            "plan_name": self.plan_name,
            "retention": self.policy.to_dict(),
            "tz": self.tz,
            "done": self.done,
            "freed": self.freed,
            "backups": [_decided(one.backup, one) for one in self.decisions],
            "left_over": [
                {
                    "backup_id": one.backup_id,
                    "action": "sweep" if one.known else "keep",
                    "reason": one.why,
                    "objects": one.objects,
                    "size": one.size,
                    "unfinished": one.unfinished,
                }
                for one in self.left_over
            ],
            "unreadable": [{"key": one.key, "message": one.message, "remedy": one.remedy} for one in self.unreadable],
            "failures": [
                {"backup_id": one.backup_id, "message": one.message, "remedy": one.remedy} for one in self.failures
            ],
        }


def _decided(backup: BackupSummary, decision: Decision) -> dict[str, Any]:
    return {
        "backup_id": backup.backup_id,
        "taken_at": backup.taken_at.isoformat(),
        "stored_size": backup.stored_size,
        "verdict": backup.verdict.value if backup.verdict else None,
        "action": "keep" if decision.keep else "expire",
        "reasons": list(decision.reasons),
    }
