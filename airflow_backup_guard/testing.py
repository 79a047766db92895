"""Fakes for tests of what is built on this package, and for explaining it: a database that can be overloaded."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from airflow_backup_guard.core.load import LoadLimits, LoadSample, assess
from airflow_backup_guard.core.pace import Pace, decide
from airflow_backup_guard.core.strain import Strain


@dataclass
class SimulatedDatabase:
    """A disk as one queue (M/M/1): latency is ``service_time / (1 - utilization)``, with a spread as real ones have.

    :param capacity: bytes per second that the disk can do
    :param service_time: seconds that a commit takes on an idle disk
    :param spread: sigma of the lognormal distribution of single commits
    """

    capacity: float = 200e6
    service_time: float = 0.001
    spread: float = 0.4
    seed: int = 1

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  # a simulation, and the same one at every run

    def strain(self, application: float, backup: float) -> float:
        """How many times longer commits take than without the backup; both loads in bytes per second."""
        return self._slowness(application + backup) / self._slowness(application)

    def commit(self, application: float, backup: float) -> float:
        """Seconds that one commit takes."""
        return self.service_time * self._slowness(application + backup) * self._random.lognormvariate(0, self.spread)

    def _slowness(self, load: float) -> float:
        # A queue that is full does not grow for ever: the application waits, too.
        return 1 / (1 - min(load / self.capacity, 0.99))


@dataclass(frozen=True)
class SimulatedSecond:
    """One second of a simulated copy: rates in bytes per second, ``strain`` the true one, unknown to the law."""

    application: float
    rate: float
    strain: float


def simulate_copy(
    database: SimulatedDatabase,
    application: Callable[[int], float],
    pace: Pace,
    limits: LoadLimits,
    seconds: int,
    samples_per_second: int = 10,
) -> list[SimulatedSecond]:
    """Run the control law against a simulated database, from three seconds before the copy on.

    ``application(second)`` is the application's own load in bytes per second.
    """
    from datetime import datetime, timezone

    epoch = datetime(2000, 1, 1, tzinfo=timezone.utc)
    strain = Strain()
    for tick in range(3 * samples_per_second):
        strain.add(tick / samples_per_second, database.commit(application(0), 0), rate=0, out_of_the_way=True)
    strain.begin(3.0)
    seen = []
    for second in range(seconds):
        assessment = None
        rate = 0.0
        for tick in range(samples_per_second):
            now = 3 + second + tick / samples_per_second
            rate = pace.floor if strain.make_way(now) else pace.rate
            latency = database.commit(application(second), rate)
            strain.add(now, latency, rate=rate, out_of_the_way=rate <= pace.floor)
            found = assess(LoadSample(epoch, {"commit_latency": latency}), limits)
            if assessment is None or found.level.severity > assessment.level.severity:
                assessment = found
        assert assessment is not None  # noqa: S101  # there is a sample in every second
        seen.append(SimulatedSecond(application(second), rate, database.strain(application(second), rate)))
        end = 3 + second + 1
        pace = decide(pace, assessment, strain=strain.value(end), strain_rate=strain.rate(end), used=rate / pace.rate)
    return seen
