"""What is measured of a database's load: the signals, how their values are read, written and shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from airflow_backup_guard.core.units import Rate, Size, format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

_NUMBER = r"(\d{1,18}(?:\.\d+)?)"


@dataclass(frozen=True)
class Unit:
    """How the values of a signal are read from a plan, written so that nothing is lost, and shown to people."""

    parse: Callable[[Any, str], float]
    write: Callable[[float], str]
    show: Callable[[float], str]


def _decimal(value: float) -> str:
    return f"{Decimal(repr(float(value))):f}".removesuffix(".0")


def _count(suffix: str, allowed: str) -> Unit:
    pattern = re.compile(_NUMBER + (rf"\s*{suffix}" if suffix else ""), re.ASCII)

    def parse(value: Any, where: str) -> float:
        bare = not suffix and isinstance(value, int | float) and not isinstance(value, bool)
        text = _decimal(value) if bare else value
        match = pattern.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise InvalidPlan(where, value, allowed)
        return float(match[1])

    def show(value: float) -> str:
        rounded = f"{value:.0f}" if suffix and suffix != "/min" else f"{value:.1f}".removesuffix(".0")
        return rounded + suffix

    return Unit(parse, lambda value: _decimal(value) + suffix, show)


def _show_seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


DURATION = Unit(
    lambda value, where: parse_duration(value, where).total_seconds(),
    lambda value: format_duration(timedelta(seconds=value)),
    _show_seconds,
)
SIZE = Unit(lambda v, where: float(Size.parse(v, where)), lambda v: f"{v:.0f}B", lambda v: str(Size(v)))
BYTE_RATE = Unit(lambda v, where: float(Rate.parse(v, where)), lambda v: f"{v:.0f}B/s", lambda v: str(Rate(v)))
PER_SECOND = _count("/s", 'a number per second, such as "5000/s"')
PER_MINUTE = _count("/min", 'a number per minute, such as "2/min"')
COUNT = _count("", 'a number, such as "8"')


@dataclass(frozen=True)
class Signal:
    """One thing that is measured, on PostgreSQL 15 and newer.

    ``least`` is the smallest baseline, in the signal's unit, that a relative limit is a multiple of: three times next
    to nothing is still nothing that anybody feels. ``needs`` is what the server must grant or have switched on, beside
    what any role may see.
    """

    name: str
    title: str
    unit: Unit = field(repr=False, compare=False)
    least: float = field(compare=False)
    needs: str = field(default="", compare=False)

    def show(self, value: float) -> str:
        """A value with its unit, for people."""
        return self.unit.show(value)


SIGNALS: Mapping[str, Signal] = {
    signal.name: signal
    for signal in (
        Signal("commit_latency", "commit latency", DURATION, 0.0005),
        Signal("wal_rate", "WAL written", BYTE_RATE, 1e6),
        Signal("tuple_rate", "tuples written", PER_SECOND, 100, "track_counts"),
        Signal("commit_rate", "commits", PER_SECOND, 10, "track_counts"),
        Signal("transaction_wal", "WAL per transaction", SIZE, 1e4, "track_counts"),
        Signal("full_page_images", "full-page images", PER_SECOND, 100),
        Signal("requested_checkpoints", "requested checkpoints", PER_MINUTE, 1),
        Signal("replication_lag", "replication lag", SIZE, 16e6, "pg_monitor"),
        Signal("retained_wal", "WAL retained by a slot", SIZE, 64e6),
        Signal("io_waits", "sessions waiting for I/O", COUNT, 1, "pg_monitor"),
        Signal("lock_waits", "sessions waiting for a lock", COUNT, 1, "pg_monitor"),
        Signal("block_read_time", "time to read a block", DURATION, 0.0001, "track_io_timing"),
        Signal("active_sessions", "active sessions", COUNT, 4, "pg_monitor"),
        Signal("read_latency", "read latency", DURATION, 0.0005),
        Signal("replay_lag", "replay lag", DURATION, 1.0),
    )
}

OF_STANDBYS = frozenset({"read_latency", "replay_lag"})
"""The signals that only a standby has."""

OF_PRIMARIES = frozenset(
    {"commit_latency", "tuple_rate", "transaction_wal", "full_page_images", "requested_checkpoints"}
)
"""The signals that only a primary has."""

CUSTOM = "custom."
"""How the names of a plan's own signals begin, so that they never meet one of ours, or one of ours to come."""


def signal_named(name: str) -> Signal:
    """One of :data:`SIGNALS`, or a plan's own ``custom.<title>``."""
    return SIGNALS.get(name) or Signal(name, name.removeprefix(CUSTOM), COUNT, 1)
