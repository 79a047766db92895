"""How a command that cannot be told to read more slowly is slowed down: it runs for a share of the time only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.core.units import Rate, format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

# Short enough that what a slice sets in motion is over before an application feels a queue.
_PERIOD_SECONDS = 0.2
# Less than this, and the stopping and waking costs more than what gets done.
_LEAST_RUN_SECONDS = 0.02
# Enough for a client to answer what its server asked meanwhile.
_SLIVER_SECONDS = 0.1
_SHORTEST_STOP, _LONGEST_STOP = timedelta(milliseconds=100), timedelta(minutes=1)


@dataclass(frozen=True)
class Slices:
    """For how long a command runs, and then stands still, in turn; in seconds. It never stands if ``stop`` is 0."""

    run: float
    stop: float


def share_of(pace: Pace, full: Rate) -> float:
    """The share of time, above 0 and up to 1, that a pace allows; ``full`` is the rate that stands for all of it."""
    return min(pace.rate / full, 1.0)


def slices(share: float, state: PaceState, max_stop: float) -> Slices:
    """The slices that make up this share of time; no stop is longer than ``max_stop`` seconds.

    A paused command stands for as long as it may, and runs for a sliver in between, so that its connections live.
    Where a share would need longer stops, the command runs for more than its share.
    """
    if state is PaceState.PAUSED:
        return Slices(_SLIVER_SECONDS, max_stop)
    if share >= 1:
        return Slices(_PERIOD_SECONDS, 0.0)
    run = max(share * _PERIOD_SECONDS, _LEAST_RUN_SECONDS)
    return Slices(run, min(run * (1 - share) / share, max_stop))


def parse_max_stop(value: str | timedelta) -> timedelta:
    """Read the longest time that a command may stand still, from 100 ms to a minute; raises :class:`InvalidPlan`."""
    longest = parse_duration(value, "max_stop")
    if not _SHORTEST_STOP <= longest <= _LONGEST_STOP:
        raise InvalidPlan(
            "max_stop",
            value if isinstance(value, str) else format_duration(value),
            "a duration from 100ms to 1min: for longer, and servers cut off the connections of the command",
        )
    return longest
