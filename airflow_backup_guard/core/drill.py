"""What a restore drill found: how long each stage took, each check with its evidence, and whether it passed.

Key below a repository's root::

    drills/<plan>/<backup_id>.json         the latest drill of one backup
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.drill_policy import DrillCheck
from airflow_backup_guard.core.units import format_duration, whole_seconds

DRILLS = "drills/"
"""Where the latest drills of all plans lie."""


def drill_key(plan: str, backup_id: str) -> str:
    """Where the latest drill of one backup lies."""
    return f"{DRILLS}{plan}/{backup_id}.json"


@dataclass(frozen=True)
class Stage:
    """``restore`` (bytes onto the disk), ``recovery`` (start of the server until it is consistent and answers) or
    ``checks``, with how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class DrillResult:
    """One drill of one backup; times in seconds.

    ``rto_seconds`` is what restore and recovery took, None if the server never answered. ``rpo_seconds`` is how old the
    backup's snapshot was when the drill began: what a disaster at that moment would have cost. ``server`` is the
    PostgreSQL that it was started with.
    """

    format: int
    plan_name: str
    backup_id: str
    started_at: datetime
    ended_at: datetime
    server: str
    stages: tuple[Stage, ...]
    rto_seconds: float | None
    rpo_seconds: float
    checks: tuple[Check, ...]
    passed: bool

    @property
    def problems(self) -> list[str]:
        """One line for each check that did not pass."""
        return [str(check) for check in self.checks if not _is_good(check)]

    @property
    def summary(self) -> str:
        """One sentence, for logs, reports and evidence."""
        if not self.passed:
            wrong = "; ".join(f"{check.name}: {check.detail}" for check in self.checks if not _is_good(check))
            return f"The drill failed: {wrong}"
        count = sum(check.status is CheckStatus.OK for check in self.checks)
        took = whole_seconds(timedelta(seconds=self.rto_seconds or 0), least=1)
        return f"{self.server} ran on it {took} after the drill began, and {count} checks passed"


def passed(checks: Sequence[Check]) -> bool:
    """Whether a drill with these checks is one that passed: nothing failed, nothing that was asked is unknown."""
    return bool(checks) and all(map(_is_good, checks))


def _is_good(check: Check) -> bool:
    return check.status in (CheckStatus.OK, CheckStatus.WARNING)


def judge_rto(seconds: float, rto: timedelta | None, limited: str = "") -> Check | None:
    """Achieved RTO against the plan's, if it has one; ``limited`` says what held the drill back."""
    if rto is None:
        return None
    found = f"restored and answering after {_seconds(seconds)}, and the RTO is {format_duration(rto)}{limited}."
    if seconds <= rto.total_seconds():
        return Check("rto", CheckStatus.OK, found)
    remedy = "Restore from nearer or faster storage, or take backups more often so that less WAL is replayed."
    return Check("rto", CheckStatus.FAILED, found, remedy)


def judge_rpo(seconds: float, rpo: timedelta | None, newest: bool) -> Check | None:
    """Achieved RPO against the plan's, if it has one; a backup that is not the ``newest`` need not be young."""
    if rpo is None:
        return None
    found = f"the backup was {_seconds(seconds)} old, and the RPO is {format_duration(rpo)}"
    if seconds <= rpo.total_seconds():
        return Check("rpo", CheckStatus.OK, f"{found}.")
    if not newest:
        return Check("rpo", CheckStatus.OK, f"{found}; there is a newer one to restore.")
    return Check("rpo", CheckStatus.FAILED, f"{found}.", "See why there is no newer backup.")


def judge_value(name: str, check: DrillCheck, value: object, taken_at: datetime) -> Check:
    """What a query of the plan's own gave, against its limit; ages are those at ``taken_at``, the backup's snapshot."""
    good, found = _judge(check, value, taken_at)
    return Check(f"sql {name}", CheckStatus.OK if good else CheckStatus.FAILED, f"{found}.")


def _judge(check: DrillCheck, value: object, taken_at: datetime) -> tuple[bool, str]:
    if value is None:
        return False, "the query gave NULL"
    if check.max_age is not None:
        moment = _moment(value)
        if moment is None:
            return False, f"the query gave {_short(value)}, which is no time, and max_age needs one"
        age = taken_at - moment
        text = f"{moment:%Y-%m-%d %H:%M:%S} UTC, {_seconds(age.total_seconds())} before the backup's snapshot"
        return age <= check.max_age, f"{text}, {format_duration(check.max_age)} allowed"
    if isinstance(value, bool):
        if check.min is None:
            return value, "true" if value else "false"
        return False, f"the query gave {str(value).lower()}, which is no number, and min needs one"
    if not isinstance(value, int | float | Decimal):
        return False, f"the query gave {_short(value)}: give min or max_age, or have it give a boolean"
    if check.min is None:
        return False, f"{value}: without min only a boolean can be judged"
    good = not math.isnan(value) and value >= check.min
    return good, f"{value}, {check.min:g} at least wanted" if good else f"{value} is less than {check.min:g}"


def _moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    return None


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if abs(seconds) < 60 else whole_seconds(timedelta(seconds=seconds))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
