"""How loaded a database is: samples, the verdict over them against a plan's limits, and its reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from math import inf
from statistics import median
from typing import Any

from airflow_backup_guard.core.limits import CustomSignal, Limit, LoadLimits, limits_for, times_text
from airflow_backup_guard.core.signals import OF_STANDBYS, SIGNALS, Signal, signal_named

__all__ = [
    "SIGNALS",
    "Assessment",
    "CustomSignal",
    "Finding",
    "Limit",
    "LoadLevel",
    "LoadLimits",
    "LoadSample",
    "Phase",
    "Signal",
    "assess",
    "baseline_of",
    "limits_for",
    "merged",
]


class LoadLevel(str, Enum):
    """What a load means for a backup, from harmless to harmful; unknown is never taken for quiet."""

    NORMAL = "normal"
    HIGH = "high"
    UNKNOWN = "unknown"
    CRITICAL = "critical"

    @property
    def severity(self) -> int:
        """0 for normal up to 3 for critical."""
        return list(LoadLevel).index(self)


class Phase(Enum):
    """Which part of a backup a sample belongs to."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True)
class LoadSample:
    """One measurement: values by signal name, in the signals' units (seconds, bytes, counts, each also per second or
    minute), and why others are missing; ``missing`` is why those are that neither names. ``absent`` are signals that
    such a server does not have, as it is a primary or a standby: no limit holds for them."""

    taken_at: datetime
    values: Mapping[str, float] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    missing: str = "not measured"
    absent: frozenset[str] = OF_STANDBYS

    @property
    def latency(self) -> str:
        """The signal that tells how the source itself feels: ``commit_latency``, or ``read_latency`` of a standby."""
        return "commit_latency" if "read_latency" in self.absent else "read_latency"

    @classmethod
    def failed(cls, taken_at: datetime, reason: str) -> LoadSample:
        """A sample in which nothing could be measured."""
        return cls(taken_at, {}, dict.fromkeys(SIGNALS, reason), reason)

    @classmethod
    def stale(cls, taken_at: datetime, age: timedelta) -> LoadSample:
        """What stands for the last sample, taken at ``taken_at``, once it is too old to say anything."""
        return cls.failed(taken_at, f"stale: the last sample is {age.total_seconds():.1f} s old")


@dataclass(frozen=True)
class Finding:
    """What one signal says: its level, value and limit; ``reason`` tells why its value or its baseline is missing.

    ``limit`` is as the plan has it; ``baseline`` is what a relative one was a multiple of.
    """

    signal: str
    level: LoadLevel
    value: float | None = None
    limit: Limit | None = None
    reason: str = ""
    baseline: float | None = None

    @property
    def threshold(self) -> Limit | None:
        """The limit in the signal's unit; infinite where it takes a baseline and there is none."""
        return self.limit if self.limit is None or self.baseline is None else self.limit.at(self.baseline)

    def __str__(self) -> str:
        signal, limit = signal_named(self.signal), self.threshold
        if self.value is None:
            return f"{signal.title} unknown ({self.reason})"
        if limit is None:
            return f"{signal.title} {signal.show(self.value)} (no limit)"
        value = signal.show(self.value)
        if self.level is LoadLevel.UNKNOWN:
            return f"{signal.title} {value}, limit unknown ({self.reason})"
        critical = self.level is LoadLevel.CRITICAL
        threshold = signal.show(limit.critical if critical else limit.max)
        origin = self._origin(signal, critical)
        if self.level is LoadLevel.NORMAL:
            return f"{signal.title} {value} ≤ {threshold}{origin}"
        sign = "just over" if value == threshold else f"{value} >"
        return f"{signal.title} {sign} {'critical ' if critical else ''}{threshold}{origin}"

    def _origin(self, signal: Signal, critical: bool) -> str:
        times = None if self.limit is None else self.limit.critical_times if critical else self.limit.max_times
        if times is None or self.baseline is None:
            return ""
        return f" ({times_text(times)} of {signal.show(self.baseline)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for XCom, logs and JSON; a limit that is not set or not known is null."""
        plain: dict[str, Any] = {"signal": self.signal, "level": self.level.value, "value": self.value}
        if self.threshold is not None:
            both = {"max": self.threshold.max, "critical": self.threshold.critical}
            plain.update({name: None if value == inf else value for name, value in both.items()})
        if self.baseline is not None:
            plain["baseline"] = self.baseline
        return {**plain, "text": str(self)}


@dataclass(frozen=True)
class Assessment:
    """The verdict over one sample: the worst level, and every signal's finding, the worst first.

    ``sample`` and ``baseline`` are what it is the verdict over.
    """

    level: LoadLevel
    findings: tuple[Finding, ...]
    sample: LoadSample = field(repr=False, compare=False)
    baseline: Mapping[str, float] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        limited = [str(finding) for finding in self.findings if finding.limit is not None]
        return f"load {self.level.value}: {'; '.join(limited)}"

    @property
    def deciding(self) -> Finding:
        """The finding that decided."""
        return self.findings[0]

    def is_below(self, fraction: float) -> bool:
        """True when every limited signal is known and at most ``fraction`` of its ``max``."""
        return all(
            finding.level is not LoadLevel.UNKNOWN
            and finding.value is not None
            and finding.value <= fraction * finding.threshold.max
            for finding in self.findings
            if finding.threshold is not None
        )


def merged(source: LoadSample, load: LoadSample) -> LoadSample:
    """One sample of two servers: what only a standby has is of the ``source``, everything else of the server whose
    ``load`` the limits are about. Of a source that is a primary, too, commits count where they are slower."""
    values = {name: value for name, value in load.values.items() if name not in OF_STANDBYS}
    values.update({name: source.values[name] for name in OF_STANDBYS if name in source.values})
    unavailable = {name: source.unavailable.get(name, source.missing) for name in OF_STANDBYS if name not in values}
    unavailable.update({n: f"load connection: {why}" for n, why in load.unavailable.items() if n not in OF_STANDBYS})
    # A source that did not answer may be a standby: nothing is taken for absent then.
    absent = (load.absent - OF_STANDBYS) | (source.absent & OF_STANDBYS if source.values else frozenset())
    own = source.values.get("commit_latency")
    if own is not None and "commit_latency" in {*load.values, *load.absent}:
        values["commit_latency"] = max(own, load.values.get("commit_latency", own))
        absent -= {"commit_latency"}
    missing = f"load connection: {load.missing}"
    return LoadSample(min(source.taken_at, load.taken_at), values, unavailable, missing, absent)


def assess(sample: LoadSample, limits: LoadLimits, baseline: Mapping[str, float] | None = None) -> Assessment:
    """Hold a sample against what of the limits holds for its server (:func:`~.limits.limits_for`). Any single limited
    signal decides; a missing one is unknown.

    ``baseline`` has values by signal name, in the signals' units. A relative limit whose baseline is missing is
    unknown; one that is below the signal's ``least`` counts as that.
    """
    held = limits_for(limits, sample.absent)
    findings = [_find(sample, name, limit, baseline or {}) for name, limit in held]
    findings.sort(key=lambda finding: (-finding.level.severity, finding.limit is None))
    return Assessment(findings[0].level, tuple(findings), sample, baseline or {})


def baseline_of(samples: Iterable[LoadSample]) -> dict[str, float]:
    """The median of each signal that was measured in any of them: a baseline for :func:`assess`."""
    seen: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.values.items():
            if _possible(value):
                seen.setdefault(name, []).append(value)
    return {name: median(values) for name, values in seen.items()}


def _possible(value: float | None) -> bool:
    return value is not None and 0 <= value < inf


def _find(sample: LoadSample, name: str, limit: Limit | None, baselines: Mapping[str, float]) -> Finding:
    value = sample.values.get(name)
    if value is None or not _possible(value):
        why = sample.unavailable.get(name, sample.missing)
        if value is not None:
            why = f"measured as {value}, which cannot be"
        level = LoadLevel.NORMAL if limit is None else LoadLevel.UNKNOWN
        return Finding(name, level, None, limit, why)
    if limit is None:
        return Finding(name, LoadLevel.NORMAL, value)
    baseline = baselines.get(name) if limit.relative else None
    if limit.relative and not _possible(baseline):
        if value > limit.critical:
            return Finding(name, LoadLevel.CRITICAL, value, limit)
        multiples = " and ".join(times_text(times) for times in (limit.max_times, limit.critical_times) if times)
        return Finding(name, LoadLevel.UNKNOWN, value, limit, f"{multiples} of a baseline that was not measured")
    if baseline is not None:
        baseline = max(baseline, signal_named(name).least)
    finding = Finding(name, LoadLevel.NORMAL, value, limit, "", baseline)
    threshold = finding.threshold or limit
    if value <= threshold.max:
        return finding
    level = LoadLevel.CRITICAL if value > threshold.critical else LoadLevel.HIGH
    return Finding(name, level, value, limit, "", baseline)
