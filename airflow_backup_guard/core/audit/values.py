"""What an audit is made of: facts with time and source, judgements of them, and findings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timezone
from enum import Enum
from typing import Any, Generic, TypeAlias, TypeVar

from airflow_backup_guard.core.alert_rules import Severity

T = TypeVar("T")


@dataclass(frozen=True)
class Known(Generic[T]):
    """Something that was found out at a time, and from what."""

    value: T
    at: datetime
    source: str


@dataclass(frozen=True)
class Unknown:
    """Something that could not be found out, and why; never taken for good."""

    reason: str
    at: datetime
    source: str


@dataclass(frozen=True)
class Absent:
    """Something that there is not here, and why: a folder has no public access."""

    reason: str
    at: datetime
    source: str


Fact: TypeAlias = Known[T] | Unknown | Absent


class Verdict(str, Enum):
    """``unknown`` is not a pass; ``not applicable`` means that there is nothing to look at."""

    PASS = "pass"  # noqa: S105  # no password
    FAIL = "fail"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not applicable"

    @property
    def is_open(self) -> bool:
        """Whether somebody has to do something about it."""
        return self in (Verdict.FAIL, Verdict.UNKNOWN)


@dataclass(frozen=True)
class Evidence:
    """One thing that was seen, when, and where it can be seen again."""

    said: str
    at: datetime
    source: str


@dataclass(frozen=True)
class Judgement:
    """What a check makes of its fact. Without ``evidence`` the sentence itself is that of the fact."""

    verdict: Verdict
    said: str
    evidence: tuple[Evidence, ...] = ()


def passes(said: str, *evidence: Evidence) -> Judgement:
    """A judgement that it is well."""
    return Judgement(Verdict.PASS, said, evidence)


def fails(said: str, *evidence: Evidence) -> Judgement:
    """A judgement that it is not."""
    return Judgement(Verdict.FAIL, said, evidence)


def unknown(said: str, *evidence: Evidence) -> Judgement:
    """A judgement that the evidence is not enough."""
    return Judgement(Verdict.UNKNOWN, said, evidence)


def not_applicable(said: str, *evidence: Evidence) -> Judgement:
    """A judgement that there is nothing to look at."""
    return Judgement(Verdict.NOT_APPLICABLE, said, evidence)


class Change(str, Enum):
    """How a finding compares with that of the last audit."""

    NEW = "new"
    FIXED = "fixed"
    STILL_OPEN = "still open"


@dataclass(frozen=True)
class AcceptedRisk:
    """Somebody's word that an open finding is known and taken, to the end of the day ``until``.

    ``plan`` is the plan that it is about; of every plan if that is None.
    """

    check: str
    owner: str
    until: date
    reason: str
    plan: str | None = None

    def covers(self, check: str, plan: str) -> bool:
        """Whether it is about this check of this plan."""
        return self.check == check and self.plan in (None, plan)

    def is_over(self, today: date) -> bool:
        """Whether its last day is past."""
        return self.until < today

    def __str__(self) -> str:
        return f"{self.owner}, until {self.until:%Y-%m-%d}: {self.reason}"


@dataclass(frozen=True)
class Finding:
    """What one check found. It stands alone: what the check is about is in it, as releases may word it anew.

    ``accepted`` is the risk that covers it while it is open; ``expired`` one that did and is over.
    """

    check: str
    title: str
    protects: str
    severity: Severity
    verdict: Verdict
    said: str
    evidence: tuple[Evidence, ...]
    remedy: str
    change: Change | None = None
    accepted: AcceptedRisk | None = None
    expired: AcceptedRisk | None = None

    @property
    def is_problem(self) -> bool:
        """Whether it is open, and nobody has accepted it."""
        return self.verdict.is_open and self.accepted is None


def fact_problem(fact: Fact[Any]) -> Judgement | None:
    """The judgement where there is no value to judge; None where there is one."""
    match fact:
        case Unknown():
            return unknown(fact.reason)
        case Absent():
            return not_applicable(fact.reason)
    return None


def moment(when: datetime | None) -> str:
    """``2026-11-23 09:00 UTC``, as reports have it."""
    return "no known time" if when is None else f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
