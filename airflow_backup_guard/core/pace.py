"""How fast a copy may read: the control law that turns load into a rate, and the bucket that holds to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from airflow_backup_guard.core.load import Assessment, LoadLevel
from airflow_backup_guard.core.units import Rate

# Commits may take this many times what they take without the copy. The law steers towards it from both sides, so this
# is what an application feels of a backup that would go faster if it could.
TARGET_STRAIN = 1.15
# Additive rise and multiplicative fall, in proportion to the distance from the target, as in LEDBAT (RFC 6817). A rise
# is a tenth of the rate, and at first the floor once more. It must not depend on the ceiling: a plan that allows much
# would rise in leaps, and be far above what the database bears before that shows.
_RISE = 0.1
_LEAST_RISE = 1.0
# The most that one second takes away.
_FALL = 0.5
# Strain that is this far above the target takes the whole fall. It is wider than the way from 1 to the target, or the
# noise of a few dozen commits would hold back a copy that nobody feels.
_FULL_FALL = 0.3
# A copy that does not use what it may has nothing to learn from being allowed more.
_USED = 0.9
# Resuming below 0.7 of the limit, not at it, keeps a load that sits at the limit from flapping.
_RELIEF = 0.7
_CALM_SAMPLES = 3
# What a reader saves before it goes on, in bytes; more would come as a burst.
_MOST_SAVED = 1 << 19


class PaceState(str, Enum):
    """``running`` at the plan's rate, ``throttled`` below it, or ``paused``: only the trickle at the floor."""

    RUNNING = "running"
    THROTTLED = "throttled"
    PAUSED = "paused"


@dataclass(frozen=True)
class Pace:
    """A decision and all the state the next one needs; ``rate`` lies between ``floor`` and ``ceiling``."""

    floor: Rate
    ceiling: Rate
    rate: Rate
    state: PaceState
    reason: str
    calm_samples: int = 0

    @classmethod
    def start(cls, floor: Rate, ceiling: Rate) -> Pace:
        """Before the first sample nothing is known, so the copy starts at its floor."""
        return cls(floor, ceiling, floor, PaceState.THROTTLED, "it starts at its floor")


def decide(
    pace: Pace,
    assessment: Assessment,
    *,
    strain: float | None = 1.0,
    strain_rate: float | None = None,
    used: float = 1.0,
    required: Rate | None = None,
) -> Pace:
    """The pace for the next second.

    Limits first: critical load pauses at once; unknown load falls to the floor at once; high load halves the rate. A
    paused copy resumes, from the floor, after three decisions in a row in which every signal is below 0.7 of its limit.

    Within the limits the rate follows ``strain``, what commits (of a standby, reads) take now as a multiple of what
    they take without the copy: it rises by up to a tenth while strain is below :data:`TARGET_STRAIN`, and falls by up
    to a half above it. A mean of seconds is late, so a fall ends where strain would be on target if it were in
    proportion to ``strain_rate``, what was allowed in the mean while it was measured (the present rate, if None). The
    rate does not rise while strain is not known (None), or when less than nine tenths of what was allowed since the
    last decision were ``used``.

    ``required`` is the rate that a plan puts before the load: unless that is critical or unknown, or the copy paused,
    the rate does not stay below it (nor does it exceed the ceiling for it).
    """
    law = _within_limits(pace, assessment) or _follow_strain(pace, strain, strain_rate, used)
    wanted = min(required or pace.floor, pace.ceiling)
    if wanted <= law.rate or law.state is PaceState.PAUSED or assessment.level is LoadLevel.UNKNOWN:
        return law
    reason = f"its window comes first, and it takes {wanted} to be done within it; else: {law.reason}"
    return replace(law, rate=Rate(wanted), state=PaceState.THROTTLED, reason=reason)


def _within_limits(pace: Pace, assessment: Assessment) -> Pace | None:
    """What the limits ask for; None if they leave it to the strain."""
    reason = str(assessment.deciding)
    if assessment.level is LoadLevel.CRITICAL:
        return replace(pace, rate=pace.floor, state=PaceState.PAUSED, reason=reason, calm_samples=0)
    if pace.state is PaceState.PAUSED:
        calm = pace.calm_samples + 1 if assessment.is_below(_RELIEF) else 0
        if calm < _CALM_SAMPLES:
            # Load between relief and its limit keeps the copy paused, but what harmed last is the reason for it.
            harmed = assessment.level is not LoadLevel.NORMAL
            return replace(pace, calm_samples=calm, reason=reason if harmed else pace.reason)
        return replace(pace, state=PaceState.THROTTLED, reason="load is low again", calm_samples=0)
    if assessment.level is LoadLevel.UNKNOWN:
        return replace(pace, rate=pace.floor, state=PaceState.THROTTLED, reason=reason)
    if assessment.level is LoadLevel.HIGH:
        rate = Rate(max(pace.floor, pace.rate * _FALL))
        return replace(pace, rate=rate, state=PaceState.THROTTLED, reason=reason)
    return None


def _follow_strain(pace: Pace, strain: float | None, strain_rate: float | None, used: float) -> Pace:
    error = 0.0 if strain is None else TARGET_STRAIN - strain
    if strain is not None and error < 0:
        fallen = pace.rate * (1 - _FALL * min(-error / _FULL_FALL, 1.0))
        on_target = (pace.rate if strain_rate is None else strain_rate) * (TARGET_STRAIN - 1) / (strain - 1)
        rate = Rate(max(pace.floor, min(pace.rate, max(fallen, on_target))))
        reason = f"latency is {strain:.2f} times what it is without the copy, above {TARGET_STRAIN}"
        return replace(pace, rate=rate, state=PaceState.THROTTLED, reason=reason)
    step = max(_RISE * pace.rate, _LEAST_RISE * pace.floor)
    rate = Rate(min(pace.ceiling, pace.rate + (step * min(error / (TARGET_STRAIN - 1), 1.0) if used >= _USED else 0.0)))
    if rate == pace.ceiling:
        return replace(pace, rate=rate, state=PaceState.RUNNING, reason="load is within limits")
    # The reason stays that of the fall: it is why the copy is still below its rate.
    return replace(pace, rate=rate, state=PaceState.THROTTLED)


class TokenBucket:
    """Allows ``rate`` bytes per second; times in seconds of any monotonic clock, passed in.

    Bytes are taken after they were read, so the balance may be negative: the reader then owes a wait. It lasts until
    ``quantum`` seconds' worth is saved again, or half a megabyte: each wait costs the database's host a change of
    process, and many short ones hurt an application beside it more than the bytes do. What is not used is kept for
    ``burst`` seconds only, enough to make up for a sleep that ended late.
    """

    def __init__(self, rate: float, now: float, burst: float = 0.05, quantum: float = 0.005) -> None:
        self._rate = rate
        self._burst = burst
        self._quantum = quantum
        self._updated = now
        self._balance = 0.0
        self._saving = False

    def set_rate(self, rate: float, now: float) -> None:
        """Change the rate from ``now`` on; what was earned or owed stays."""
        self._refill(now)
        self._rate = rate

    def take(self, size: int, now: float) -> None:
        """Account for ``size`` bytes that were read."""
        self._refill(now)
        self._balance -= size

    def wait(self, now: float) -> float:
        """Seconds until reading may go on at the present rate; 0 when it may."""
        self._refill(now)
        enough = min(self._rate * self._quantum, _MOST_SAVED)
        self._saving = self._balance < (enough if self._saving else 0)
        return (enough - self._balance) / self._rate if self._saving else 0.0

    def _refill(self, now: float) -> None:
        earned = max(0.0, now - self._updated) * self._rate
        self._balance = min(self._rate * self._burst, self._balance + earned)
        self._updated = now
