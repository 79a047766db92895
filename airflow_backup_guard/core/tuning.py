"""Limits for a plan, proposed from what was seen of its database."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor, isfinite, log10
from typing import Any

from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.core.signals import SIGNALS, signal_named

# What applications feel (commits, on a standby reads), what standbys and archives feel (WAL and lag). The other signals
# say why a database is slow rather than that it is: a limit on them is for those who know why they need one.
_PROPOSED = ("commit_latency", "wal_rate", "replication_lag", "read_latency", "replay_lag")
# A limit that the database reaches by itself would keep backups away for nothing.
_MAX_TIMES, _CRITICAL_TIMES = 2.0, 4.0
# Below that, a limit would stop backups for what nobody feels; in the signals' units.
_LEAST = {"commit_latency": 0.005, "wal_rate": 5e6, "replication_lag": 64e6, "read_latency": 0.005, "replay_lag": 30.0}
_STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_FEWEST_SAMPLES = 600


@dataclass(frozen=True)
class Seen:
    """What one signal was over ``samples`` measurements: median, 99th percentile and highest, in its unit."""

    signal: str
    samples: int
    p50: float
    p99: float
    highest: float


@dataclass(frozen=True)
class Proposal:
    """``limits`` as a plan takes them, from :class:`Seen` of each signal; ``missing`` is why others were not seen."""

    seen: tuple[Seen, ...]
    limits: dict[str, tuple[str, str]]
    missing: dict[str, str]
    samples: int

    @property
    def is_guess(self) -> bool:
        """Whether ten minutes have not been seen, so that it says next to nothing about busy hours."""
        return self.samples < _FEWEST_SAMPLES

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "samples": self.samples,
            "is_guess": self.is_guess,
            "seen": [vars(seen) for seen in self.seen],
            "limits": {name: list(pair) for name, pair in self.limits.items()},
            "missing": self.missing,
        }


@dataclass
class Observations:
    """Collects samples, eight bytes for each value; a day of them is 9 MB."""

    samples: int = 0
    _values: dict[str, array[float]] = field(default_factory=dict)
    _missing: dict[str, str] = field(default_factory=dict)

    def add(self, sample: LoadSample) -> None:
        """One more sample."""
        self.samples += 1
        for name, value in sample.values.items():
            if isfinite(value) and value >= 0:
                self._values.setdefault(name, array("d")).append(value)
        self._missing.update(sample.unavailable)

    def propose(self) -> Proposal:
        """Limits well above what was seen: twice the 99th percentile to slow down, four times that to pause."""
        seen = tuple(_seen(name, self._values[name]) for name in SIGNALS if name in self._values)
        limits = {one.signal: _limits(one) for one in seen if one.signal in _PROPOSED}
        missing = {name: reason for name, reason in self._missing.items() if name not in self._values}
        return Proposal(seen, limits, missing, self.samples)


def toml(limits: Mapping[str, tuple[str, str]]) -> str:
    """The table for a plan file."""
    return "\n".join(["[limits]", *(f'{name} = ["{low}", "{critical}"]' for name, (low, critical) in limits.items())])


def _seen(name: str, values: array[float]) -> Seen:
    ordered = sorted(values)
    rank = (99 * len(ordered) - 1) // 100
    return Seen(name, len(ordered), ordered[(len(ordered) - 1) // 2], ordered[rank], ordered[-1])


def _limits(seen: Seen) -> tuple[str, str]:
    low = _round_up(max(_MAX_TIMES * seen.p99, _LEAST[seen.signal]))
    unit = signal_named(seen.signal).unit
    return unit.write(low), unit.write(_round_up(_CRITICAL_TIMES * low))


def _round_up(value: float) -> float:
    """To a number that people write: 1, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten."""
    power = 10.0 ** floor(log10(value))
    return next(float(f"{step * power:.6g}") for step in _STEPS if step * power >= value * (1 - 1e-9))
