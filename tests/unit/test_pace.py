"""The control law under any sequence of loads, and the bucket that holds a reader to its rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timezone
from itertools import cycle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core.load import Assessment, LoadLevel, LoadLimits, LoadSample, assess
from airflow_backup_guard.core.pace import TARGET_STRAIN, Pace, PaceState, TokenBucket, decide
from airflow_backup_guard.core.units import Rate

LIMITS = LoadLimits(commit_latency=("20ms", "100ms"), wal_rate=("30MB/s", "90MB/s"))
FLOOR, CEILING = Rate(1_000_000), Rate(100_000_000)


def load(commit_latency: float | None = 0.002, wal_rate: float | None = 1e6) -> Assessment:
    """What a sample means; None is a value that could not be measured."""
    values = {"commit_latency": commit_latency, "wal_rate": wal_rate}
    sample = LoadSample(
        datetime(2024, 6, 1, tzinfo=timezone.utc),
        {name: value for name, value in values.items() if value is not None},
    )
    return assess(sample, LIMITS)


CALM = load()
NEAR = load(commit_latency=0.018)
HIGH = load(commit_latency=0.05)
UNKNOWN = load(commit_latency=None)
CRITICAL = load(commit_latency=0.3)


def follow(pace: Pace, assessments: Iterable[Assessment]) -> Pace:
    """The pace after all of them."""
    for assessment in assessments:
        pace = decide(pace, assessment)
    return pace


def at(rate: int, state: PaceState, reason: str = "before") -> Pace:
    """Some pace in the middle of a copy."""
    return Pace(FLOOR, CEILING, Rate(rate), state, reason)


RUNNING = at(CEILING, PaceState.RUNNING)
PAUSED = decide(RUNNING, CRITICAL)

ASSESSMENTS = st.builds(
    load,
    st.none() | st.sampled_from([0.002, 0.0139, 0.0141, 0.018, 0.021, 0.05, 0.11]),
    st.none() | st.sampled_from([0.0, 1e6, 20.9e6, 21.1e6, 31e6, 95e6]),
)
SEQUENCES = st.lists(st.sampled_from([CALM, CALM, CALM, NEAR, HIGH, UNKNOWN, CRITICAL]) | ASSESSMENTS, max_size=60)
BOUNDS = st.tuples(st.integers(32_000, 2**30), st.integers(32_000, 2**30)).map(sorted)


@given(BOUNDS, SEQUENCES)
@example([50_000, 50_000], [CALM, HIGH, CRITICAL, CALM, UNKNOWN, CALM, CALM, CALM, CALM])
def test_promises_of_the_control_law(bounds: list[int], assessments: list[Assessment]) -> None:
    """Under any sequence of loads, every promise about rate, state and reason holds after every sample."""
    floor, ceiling = map(Rate, bounds)
    pace = Pace.start(floor, ceiling)
    for number, assessment in enumerate(assessments):
        before, pace = pace, decide(pace, assessment)
        level = assessment.level
        assert (pace.floor, pace.ceiling) == (floor, ceiling)
        assert floor <= pace.rate <= ceiling
        assert isinstance(pace.rate, Rate)
        assert pace.reason
        if level is not LoadLevel.NORMAL:
            assert pace.rate <= before.rate
            assert pace.state is not PaceState.RUNNING
        if level is LoadLevel.CRITICAL:
            assert pace.state is PaceState.PAUSED
        if level in (LoadLevel.CRITICAL, LoadLevel.UNKNOWN):
            assert pace.rate == floor
        if level is LoadLevel.HIGH and before.state is not PaceState.PAUSED:
            assert pace.rate == max(floor, before.rate // 2)
        if pace.state is PaceState.PAUSED:
            assert pace.rate == floor
        assert (pace.state is PaceState.RUNNING) <= (pace.rate == ceiling)
        if before.state is PaceState.PAUSED and pace.state is not PaceState.PAUSED:
            assert number >= 3
            assert all(calm.is_below(0.7) for calm in assessments[number - 2 : number + 1])
            assert pace.rate == floor
        if "≤" in pace.reason:
            pytest.fail(f"{pace.reason} is no reason to go slow")


@given(BOUNDS, SEQUENCES)
def test_calm_always_ends_at_the_ceiling(bounds: list[int], assessments: list[Assessment]) -> None:
    """Whatever happened before, three calm samples to resume, ten to get away from the floor, and a tenth with each
    that follows are enough."""
    floor, ceiling = map(Rate, bounds)
    rises = 10 + math.ceil(math.log(ceiling / floor) / math.log(1.1))
    pace = follow(Pace.start(floor, ceiling), [*assessments, *[CALM] * (3 + rises)])
    assert (pace.state, pace.rate, pace.reason) == (PaceState.RUNNING, ceiling, "load is within limits")


def test_a_copy_starts_at_its_floor() -> None:
    """Before the first sample nothing is known."""
    pace = Pace.start(FLOOR, CEILING)
    assert (pace.state, pace.rate) == (PaceState.THROTTLED, FLOOR)


def test_the_first_rise_gives_no_reason_that_is_gone() -> None:
    """While a copy rises for the first time there are samples, so their absence is not why it is slow."""
    assert follow(Pace.start(FLOOR, CEILING), [CALM]).reason == "it starts at its floor"


def test_a_rise_is_a_tenth_and_at_first_the_floor_once_more() -> None:
    """Without any strain a copy is at its ceiling within 40 seconds, and says so there."""
    pace = Pace.start(FLOOR, CEILING)
    rates = [(pace := decide(pace, CALM)).rate for _ in range(40)]
    assert rates[:3] == [2e6, 3e6, 4e6]
    assert rates[11] == rates[10] + rates[10] // 10
    assert (pace.rate, pace.state, pace.reason) == (CEILING, PaceState.RUNNING, "load is within limits")


def test_load_near_its_limit_is_within_it() -> None:
    """Only a paused copy waits for relief; a running one goes on up to the limit."""
    assert decide(RUNNING, NEAR).state is PaceState.RUNNING
    assert decide(at(50_000_000, PaceState.THROTTLED), NEAR).rate == 55_000_000


def test_high_load_halves_the_rate() -> None:
    """Down to the floor and no further, with the load as the reason."""
    pace = decide(RUNNING, HIGH)
    assert (pace.state, pace.rate) == (PaceState.THROTTLED, 50_000_000)
    assert pace.reason == "commit latency 50.0 ms > 20.0 ms"
    assert follow(pace, [HIGH] * 20).rate == FLOOR


def test_a_rising_copy_keeps_the_reason_of_its_fall() -> None:
    """That is why it is still below its rate."""
    assert follow(RUNNING, [HIGH, CALM, CALM]).reason == "commit latency 50.0 ms > 20.0 ms"


def test_unknown_load_falls_to_the_floor() -> None:
    """At once, because what cannot be seen may be anything."""
    pace = decide(RUNNING, UNKNOWN)
    assert (pace.state, pace.rate) == (PaceState.THROTTLED, FLOOR)
    assert pace.reason == "commit latency unknown (not measured)"


@pytest.mark.parametrize("state", PaceState)
def test_critical_load_pauses_at_once(state: PaceState) -> None:
    """One sample is enough, in any state."""
    pace = decide(at(50_000_000, state), CRITICAL)
    assert (pace.state, pace.rate) == (PaceState.PAUSED, FLOOR)
    assert pace.reason == "commit latency 300.0 ms > critical 100.0 ms"


def test_three_calm_samples_in_a_row_resume_from_the_floor() -> None:
    """The third resumes without rising; the next one rises."""
    first, second, third = follow(PAUSED, [CALM]), follow(PAUSED, [CALM] * 2), follow(PAUSED, [CALM] * 3)
    assert first.state is second.state is PaceState.PAUSED
    assert first.reason == second.reason == PAUSED.reason
    assert (third.state, third.rate, third.reason) == (PaceState.THROTTLED, FLOOR, "load is low again")
    assert decide(third, CALM).rate == 2 * FLOOR


@pytest.mark.parametrize("interruption", [NEAR, HIGH, UNKNOWN, CRITICAL], ids=lambda assessment: assessment.level.value)
def test_calm_samples_count_only_in_a_row(interruption: Assessment) -> None:
    """Anything else between them starts the count anew, and so does a new pause."""
    assert follow(PAUSED, [CALM, CALM, interruption, CALM, CALM]).state is PaceState.PAUSED
    assert follow(PAUSED, [CALM, CALM, interruption, CALM, CALM, CALM]).state is PaceState.THROTTLED
    again = follow(PAUSED, [CALM, CALM, CALM, CRITICAL])
    assert follow(again, [CALM, CALM]).state is PaceState.PAUSED


def test_a_paused_copy_tells_what_harmed_last() -> None:
    """Load between 0.7 of a limit and the limit keeps it paused, but is not the reason why."""
    assert follow(PAUSED, [NEAR]).reason == PAUSED.reason
    assert follow(PAUSED, [UNKNOWN, NEAR]).reason == "commit latency unknown (not measured)"
    assert follow(PAUSED, [HIGH]).reason == "commit latency 50.0 ms > 20.0 ms"


@pytest.mark.parametrize("signals", [{"commit_latency": 0.0141}, {"wal_rate": 21.1e6}, {"wal_rate": None}], ids=str)
def test_relief_is_asked_of_every_signal(signals: dict[str, float | None]) -> None:
    """One signal above 0.7 of its limit, or unknown, is enough to stay paused."""
    assert follow(PAUSED, [load(**signals)] * 9).state is PaceState.PAUSED


def test_floor_and_ceiling_may_be_the_same() -> None:
    """A plan with one rate runs at it, and its states still tell what the load is."""
    pace = decide(Pace.start(FLOOR, FLOOR), CALM)
    assert (pace.state, pace.rate) == (PaceState.RUNNING, FLOOR)
    assert [follow(pace, [a]).state.value for a in (HIGH, UNKNOWN, CRITICAL)] == ["throttled", "throttled", "paused"]


@given(st.floats(0.5, 5), st.floats(0.5, 5), st.none() | st.floats(0, 2e8), st.integers(1_000_000, 100_000_000))
def test_the_law_is_monotone(one: float, other: float, strain_rate: float | None, rate: int) -> None:
    """More strain at the same rate never means a higher rate."""
    pace = at(rate, PaceState.THROTTLED)
    less, more = (decide(pace, CALM, strain=strain, strain_rate=strain_rate).rate for strain in sorted((one, other)))
    assert more <= less


def test_a_fall_ends_where_the_strain_would_be_on_target() -> None:
    """Strain that was twice too much while so much was allowed asks for half of that: what is less is due already."""
    twice = 1 + 2 * (TARGET_STRAIN - 1)
    assert decide(at(24_000_000, PaceState.THROTTLED), CALM, strain=twice, strain_rate=40e6).rate == 20e6
    assert decide(at(16_000_000, PaceState.THROTTLED), CALM, strain=twice, strain_rate=40e6).rate == 16e6


def test_one_second_takes_no_more_than_half() -> None:
    """However much strain there is."""
    assert decide(at(30_000_000, PaceState.THROTTLED), CALM, strain=9, strain_rate=30e6).rate == 15e6


def test_the_rise_does_not_depend_on_the_ceiling() -> None:
    """A plan that allows more does not make a copy rise in leaps."""
    low, high = (Pace.start(FLOOR, Rate(ceiling)) for ceiling in (10**8, 2**30))
    for _ in range(20):
        low, high = decide(low, CALM), decide(high, CALM)
        assert low.rate == high.rate


# The bucket

CHUNK = 32 * 1024
RATES = st.integers(100_000, 500_000_000)


def read(bucket: TokenBucket, start: float, seconds: float, oversleeping: list[float]) -> list[tuple[float, int]]:
    """When how many bytes were read by one who reads in no time and whose every sleep ends too late."""
    now, done, lateness = start, [], cycle(oversleeping)
    while now < start + seconds:
        bucket.take(CHUNK, now)
        done.append((now, CHUNK))
        while wait := bucket.wait(now):
            now += wait + next(lateness)
    return done


def fewest_and_most_per_second(done: list[tuple[float, int]]) -> tuple[int, int]:
    """Over every second that begins or ends at a read."""
    fewest, most, held, first = 1 << 62, 0, 0, 0
    for now, size in done:
        while done[first][0] <= now - 1:
            held -= done[first][1]
            first += 1
            fewest = min(fewest, held)  # the second after the read that just left, up to but without this one
        held += size
        most = max(most, held)
    return fewest, most


@settings(max_examples=25)
@given(RATES, st.lists(st.floats(1e-6, 0.015), min_size=1, max_size=20))
@example(100_000, [1e-6])
@example(500_000_000, [1e-6])
@example(500_000_000, [0.015])
def test_any_second_has_its_rate(rate: int, oversleeping: list[float]) -> None:
    """No second gets less than 0.98 of the rate, nor more than the rate and the burst, but for one chunk."""
    done = read(TokenBucket(rate, now=1000.0), 1000.0, 2.5, oversleeping)
    fewest, most = fewest_and_most_per_second(done)
    assert fewest >= 0.98 * rate - CHUNK
    assert most <= 1.05 * rate + CHUNK


@settings(max_examples=25)
@given(RATES, st.lists(st.floats(1e-6, 0.045), min_size=1, max_size=20))
@example(100_000, [0.045])
@example(500_000_000, [0.045])
def test_late_sleeps_are_made_up_for(rate: int, oversleeping: list[float]) -> None:
    """On average the rate is kept to two percent, as long as no sleep is later than the burst."""
    seconds = 8.0 if rate < 10_000_000 else 2.0
    done = sum(size for _, size in read(TokenBucket(rate, now=0.0), 0.0, seconds, oversleeping))
    assert 0.98 * rate * seconds - CHUNK - rate * 0.05 <= done <= rate * (seconds + 0.05) + CHUNK


def test_a_stall_is_not_followed_by_a_flood() -> None:
    """However long nothing was read, only the burst may come at once."""
    bucket = TokenBucket(100_000_000, now=0.0)
    allowed = 0
    while bucket.wait(60.0) == 0:
        bucket.take(CHUNK, 60.0)
        allowed += CHUNK
    assert allowed <= 0.05 * 100_000_000 + CHUNK


def test_a_reader_owes_what_it_has_read() -> None:
    """The first chunk is read before it is paid for, and then the wait is what it is worth."""
    bucket = TokenBucket(1_000_000, now=5.0, quantum=0)
    assert bucket.wait(5.0) == 0
    bucket.take(500_000, 5.0)
    assert bucket.wait(5.0) == pytest.approx(0.5)
    assert bucket.wait(5.3) == pytest.approx(0.2)
    assert bucket.wait(5.5) == pytest.approx(0, abs=1e-9)


def test_a_rate_that_rises_shortens_a_wait() -> None:
    """What was earned at the old rate stays, and the rest is earned at the new one."""
    bucket = TokenBucket(1_000_000, now=0.0, quantum=0)
    bucket.take(1_000_000, 0.0)
    bucket.set_rate(10_000_000, 0.5)
    assert bucket.wait(0.5) == pytest.approx(0.05)
    assert bucket.wait(0.6) == 0


def test_a_rate_that_falls_lengthens_a_wait() -> None:
    """A pause that comes while a reader waits holds for the bytes that it owes."""
    bucket = TokenBucket(10_000_000, now=0.0, quantum=0)
    bucket.take(1_000_000, 0.0)
    bucket.set_rate(1_000_000, 0.05)
    assert bucket.wait(0.05) == pytest.approx(0.5)


def test_a_burst_of_the_old_rate_is_not_kept() -> None:
    """After a fall, only the burst of the new rate is left of what was saved."""
    bucket = TokenBucket(100_000_000, now=0.0, quantum=0)
    bucket.set_rate(1_000_000, 10.0)
    bucket.take(100_000, 10.0)
    assert bucket.wait(10.0) == pytest.approx(0.05)


def test_short_waits_become_one() -> None:
    """After a wait there is something saved, and that is read without another one."""
    bucket = TokenBucket(1_000_000, now=5.0, burst=0.2, quantum=0.1)
    bucket.take(500_000, 5.0)
    assert bucket.wait(5.0) == pytest.approx(0.5 + 0.1)
    assert bucket.wait(5.6 + 1e-9) == 0
    bucket.take(90_000, 5.6)
    assert bucket.wait(5.6) == 0
    bucket.take(20_000, 5.6)
    assert bucket.wait(5.6) == pytest.approx(0.01 + 0.1)


@settings(max_examples=50)
@given(st.lists(st.tuples(RATES, st.floats(0.01, 0.3)), min_size=1, max_size=12), st.sampled_from([0.0, 0.005]))
def test_any_sequence_of_rates_is_kept(steps: list[tuple[int, float]], quantum: float) -> None:
    """With the rate changed in the middle of waits, the bytes are the sum of what each rate allowed, less what is
    saved at the end."""
    bucket, now, done, allowed = TokenBucket(steps[0][0], now=0.0, quantum=quantum), 0.0, 0, 0.0
    for rate, seconds in steps:
        bucket.set_rate(rate, now)
        end = now + seconds
        while now < end:
            wait = bucket.wait(now)
            if wait == 0:
                bucket.take(CHUNK, now)
                done += CHUNK
            now = min(now + wait + 1e-6 * (wait > 0), end)
        allowed += rate * seconds
    saved = quantum * max(rate for rate, _ in steps)
    assert allowed * 0.98 - CHUNK - saved <= done <= allowed + CHUNK
