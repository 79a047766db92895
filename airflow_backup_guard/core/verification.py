"""What a verification found: a state per object, named checks, and a verdict that is never a bare boolean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from airflow_backup_guard.core.check import Check, CheckStatus


class ObjectState(str, Enum):
    """``ok``, or how an object differs from what its record says.

    ``missing``; ``resized`` (another size); ``changed`` (same size, other bytes); ``inconsistent`` (the bytes that
    were written, but not what PostgreSQL's manifest promises); ``locked`` (bytes right, content encrypted
    and no identity given); ``unreadable`` (the repository did not deliver it, so nothing is known).
    """

    OK = "ok"
    MISSING = "missing"
    RESIZED = "resized"
    CHANGED = "changed"
    INCONSISTENT = "inconsistent"
    LOCKED = "locked"
    UNREADABLE = "unreadable"


class Verdict(str, Enum):
    """How far a backup can be trusted.

    ``verified``: every byte is as it was written, and every file as PostgreSQL's manifest says. ``readable``: every
    byte is as it was written, but encrypted, and no identity was given to look inside. ``damaged``: do not rely
    on it. ``unknown``: something could not be looked at, which is no pass.
    """

    VERIFIED = "verified"
    READABLE = "readable"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"

    @property
    def trusted(self) -> bool:
        """Whether every byte was read back, and is as it was written."""
        return self in (Verdict.VERIFIED, Verdict.READABLE)


@dataclass(frozen=True)
class ObjectVerdict:
    """One stored object's state; ``detail`` is empty when it is ``ok``."""

    key: str
    state: ObjectState
    detail: str = ""


@dataclass(frozen=True)
class Verification:
    """One reading of one backup; ``bytes_read`` as stored, ``files`` found right against the manifest."""

    format: int
    backup_id: str
    verdict: Verdict
    verified_at: datetime
    seconds: float
    bytes_read: int
    files: int
    objects: tuple[ObjectVerdict, ...]
    checks: tuple[Check, ...]

    @property
    def problems(self) -> list[str]:
        """One line for each thing that is not right."""
        return [f"{o.key}: {o.state.value}, {o.detail}" for o in self.objects if o.state is not ObjectState.OK] + [
            str(check) for check in self.checks if check.status is not CheckStatus.OK
        ]


def judge(objects: Sequence[ObjectVerdict], checks: Sequence[Check]) -> Verdict:
    """Damaged if anything is known to be wrong; else unknown if anything, or all, was not looked at."""
    states = {verdict.state for verdict in objects}
    answers = {check.status for check in checks}
    if states - {ObjectState.OK, ObjectState.LOCKED, ObjectState.UNREADABLE} or CheckStatus.FAILED in answers:
        return Verdict.DAMAGED
    if ObjectState.UNREADABLE in states or not states:
        return Verdict.UNKNOWN
    if ObjectState.LOCKED in states:
        return Verdict.READABLE
    return Verdict.UNKNOWN if CheckStatus.UNKNOWN in answers else Verdict.VERIFIED
