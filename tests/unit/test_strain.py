"""What the baseline of a copy is made of."""

from __future__ import annotations

import pytest

from airflow_backup_guard.core.strain import Strain

HERTZ = 10


def begun(latency: float = 0.001) -> Strain:
    """A copy that begins at 3 s, on a database whose commits take so long."""
    strain = Strain()
    feel(strain, 0, 3, latency, out_of_the_way=True)
    strain.begin(3)
    return strain


def feel(
    strain: Strain, since: int, until: int, latency: float, *, out_of_the_way: bool, asked: bool = True, rate: float = 0
) -> None:
    """Ten samples a second, all alike."""
    for tick in range(since * HERTZ, until * HERTZ):
        strain.add(tick / HERTZ, latency, rate=rate, out_of_the_way=out_of_the_way)
        if asked:
            strain.make_way(tick / HERTZ)


def test_a_copy_at_its_floor_takes_what_it_feels_for_the_baseline() -> None:
    """An application that became busier, and sent the copy to its floor, is not taken for the copy's harm for long."""
    strain = begun()
    feel(strain, 3, 10, 0.005, out_of_the_way=True)
    assert strain.baseline == pytest.approx(0.005)
    assert strain.value(10) == pytest.approx(1)


def test_a_copy_that_reads_does_not_change_its_baseline() -> None:
    """However slow commits are beside a copy that is above its floor, they are no baseline."""
    strain = begun()
    feel(strain, 3, 17, 0.005, out_of_the_way=False)
    assert strain.baseline == pytest.approx(0.001)


def test_a_moment_at_the_floor_is_not_enough() -> None:
    """A copy that touches its floor now and then does not take what it left in the queue for the baseline."""
    strain = begun()
    for second in range(3, 11, 4):
        feel(strain, second, second + 3, 0.005, out_of_the_way=True)
        feel(strain, second + 3, second + 4, 0.005, out_of_the_way=False)
    assert strain.baseline == pytest.approx(0.001)


def test_critical_load_that_paused_the_copy_is_no_baseline() -> None:
    """While it is paused nobody asks; when it goes on, what commits took meanwhile is forgotten."""
    strain = begun()
    feel(strain, 3, 5, 0.001, out_of_the_way=True)
    feel(strain, 5, 14, 0.5, out_of_the_way=True, asked=False)
    feel(strain, 14, 17, 0.001, out_of_the_way=True)
    assert strain.baseline == pytest.approx(0.001)


def test_the_rate_is_that_of_the_seconds_that_tell_the_strain() -> None:
    """What was allowed in the mean, over the same five seconds."""
    strain = begun()
    assert strain.rate(20) is None
    feel(strain, 2, 5, 0.001, out_of_the_way=False, rate=90e6)
    feel(strain, 5, 8, 0.001, out_of_the_way=False, rate=10e6)
    feel(strain, 8, 10, 0.001, out_of_the_way=False, rate=20e6)
    assert strain.rate(10) == pytest.approx(14e6, rel=0.02)
