"""When a gate on the live load opens: once the load has been below its limits for long enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_backup_guard.core.load import Assessment, LoadLevel

_LONGEST_GAP = timedelta(seconds=15)
_LOG_SPACING = timedelta(minutes=1)
_CHANGE_SPACING = timedelta(seconds=10)


@dataclass(frozen=True)
class Quiet:
    """Since when every sample was below the limits; ``since`` is None while the load is not."""

    since: datetime | None = None
    sampled_at: datetime | None = None

    def after(self, assessment: Assessment, now: datetime) -> Quiet:
        """The state after one more sample; what happened in a long gap between two samples is unknown, so not quiet.

        Nor is it known how long it was where a clock was set back.
        """
        if assessment.level is not LoadLevel.NORMAL:
            return Quiet(None, now)
        gap = self.sampled_at is not None and not timedelta(0) <= now - self.sampled_at <= _LONGEST_GAP
        return Quiet(now if self.since is None or gap else self.since, now)

    @property
    def lasted(self) -> timedelta:
        """How long it has been quiet, up to the last sample."""
        if self.since is None or self.sampled_at is None:
            return timedelta(0)
        return self.sampled_at - self.since


@dataclass(frozen=True)
class GateReading:
    """What the gate saw, and whether it is open."""

    opened: bool
    assessment: Assessment
    quiet: Quiet
    quiet_for: timedelta

    def __str__(self) -> str:
        lasted = f"quiet for {self.quiet.lasted.total_seconds():.0f} of {self.quiet_for.total_seconds():.0f} s"
        return f"{self.assessment}; {lasted}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for XCom and reports."""
        return {
            "gate": "write load",
            "opened": self.opened,
            "level": self.assessment.level.value,
            "quiet_seconds": self.quiet.lasted.total_seconds(),
            "wanted_seconds": self.quiet_for.total_seconds(),
            "findings": [finding.to_dict() for finding in self.assessment.findings],
            "text": str(self),
        }


@dataclass(frozen=True)
class LogRhythm:
    """When a gate that waits writes a line: at a change of the level, but not within ten seconds of the last; else once
    a minute."""

    written_at: datetime | None = None
    level: LoadLevel | None = None

    def is_due(self, reading: GateReading, now: datetime) -> bool:
        """Whether this reading is worth a line."""
        if self.written_at is None or reading.opened:
            return True
        changed = reading.assessment.level is not self.level
        spacing = _CHANGE_SPACING if changed else _LOG_SPACING
        return not timedelta(0) <= now - self.written_at < spacing

    def after(self, reading: GateReading, now: datetime) -> LogRhythm:
        """The state once it was written."""
        return LogRhythm(now, reading.assessment.level)


def levels_since(
    before: Mapping[str, Any], findings: Iterable[Mapping[str, Any]], now: datetime
) -> dict[str, list[str]]:
    """Each signal's level and since when it is that, as ``[level, ISO time]``; ``before`` is the same of the look
    before."""
    levels = {}
    for found in findings:
        name, level = found["signal"], found["level"]
        known = before.get(name)
        levels[name] = list(known) if known and known[0] == level else [level, now.isoformat(timespec="seconds")]
    return levels
