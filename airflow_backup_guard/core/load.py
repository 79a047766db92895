"""How loaded a database is: samples, the limits a plan sets, and the verdict with its reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import attrs

from airflow_backup_guard.core.units import Rate, format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

_COUNT_RATE = re.compile(r"(\d{1,18}(?:\.\d+)?)\s*/s", re.ASCII)


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


@dataclass(frozen=True)
class Signal:
    """One thing that is measured: its name in plans and logs, and how its values are read and shown."""

    name: str
    title: str
    parse: Callable[[Any, str], float] = field(repr=False, compare=False)
    show: Callable[[float], str] = field(repr=False, compare=False)


def _seconds(value: Any, where: str) -> float:
    return parse_duration(value, where).total_seconds()


def _count_rate(value: Any, where: str) -> float:
    match = _COUNT_RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise InvalidPlan(where, value, 'a number per second, such as "5000/s"')
    return float(match[1])


def _show_seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def _show_count_rate(value: float) -> str:
    return f"{value:.0f}/s"


SIGNALS: Mapping[str, Signal] = {
    signal.name: signal
    for signal in (
        Signal("commit_latency", "commit latency", _seconds, _show_seconds),
        Signal("wal_rate", "WAL written", lambda v, w: float(Rate.parse(v, w)), lambda v: str(Rate(v))),
        Signal("tuple_rate", "tuples written", _count_rate, _show_count_rate),
        Signal("commit_rate", "commits", _count_rate, _show_count_rate),
    )
}


@dataclass(frozen=True)
class LoadSample:
    """One measurement: values by signal name (seconds, bytes/s or counts/s), and why others are missing."""

    taken_at: datetime
    values: Mapping[str, float] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def failed(cls, taken_at: datetime, reason: str) -> LoadSample:
        """A sample in which nothing could be measured."""
        return cls(taken_at, {}, dict.fromkeys(SIGNALS, reason))


@dataclass(frozen=True)
class Limit:
    """Above ``max`` a backup slows down, above ``critical`` it pauses; both in the signal's unit."""

    max: float
    critical: float


def _limit(name: str, value: Any) -> Limit | None:
    if value is None:
        return None
    where = f"limits.{name}"
    pair = value if isinstance(value, tuple | list) else (value,)
    if isinstance(value, Limit):
        try:
            pair = _write_limit(name, value) or ()  # what could not be written would be lost with the record
        except (ArithmeticError, TypeError, ValueError):
            raise InvalidPlan(where, value, "numbers, in the unit of the signal") from None
    if len(pair) not in (1, 2):
        raise InvalidPlan(where, value, "one value (max), or two (max, critical)")
    low = SIGNALS[name].parse(pair[0], where)
    critical = SIGNALS[name].parse(pair[1], where) if len(pair) == 2 else float("inf")
    if not 0 < low <= critical:
        raise InvalidPlan(where, value, "max above zero, and critical not below max")
    return Limit(low, critical)


def _commit_latency(value: Any) -> Limit | None:
    return _limit("commit_latency", value)


def _wal_rate(value: Any) -> Limit | None:
    return _limit("wal_rate", value)


def _tuple_rate(value: Any) -> Limit | None:
    return _limit("tuple_rate", value)


def _commit_rate(value: Any) -> Limit | None:
    return _limit("commit_rate", value)


@attrs.frozen(kw_only=True)
class LoadLimits:
    """What load a plan allows, one limit per signal: ``"20ms"`` or ``("20ms", "100ms")`` for (max, critical).

    ``commit_latency`` takes durations, ``wal_rate`` bytes per second (``"30MB/s"``), ``tuple_rate`` and
    ``commit_rate`` counts per second (``"5000/s"``). None sets no limit. Raises :class:`InvalidPlan`.
    """

    commit_latency: Limit | None = attrs.field(default=Limit(0.025, 0.1), converter=_commit_latency)
    wal_rate: Limit | None = attrs.field(default=None, converter=_wal_rate)
    tuple_rate: Limit | None = attrs.field(default=None, converter=_tuple_rate)
    commit_rate: Limit | None = attrs.field(default=None, converter=_commit_rate)

    def __attrs_post_init__(self) -> None:
        if not any(limit for _, limit in self):
            raise InvalidPlan("limits", "none at all", "a limit for one signal at least")

    def __iter__(self) -> Any:
        """Pairs of signal name and limit (or None), in the order of :data:`SIGNALS`."""
        return ((name, getattr(self, name)) for name in SIGNALS)

    def to_dict(self) -> dict[str, list[str] | None]:
        """Plain values that :meth:`from_dict` reads back without loss."""
        return {name: _write_limit(name, limit) for name, limit in self}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LoadLimits:
        """Read what :meth:`to_dict` wrote, or a table of a plan file."""
        if not isinstance(values, Mapping):
            raise InvalidPlan("limits", values, 'a table, such as {"commit_latency": ["20ms", "100ms"]}')
        unknown = sorted(set(values) - set(SIGNALS))
        if unknown:
            raise InvalidPlan(f"limits.{unknown[0]}", values[unknown[0]], f"limits for {', '.join(SIGNALS)}")
        return cls(**values)


def _write_limit(name: str, limit: Limit | None) -> list[str] | None:
    def write(value: float) -> str:
        if name == "commit_latency":
            return format_duration(timedelta(seconds=value))
        return f"{value:.0f}B/s" if name == "wal_rate" else f"{Decimal(repr(value)):f}".removesuffix(".0") + "/s"

    if limit is None:
        return None
    return [write(value) for value in (limit.max, limit.critical) if value != float("inf")]


@dataclass(frozen=True)
class Finding:
    """What one signal says: its level, value and limit; ``reason`` tells why a value is missing."""

    signal: str
    level: LoadLevel
    value: float | None = None
    limit: Limit | None = None
    reason: str = ""

    def __str__(self) -> str:
        signal = SIGNALS[self.signal]
        if self.value is None:
            return f"{signal.title} unknown ({self.reason})"
        if self.limit is None:
            return f"{signal.title} {signal.show(self.value)} (no limit)"
        value, threshold, name = signal.show(self.value), signal.show(self.limit.max), ""
        if self.level is LoadLevel.NORMAL:
            return f"{signal.title} {value} ≤ {threshold}"
        if self.level is LoadLevel.CRITICAL:
            threshold, name = signal.show(self.limit.critical), "critical "
        sign = "just over" if value == threshold else f"{value} >"
        return f"{signal.title} {sign} {name}{threshold}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for XCom, logs and JSON."""
        limits = {} if self.limit is None else {"max": self.limit.max, "critical": self.limit.critical}
        if limits.get("critical") == float("inf"):
            limits["critical"] = None  # type: ignore[assignment]  # JSON has no infinity
        return {
            "signal": self.signal,
            "level": self.level.value,
            "value": self.value,
            **limits,
            "text": str(self),
        }


@dataclass(frozen=True)
class Assessment:
    """The verdict over one sample: the worst level, and every signal's finding, the worst first."""

    level: LoadLevel
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        return f"load {self.level.value}: {'; '.join(map(str, self.findings))}"

    @property
    def deciding(self) -> Finding:
        """The finding that decided."""
        return self.findings[0]

    def is_below(self, fraction: float) -> bool:
        """True when every limited signal is known and at most ``fraction`` of its ``max``."""
        return all(
            finding.value is not None and finding.value <= fraction * finding.limit.max
            for finding in self.findings
            if finding.limit is not None
        )


def assess(sample: LoadSample, limits: LoadLimits) -> Assessment:
    """Hold a sample against limits. Any single limited signal decides; a missing one is unknown."""
    findings = [_find(sample, name, limit) for name, limit in limits]
    findings.sort(key=lambda finding: (-finding.level.severity, finding.limit is None))
    return Assessment(findings[0].level, tuple(findings))


def _find(sample: LoadSample, name: str, limit: Limit | None) -> Finding:
    value = sample.values.get(name)
    if value is None or not 0 <= value < float("inf"):
        why = sample.unavailable.get(name, "not measured") if value is None else f"measured as {value}, which cannot be"
        level = LoadLevel.NORMAL if limit is None else LoadLevel.UNKNOWN
        return Finding(name, level, None, limit, why)
    if limit is None or value <= limit.max:
        return Finding(name, LoadLevel.NORMAL, value, limit)
    return Finding(name, LoadLevel.CRITICAL if value > limit.critical else LoadLevel.HIGH, value, limit)
