"""What bounds a copy beside the load: the end of its window, how long it may pause and take, and WAL kept for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_backup_guard.core.plan import AtWindowEnd, BackupPlan
from airflow_backup_guard.core.units import Rate, Size, format_duration, whole_seconds


@dataclass(frozen=True)
class Budget:
    """The bounds of one copy; ``window_end`` is None for a plan whose calendar is always open."""

    window_end: datetime | None
    plan: BackupPlan

    @classmethod
    def of(cls, plan: BackupPlan, now: datetime) -> Budget:
        """The bounds of a copy that starts now. Begun outside of a window, it has none whose end it could respect."""
        end = None if plan.calendar.always_open else plan.calendar.window_end(now)
        return cls(end, plan)

    def required_rate(self, now: datetime, left: int) -> Rate | None:
        """What it takes to read ``left`` bytes within the window; None if the plan does not put the window first."""
        if self.window_end is None or not self.plan.window_first or now >= self.window_end:
            return None
        return Rate(left / max((self.window_end - now).total_seconds(), 1.0))

    def is_floored(self, now: datetime) -> bool:
        """True when the window is over, and the plan lets the copy go on at its floor only."""
        return self._is_over(now) and self.plan.at_window_end is AtWindowEnd.FLOOR

    def exhausted(
        self, now: datetime, running: timedelta, paused: timedelta | None, wal_retained: float | None = None
    ) -> str | None:
        """Why the copy must end now, or None; ``wal_retained`` in bytes, as far as it is known.

        How long it has been ``running``, and ``paused`` if it is, must not come from a clock that can jump.
        """
        if self._is_over(now) and self.plan.at_window_end is AtWindowEnd.STOP:
            return f"its off-peak window ended at {self.window_end:%H:%M %Z}, and the plan stops there"
        if paused is not None and paused > self.plan.max_pause:
            return f"the load has kept it paused for more than {format_duration(self.plan.max_pause)} (max_pause)"
        if running > self.plan.max_duration:
            return f"it has taken more than {format_duration(self.plan.max_duration)} (max_duration)"
        if wal_retained is not None and wal_retained > self.plan.max_retained_wal:
            return (
                f"the server keeps {Size(wal_retained)} of WAL for it, more than {self.plan.max_retained_wal} "
                "(max_retained_wal): its repository takes WAL more slowly than the database writes it"
            )
        return None

    def _is_over(self, now: datetime) -> bool:
        return self.window_end is not None and now >= self.window_end


@dataclass(frozen=True)
class Forecast:
    """How long a copy will take, undisturbed, against the time that its window leaves; sizes in bytes."""

    size: int
    rate: Rate
    window_left: timedelta | None
    wal_rate: float | None

    @property
    def duration(self) -> timedelta:
        """At the plan's ceiling, from the first byte on."""
        return timedelta(seconds=self.size / self.rate)

    @property
    def fits(self) -> bool:
        """Whether that is within the window."""
        return self.window_left is None or self.duration <= self.window_left

    def __str__(self) -> str:
        text = f"{Size(self.size)} take {whole_seconds(self.duration, least=1)} at {self.rate}"
        if self.window_left is not None:
            text += f", and the window has {whole_seconds(self.window_left, least=1)} left"
        if self.wal_rate is not None:
            text += f"; about {Size(self.wal_rate * self.duration.total_seconds())} of WAL will be written meanwhile"
        return text


def forecast(plan: BackupPlan, now: datetime, size: int, wal_rate: float | None) -> Forecast:
    """Before a copy of ``size`` bytes; ``wal_rate`` in bytes per second, as far as it is known."""
    end = Budget.of(plan, now).window_end
    return Forecast(size, plan.max_rate, None if end is None else end - now, wal_rate)
