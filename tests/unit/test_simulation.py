"""The control law against a simulated database: it finds the rate that the database can bear, and stays near it."""

from __future__ import annotations

from datetime import datetime, timezone
from statistics import mean

import pytest

from airflow_backup_guard.core.load import LoadLimits, LoadSample, assess
from airflow_backup_guard.core.pace import TARGET_STRAIN, Pace, decide
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.testing import SimulatedDatabase, SimulatedSecond, simulate_copy

FLOOR, CEILING = Rate(1_000_000), Rate(100_000_000)
LIMITS = LoadLimits(commit_latency=("1s", "10s"))
SEEDS = range(8)


def run(seed: int, *application: tuple[int, float]) -> list[SimulatedSecond]:
    """A copy under loads given as (seconds, share of the capacity)."""
    loads = [share for seconds, share in application for _ in range(seconds)]
    database = SimulatedDatabase(seed=seed)
    return simulate_copy(
        database, lambda second: loads[second] * database.capacity, Pace.start(FLOOR, CEILING), LIMITS, len(loads)
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", [0.02, 0.3, 0.5, 0.6, 0.8])
def test_the_strain_settles_near_its_target(seed: int, load: float) -> None:
    """Over minutes, at any load, commits take little more than the law aims at, and the copy gets on."""
    seen = run(seed, (300, load))[30:]
    assert 1.02 < mean(second.strain for second in seen) < TARGET_STRAIN + 0.15
    assert mean(second.rate for second in seen) > 4 * FLOOR


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_it_does_not_swing_beyond_bounds(seed: int, load: float) -> None:
    """Nine seconds of ten the strain is below 1.6, and commits never take twice as long for five seconds on end."""
    strains = [second.strain for second in run(seed, (300, load))[30:]]
    assert sorted(strains)[int(0.9 * len(strains))] < 1.6
    assert all(min(strains[at : at + 5]) < 2 for at in range(len(strains) - 5))


@pytest.mark.parametrize("seed", SEEDS)
def test_it_gives_way_to_a_peak_and_comes_back(seed: int) -> None:
    """A peak of the application takes the rate down within ten seconds; after it the copy is as fast as before."""
    seen = run(seed, (120, 0.2), (120, 0.85), (150, 0.2))
    quiet = mean(second.rate for second in seen[60:120])
    peak = mean(second.rate for second in seen[130:240])
    again = mean(second.rate for second in seen[-90:])
    assert peak < 0.6 * quiet
    assert again > 0.5 * quiet


def test_a_database_that_feels_nothing_is_read_at_the_ceiling() -> None:
    """Where the copy does not show, nothing is held back but the short breaks in which the baseline is measured."""
    database = SimulatedDatabase(capacity=1e12)
    seen = simulate_copy(database, lambda second: 1e6, Pace.start(FLOOR, CEILING), LIMITS, 300)
    assert mean(second.rate for second in seen[60:]) > 0.85 * CEILING


def test_it_stays_at_the_floor_where_it_does_not_use_what_it_may() -> None:
    """A copy held up by its repository is not allowed more and more, to be let loose when the repository recovers."""
    pace = Pace.start(FLOOR, CEILING)
    normal = assess(LoadSample(datetime(2000, 1, 1, tzinfo=timezone.utc), {"commit_latency": 0.001}), LIMITS)
    assert decide(pace, normal, used=0.5).rate == FLOOR
    assert decide(pace, normal, strain=None).rate == FLOOR
    assert decide(pace, normal, used=0.95).rate > FLOOR


@pytest.mark.parametrize("seed", SEEDS)
def test_more_load_of_the_application_is_not_taken_for_harm_of_the_copy(seed: int) -> None:
    """When the application becomes busier for good, the copy falls, learns the new baseline, and is off its floor
    within 25 seconds, whenever its baseline was measured last; and commits do not pay for that."""
    for quiet in (40, 55, 70):
        seen = run(seed, (quiet, 0.2), (60, 0.6))[quiet:]
        assert max(second.rate for second in seen[15:25]) > 2 * FLOOR
        assert mean(second.strain for second in seen[15:]) < TARGET_STRAIN + 0.15
