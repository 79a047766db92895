"""How load is judged: limits as plans write them, findings, and the verdict with its reasons."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from datetime import datetime, timedelta, timezone
from math import inf, nan
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.load import (
    SIGNALS,
    Assessment,
    CustomSignal,
    Finding,
    Limit,
    LoadLevel,
    LoadLimits,
    LoadSample,
    assess,
    baseline_of,
    limits_for,
)
from airflow_backup_guard.core.signals import OF_STANDBYS
from airflow_backup_guard.errors import InvalidPlan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NOW = datetime(2024, 6, 1, 19, tzinfo=timezone.utc)
QUEUE = CustomSignal(sql="SELECT count(*) FROM jobs", max="1000", critical="5000")
ALL_LIMITS = LoadLimits(
    commit_latency=("25ms", "100ms"),
    wal_rate=("30MB/s", "90MB/s"),
    tuple_rate=("5000/s", "9000/s"),
    commit_rate=("800/s", "2000/s"),
    transaction_wal=("20kB", "100kB"),
    full_page_images=("500/s", "2000/s"),
    requested_checkpoints=("2/min", "6/min"),
    replication_lag=("64MB", "1GB"),
    retained_wal=("1GB", "10GB"),
    io_waits=("8", "20"),
    lock_waits=("5", "20"),
    block_read_time=("5ms", "50ms"),
    active_sessions=("40", "90"),
    read_latency=("25ms", "100ms"),
    replay_lag=("30s", "5min"),
    custom={"queue length": QUEUE},
)
# Of each signal, what is quiet, high and critical under these limits.
VALUES = {
    "commit_latency": (0.002, 0.031, 0.25),
    "wal_rate": (1e6, 42.5e6, 120e6),
    "tuple_rate": (100.0, 6000.0, 9500.0),
    "commit_rate": (50.0, 900.0, 2500.0),
    "transaction_wal": (700.0, 30e3, 200e3),
    "full_page_images": (3.0, 900.0, 2500.0),
    "requested_checkpoints": (0.0, 3.0, 7.0),
    "replication_lag": (1e6, 100e6, 2e9),
    "retained_wal": (16e6, 2e9, 20e9),
    "io_waits": (0.0, 9.0, 30.0),
    "lock_waits": (0.0, 6.0, 30.0),
    "block_read_time": (0.0001, 0.01, 0.1),
    "active_sessions": (2.0, 50.0, 95.0),
    "read_latency": (0.001, 0.03, 0.2),
    "replay_lag": (0.0, 40.0, 400.0),
    "custom.queue length": (10.0, 2000.0, 9000.0),
}
QUIET, HIGH, CRITICAL = ({name: values[at] for name, values in VALUES.items()} for at in range(3))


def judged(limits: LoadLimits, unavailable: dict[str, str] | None = None, **values: float) -> Assessment:
    """Hold values against limits; of a primary, unless a standby's are among them."""
    absent = frozenset() if OF_STANDBYS & {*values, *(unavailable or {})} else OF_STANDBYS
    return assess(LoadSample(NOW, values, unavailable or {}, absent=absent), limits)


# Limits as plans write them


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("commit_latency", "20ms", Limit(0.02, inf)),
        ("commit_latency", ("20ms", "0.1s"), Limit(0.02, 0.1)),
        ("commit_latency", ["20ms", "100ms"], Limit(0.02, 0.1)),
        ("commit_latency", ("20ms", "20ms"), Limit(0.02, 0.02)),
        ("commit_latency", timedelta(milliseconds=5), Limit(0.005, inf)),
        ("commit_latency", Limit(0.02, 0.1), Limit(0.02, 0.1)),
        ("wal_rate", ("30MB/s", "1GB/s"), Limit(30e6, 1e9)),
        ("wal_rate", "16MiB/s", Limit(16_777_216.0, inf)),
        ("tuple_rate", "5000/s", Limit(5000.0, inf)),
        ("commit_rate", ("0.5/s", "1000000/s"), Limit(0.5, 1e6)),
        ("transaction_wal", "20kB", Limit(20e3, inf)),
        ("full_page_images", "500/s", Limit(500.0, inf)),
        ("requested_checkpoints", ("2/min", "6/min"), Limit(2.0, 6.0)),
        ("replication_lag", ("64MB", "1GiB"), Limit(64e6, 2.0**30)),
        ("retained_wal", "1GB", Limit(1e9, inf)),
        ("io_waits", 8, Limit(8.0, inf)),
        ("lock_waits", ("0.5", 20), Limit(0.5, 20.0)),
        ("block_read_time", "5ms", Limit(0.005, inf)),
        ("active_sessions", "40", Limit(40.0, inf)),
        ("commit_latency", "3x", Limit(inf, inf, 3.0)),
        ("commit_latency", ("3x", "10x"), Limit(inf, inf, 3.0, 10.0)),
        ("commit_latency", ("2.5 x", "100ms"), Limit(inf, 0.1, 2.5)),
        ("commit_latency", ("20ms", "10x"), Limit(0.02, inf, None, 10.0)),
        ("commit_latency", Limit(inf, 0.1, 2.5), Limit(inf, 0.1, 2.5)),
        ("active_sessions", "2x", Limit(inf, inf, 2.0)),
    ],
)
def test_a_limit_is_read(name: str, value: Any, limit: Limit) -> None:
    """One value sets max only; two set max and critical, in the signal's unit."""
    assert getattr(LoadLimits(**{name: value}), name) == limit


def test_without_a_word_commit_latency_is_limited() -> None:
    """A plan that says nothing is still guarded by the best harm signal, and by nothing that needs tuning."""
    assert {name: limit for name, limit in LoadLimits() if limit} == {"commit_latency": Limit(0.025, 0.1)}
    assert [name for name, _ in LoadLimits()] == list(SIGNALS)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("commit_latency", 20, "a duration with its unit"),
        ("commit_latency", "20", "a duration with its unit"),
        ("commit_latency", "20MB/s", "a duration with its unit"),
        ("commit_latency", ("20ms", None), "a duration with its unit"),
        ("commit_latency", "0ms", "max above zero"),
        ("commit_latency", ("100ms", "20ms"), "critical not below max"),
        ("commit_latency", (), "one value (max), or two (max, critical)"),
        ("commit_latency", ("1ms", "2ms", "3ms"), "one value (max), or two (max, critical)"),
        ("wal_rate", 30_000_000, "a rate with its unit"),
        ("wal_rate", "30MB", "a rate with its unit"),
        ("wal_rate", "0MB/s", "max above zero"),
        ("tuple_rate", 5000, "a number per second"),
        ("tuple_rate", "5000", "a number per second"),
        ("tuple_rate", "5k/s", "a number per second"),
        ("commit_rate", "9" * 400 + "/s", "a number per second"),
        ("transaction_wal", "20kB/s", "a size with its unit"),
        ("requested_checkpoints", "2/s", "a number per minute"),
        ("lock_waits", "5/s", "a number, such as"),
        ("lock_waits", True, "a number, such as"),
        ("lock_waits", 0, "max above zero"),
        ("lock_waits", inf, "a number, such as"),
        ("commit_latency", "1x", "a multiple of the baseline above one"),
        ("commit_latency", "0.5x", "a multiple of the baseline above one"),
        ("commit_latency", "x", "a duration with its unit"),
        ("commit_latency", ("10x", "3x"), "critical not below max"),
    ],
)
def test_a_wrong_limit_is_refused(name: str, value: Any, allowed: str) -> None:
    """The message has the field, what is wrong, and what is allowed."""
    with pytest.raises(InvalidPlan) as refused:
        LoadLimits(**{name: value})
    assert refused.value.field == f"limits.{name}"
    assert refused.value.value == (None if value == ("20ms", None) else value)
    assert str(refused.value).startswith(f"limits.{name}: {refused.value.value!r} is not valid. Allowed: ")
    assert allowed in str(refused.value)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(
    "limit",
    [
        Limit(0, 1),
        Limit(-1, 1),
        Limit(2, 1),
        Limit(inf, inf),
        Limit(nan, inf),
        Limit(1, nan),
        Limit("1/s", "2/s"),  # type: ignore[arg-type]
        Limit(1, 2, 3),
        Limit(inf, inf, 1),
        Limit(inf, inf, nan),
        Limit(inf, inf, 3, 2),
    ],
    ids=str,
)
def test_a_limit_made_by_hand_is_checked_too(name: str, limit: Limit) -> None:
    """A Limit has no way around the rules that texts are held to."""
    with pytest.raises(InvalidPlan, match=f"^limits.{name}: "):
        LoadLimits(**{name: limit})


def test_no_limits_at_all_are_refused() -> None:
    """A plan without any limit would never slow down, whatever happened."""
    with pytest.raises(InvalidPlan, match=r"limits: 'none at all' is not valid. Allowed: a limit for one signal"):
        LoadLimits(commit_latency=None)


def test_an_unknown_signal_is_refused() -> None:
    """A typing mistake in a plan file is not a limit that is silently not held."""
    with pytest.raises(InvalidPlan, match=r"limits.comit_latency: '20ms' is not valid. Allowed: limits for commit"):
        LoadLimits.from_dict({"comit_latency": "20ms"})


@pytest.mark.parametrize("values", ["20ms", None, 5, ["20ms"]])
def test_what_is_no_table_of_limits_is_refused(values: Any) -> None:
    """A plan file that says ``limits = "20ms"`` is told what to say."""
    with pytest.raises(InvalidPlan, match=r"^limits: .*commit_latency"):
        LoadLimits.from_dict(values)


def test_limits_cannot_be_changed() -> None:
    """Gate, copy and audit share them, so nobody may change them."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        LoadLimits().commit_latency = None  # type: ignore[misc]


# To plain values and back


def limits_of(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Limit]:
    """Limits with and without a critical value."""
    pairs = st.tuples(numbers, numbers).map(lambda pair: Limit(min(pair), max(pair)))
    return pairs | numbers.map(lambda low: Limit(low, inf))


def relative() -> st.SearchStrategy[Limit]:
    """Multiples of the baseline, with and without a critical one."""
    times = st.integers(1001, 10**9).map(lambda n: n / 1000)
    pairs = st.tuples(times, times).map(lambda pair: Limit(inf, inf, min(pair), max(pair)))
    return pairs | times.map(lambda low: Limit(inf, inf, low))


LATENCIES = limits_of(st.integers(1, 10**12).map(lambda n: timedelta(microseconds=n).total_seconds()))
BYTES = limits_of(st.integers(1, 10**13).map(float))
COUNTS = limits_of(st.floats(1e-9, 1e15))
BY_SIGNAL = {
    **dict.fromkeys(SIGNALS, COUNTS),
    **dict.fromkeys(("commit_latency", "block_read_time", "read_latency", "replay_lag"), LATENCIES),
    **dict.fromkeys(("wal_rate", "transaction_wal", "replication_lag", "retained_wal"), BYTES),
}
CUSTOM_SIGNALS = st.builds(
    CustomSignal, sql=st.just("SELECT 1"), max=st.floats(1e-3, 1e9), critical=st.none() | st.floats(1e9, 1e12)
)
NAMES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=40)
ANY_LIMITS = (
    st.fixed_dictionaries(
        {name: st.none() | limits | relative() for name, limits in BY_SIGNAL.items()},
        optional={"custom": st.dictionaries(NAMES, CUSTOM_SIGNALS, max_size=2)},
    )
    .filter(lambda values: any(values.values()))
    .map(lambda values: LoadLimits(**values))
)


@given(ANY_LIMITS)
def test_plain_values_lose_nothing(limits: LoadLimits) -> None:
    """What a backup's record keeps as JSON is the very same limits, sub-millisecond and large ones too."""
    assert LoadLimits.from_dict(json.loads(json.dumps(limits.to_dict()))) == limits


def test_plain_values_are_readable() -> None:
    """People read records: values carry their units, what is not limited is not there, nor is a critical limit that
    is not set."""
    limits = LoadLimits(
        commit_latency=("0.4ms", "2.5ms"),
        wal_rate="30MB/s",
        tuple_rate=("1000000/s", "2500000.5/s"),
        replication_lag=("64MB", "10x"),
        requested_checkpoints="2/min",
        lock_waits=5,
        active_sessions=("2x", "4x"),
        custom={"queue length": {"sql": "SELECT count(*) FROM jobs", "max": 1000}},
    )
    assert limits.to_dict() == {
        "commit_latency": ["0.4ms", "2.5ms"],
        "wal_rate": ["30000000B/s"],
        "tuple_rate": ["1000000/s", "2500000.5/s"],
        "requested_checkpoints": ["2/min"],
        "replication_lag": ["64000000B", "10x"],
        "lock_waits": ["5"],
        "active_sessions": ["2x", "4x"],
        "custom": {"queue length": {"sql": "SELECT count(*) FROM jobs", "max": "1000"}},
    }
    assert LoadLimits(commit_latency=None, lock_waits=5).to_dict() == {"commit_latency": None, "lock_waits": ["5"]}


def test_a_limit_made_by_hand_is_kept_as_it_is_written() -> None:
    """What is finer than a microsecond would not come back from a record, so it is never there."""
    limits = LoadLimits(commit_latency=Limit(0.0123456789, inf), wal_rate=Limit(1000.4, 2000.0))
    assert limits.commit_latency == Limit(0.012346, inf)
    assert limits.wal_rate == Limit(1000.0, 2000.0)


# A plan's own signals


def test_a_signal_of_the_plan_is_read_from_a_plan_file() -> None:
    """A table in TOML is the same as a value in a DAG."""
    text = """
        [limits]
        commit_latency = ["3x", "100ms"]

        [limits.custom."queue length"]
        sql = "SELECT count(*) FROM jobs"
        max = "1000"
        critical = 5000
    """
    assert LoadLimits.from_dict(tomllib.loads(text)["limits"]) == LoadLimits(
        commit_latency=("3x", "100ms"), custom={"queue length": QUEUE}
    )


def test_a_signal_of_the_plan_is_enough() -> None:
    """It may be the only one that is limited; its name never meets one of ours."""
    limits = LoadLimits(commit_latency=None, custom={"wal_rate": QUEUE})
    assert dict(limits)["custom.wal_rate"] == Limit(1000.0, 5000.0)
    assert dict(limits)["wal_rate"] is None
    assert hash(limits) == hash(copy.deepcopy(limits)) == hash(pickle.loads(pickle.dumps(limits)))
    assert attrs.evolve(limits, wal_rate="1MB/s").custom == limits.custom


@pytest.mark.parametrize(
    ("custom", "field", "allowed"),
    [
        (5, "limits.custom", "a table by name"),
        ("SELECT 1", "limits.custom", "a table by name"),
        ({"": QUEUE}, "limits.custom", "names of 1 to 40"),
        ({" queue": QUEUE}, "limits.custom", "names of 1 to 40"),
        ({"a\nb": QUEUE}, "limits.custom", "names of 1 to 40"),
        ({"q" * 41: QUEUE}, "limits.custom", "names of 1 to 40"),
        ({5: QUEUE}, "limits.custom", "names of 1 to 40"),
        ({"q": "SELECT 1"}, "limits.custom.q", "a table of sql, max, critical"),
        ({"q": {"sql": "SELECT 1"}}, "limits.custom.q", "a table of sql, max, critical"),
        ({"q": {"sql": "SELECT 1", "max": 1, "min": 1}}, "limits.custom.q", "a table of sql, max, critical"),
        ({"q": {"sql": "DELETE FROM jobs", "max": 1}}, "limits.custom.q.sql", "a query for one number"),
        ({"q": {"sql": "SELECT '\0'", "max": 1}}, "limits.custom.q.sql", "a query for one number"),
        ({"q": {"sql": None, "max": 1}}, "limits.custom.q.sql", "a query for one number"),
        ({"q": {"sql": "SELECT 1", "max": "1s"}}, "limits.custom.q.max", "a number"),
        ({"q": {"sql": "SELECT 1", "max": 0}}, "limits.custom.q.max", "above zero"),
        ({"q": {"sql": "SELECT 1", "max": 1, "critical": "much"}}, "limits.custom.q.critical", "a number"),
        ({"q": {"sql": "SELECT 1", "max": 2, "critical": 1}}, "limits.custom.q.max", "critical not below max"),
    ],
)
def test_a_wrong_signal_of_the_plan_is_refused(custom: Any, field: str, allowed: str) -> None:
    """When the DAG is parsed, not when the database is asked."""
    with pytest.raises(InvalidPlan) as refused:
        LoadLimits(custom=custom)
    assert refused.value.field == field
    assert allowed in refused.value.allowed


@pytest.mark.parametrize("sql", ["select 1", "\n WITH a AS (SELECT 1) SELECT * FROM a;", "VALUES (1)", "TABLE numbers"])
def test_a_query_is_what_returns_rows(sql: str) -> None:
    """In any form that PostgreSQL has for it."""
    assert CustomSignal(sql=sql, max="3x", critical="10x").limit == Limit(inf, inf, 3.0, 10.0)


# Relative limits


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0041, "load high: commit latency 4.1 ms > 3.0 ms (3x of 1.0 ms)"),
        (0.0030001, "load high: commit latency just over 3.0 ms (3x of 1.0 ms)"),
        (0.0021, "load normal: commit latency 2.1 ms ≤ 3.0 ms (3x of 1.0 ms)"),
        (0.0123, "load critical: commit latency 12.3 ms > critical 10.0 ms (10x of 1.0 ms)"),
    ],
)
def test_a_relative_limit_explains_itself(value: float, text: str) -> None:
    """Value, limit, and what the limit is a multiple of."""
    limits = LoadLimits(commit_latency=("3x", "10x"))
    assessment = assess(LoadSample(NOW, {"commit_latency": value}), limits, {"commit_latency": 0.001})
    assert str(assessment) == text


@pytest.mark.parametrize("baseline", [None, {}, {"wal_rate": 1e6}, {"commit_latency": nan}, {"commit_latency": -1.0}])
def test_a_relative_limit_without_a_baseline_is_unknown(baseline: dict[str, float] | None) -> None:
    """However low the value is: nobody can tell what it is against what it always is."""
    limits = LoadLimits(commit_latency=("3x", "100ms"))
    assessment = assess(LoadSample(NOW, {"commit_latency": 0.0001}), limits, baseline)
    assert assessment.level is LoadLevel.UNKNOWN
    assert not assessment.is_below(1.0)
    assert str(assessment) == (
        "load unknown: commit latency 0.1 ms, limit unknown (3x of a baseline that was not measured)"
    )
    assert assessment.deciding.to_dict()["max"] is None


def test_an_absolute_limit_holds_without_a_baseline() -> None:
    """What is critical whatever the baseline is, is critical."""
    limits = LoadLimits(commit_latency=("3x", "100ms"))
    assessment = assess(LoadSample(NOW, {"commit_latency": 0.25}), limits)
    assert assessment.level is LoadLevel.CRITICAL
    assert str(assessment) == "load critical: commit latency 250.0 ms > critical 100.0 ms"


def test_a_multiple_of_next_to_nothing_is_not_felt() -> None:
    """A baseline counts as what people could feel at least: three times a twentieth of a millisecond harms nobody."""
    limits = LoadLimits(commit_latency=("3x", "10x"), lock_waits="3x")
    sample = LoadSample(NOW, {"commit_latency": 0.0004, "lock_waits": 2.0})
    assessment = assess(sample, limits, {"commit_latency": 0.00005, "lock_waits": 0.0})
    assert str(assessment) == (
        "load normal: commit latency 0.4 ms ≤ 1.5 ms (3x of 0.5 ms); sessions waiting for a lock 2 ≤ 3 (3x of 1)"
    )


def test_the_lower_of_max_and_critical_holds() -> None:
    """With a baseline of 50 ms, three times that is beyond a critical 100 ms."""
    limits = LoadLimits(commit_latency=("3x", "100ms"))
    finding = assess(LoadSample(NOW, {"commit_latency": 0.12}), limits, {"commit_latency": 0.05}).deciding
    assert finding.level is LoadLevel.CRITICAL
    assert finding.threshold == Limit(0.1, 0.1)
    assert not assess(LoadSample(NOW, {"commit_latency": 0.08}), limits, {"commit_latency": 0.05}).is_below(0.7)


def test_a_baseline_is_the_median_of_what_was_measured() -> None:
    """A failed sample and a value that cannot be leave no trace in it."""
    samples = [
        LoadSample(NOW, {"commit_latency": 0.001, "custom.queue": 10.0}),
        LoadSample.failed(NOW, "connection refused"),
        LoadSample(NOW, {"commit_latency": 0.003}),
        LoadSample(NOW, {"commit_latency": nan}),
        LoadSample(NOW, {"commit_latency": 0.5}),
    ]
    assert baseline_of(samples) == {"commit_latency": 0.003, "custom.queue": 10.0}
    assert baseline_of([]) == {}


# The verdict


@pytest.mark.parametrize("name", VALUES)
def test_any_single_signal_decides(name: str) -> None:
    """One signal over a limit is enough, whatever the others say, and it comes first."""
    for values, level in ((HIGH, LoadLevel.HIGH), (CRITICAL, LoadLevel.CRITICAL)):
        assessment = judged(ALL_LIMITS, **{**QUIET, name: values[name]})
        assert assessment.level is level
        assert assessment.deciding.signal == name
        assert [finding.level for finding in assessment.findings[1:]] == [LoadLevel.NORMAL] * (len(VALUES) - 1)


@pytest.mark.parametrize("name", VALUES)
def test_a_missing_signal_is_unknown(name: str) -> None:
    """A limited signal that was not measured is never taken for quiet, nor for merely high."""
    values = {**HIGH}
    del values[name]
    assessment = judged(ALL_LIMITS, {name: "permission denied"}, **values)
    assert assessment.level is LoadLevel.UNKNOWN
    limit = dict(ALL_LIMITS)[name]
    assert assessment.deciding == Finding(name, LoadLevel.UNKNOWN, None, limit, "permission denied")


@pytest.mark.parametrize("value", [nan, -0.001, inf, -inf])
def test_a_value_that_cannot_be_is_unknown(value: float) -> None:
    """A clock that was set back or a broken counter does not read as low load."""
    assessment = judged(LoadLimits(), commit_latency=value)
    assert assessment.level is LoadLevel.UNKNOWN
    assert str(value) in str(assessment)
    json.dumps([finding.to_dict() for finding in assessment.findings], allow_nan=False)


def test_critical_outranks_unknown() -> None:
    """A known catastrophe pauses the copy even if another signal is missing."""
    assert judged(LoadLimits(wal_rate="30MB/s"), commit_latency=0.2).level is LoadLevel.CRITICAL


def test_a_failed_sample_is_unknown_with_its_reason() -> None:
    """When the probe fails, the reason stands in the verdict, for a signal of the plan's own, too."""
    limits = LoadLimits(custom={"queue length": QUEUE})
    assessment = assess(LoadSample.failed(NOW, "connection refused"), limits)
    assert assessment.level is LoadLevel.UNKNOWN
    assert str(assessment) == (
        "load unknown: commit latency unknown (connection refused); queue length unknown (connection refused)"
    )


def test_a_stale_sample_is_unknown_and_says_so() -> None:
    """What was true twelve seconds ago says nothing about now."""
    assessment = assess(LoadSample.stale(NOW, timedelta(seconds=12)), LoadLimits())
    assert assessment.level is LoadLevel.UNKNOWN
    assert str(assessment) == "load unknown: commit latency unknown (stale: the last sample is 12.0 s old)"


def test_a_signal_without_limit_decides_nothing() -> None:
    """Neither a large value nor a missing one counts where the plan sets no limit, and it comes last."""
    assessment = judged(LoadLimits(commit_latency=None, wal_rate="30MB/s"), commit_latency=99.0, wal_rate=1.0)
    assert assessment.level is LoadLevel.NORMAL
    assert assessment.deciding.signal == "wal_rate"


def test_limits_are_crossed_above_them_not_at_them() -> None:
    """At max is within it, and at critical is not beyond it."""
    levels = [judged(LoadLimits(), commit_latency=value).level for value in (0.025, 0.0250001, 0.1, 0.1000001)]
    assert levels == [LoadLevel.NORMAL, LoadLevel.HIGH, LoadLevel.HIGH, LoadLevel.CRITICAL]


def test_without_critical_limit_nothing_is_critical() -> None:
    """Infinity is a limit that is never crossed."""
    assert judged(LoadLimits(commit_latency="20ms"), commit_latency=1e9).level is LoadLevel.HIGH


SAMPLES = st.dictionaries(st.sampled_from(list(SIGNALS)), st.floats(0, 1e12) | st.just(nan)).map(
    lambda values: LoadSample(NOW, values, {})
)
BASELINES = st.dictionaries(st.sampled_from(list(SIGNALS)), st.floats(0, 1e9))


@given(SAMPLES, ANY_LIMITS, BASELINES)
def test_the_verdict_is_the_worst_finding(sample: LoadSample, limits: LoadLimits, baseline: dict[str, float]) -> None:
    """Findings come worst first, each signal once, and normal means that all that is limited is known and within."""
    assessment = assess(sample, limits, baseline)
    severities = [finding.level.severity for finding in assessment.findings]
    assert severities == sorted(severities, reverse=True)
    assert assessment.level is assessment.deciding.level
    assert sorted(finding.signal for finding in assessment.findings) == sorted(name for name, _ in limits)
    held = limits_for(limits, sample.absent)  # those that a server of this kind can be held to
    within = [is_within(sample.values.get(name, nan), limit, name, baseline) for name, limit in held if limit]
    assert (assessment.level is LoadLevel.NORMAL) == all(within)
    assert assessment.is_below(1.0) == all(within)
    json.dumps([finding.to_dict() for finding in assessment.findings], allow_nan=False)


def is_within(value: float, limit: Limit, name: str, baseline: dict[str, float]) -> bool:
    """Whether a value is known to be at most ``max``, and ``critical``."""
    if not limit.relative:
        return value <= limit.max
    if name not in baseline:
        return False
    times = [times for times in (limit.max_times, limit.critical_times) if times is not None]
    base = max(baseline[name], SIGNALS[name].least)
    return value <= min(limit.max, limit.critical, *(factor * base for factor in times))


def test_relief_needs_every_limited_signal() -> None:
    """Well below means known and at most the fraction of max, in all that is limited."""
    limits = LoadLimits(commit_latency="20ms", wal_rate="30MB/s")
    assert judged(limits, commit_latency=0.0139, wal_rate=21e6).is_below(0.7)
    assert not judged(limits, commit_latency=0.0141, wal_rate=21e6).is_below(0.7)
    assert not judged(limits, commit_latency=0.0139, wal_rate=22e6).is_below(0.7)
    assert not judged(limits, commit_latency=0.001).is_below(0.7)


# What people read


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"commit_latency": 0.031}, "commit latency 31.0 ms > 25.0 ms"),
        ({"commit_latency": 0.0123}, "commit latency 12.3 ms ≤ 25.0 ms"),
        ({"commit_latency": 0.25}, "commit latency 250.0 ms > critical 100.0 ms"),
        ({"commit_latency": 2.5}, "commit latency 2.50 s > critical 100.0 ms"),
        ({"commit_latency": 0.0250001}, "commit latency just over 25.0 ms"),
        ({"commit_latency": 0.1000001}, "commit latency just over critical 100.0 ms"),
        ({}, "commit latency unknown (not measured)"),
    ],
)
def test_latency_explains_itself(values: dict[str, float], text: str) -> None:
    """Value, threshold and which of both it was held against; never a number above itself."""
    assert str(judged(LoadLimits(), **values).deciding) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("wal_rate", 42.5e6, "WAL written 42.5MB/s > 30MB/s"),
        ("wal_rate", 30.01e6, "WAL written just over 30MB/s"),
        ("wal_rate", 12_345.678, "WAL written 12.3kB/s ≤ 30MB/s"),
        ("wal_rate", 120e6, "WAL written 120MB/s > critical 90MB/s"),
        ("tuple_rate", 5000.4, "tuples written just over 5000/s"),
        ("tuple_rate", 123.6, "tuples written 124/s ≤ 5000/s"),
        ("commit_rate", 900.0, "commits 900/s > 800/s"),
    ],
)
def test_rates_explain_themselves(name: str, value: float, text: str) -> None:
    """Rates are shown in their own units."""
    finding = next(f for f in judged(ALL_LIMITS, **{**QUIET, name: value}).findings if f.signal == name)
    assert str(finding) == text


def test_the_other_signals_explain_themselves() -> None:
    """Sizes, counts per second and minute, and plain counts, each with the name that people know it by."""
    texts = {finding.signal: str(finding) for finding in judged(ALL_LIMITS, **HIGH).findings}
    assert list(texts.values())[4:] == [
        "WAL per transaction 30kB > 20kB",
        "full-page images 900/s > 500/s",
        "requested checkpoints 3/min > 2/min",
        "replication lag 100MB > 64MB",
        "WAL retained by a slot 2GB > 1GB",
        "sessions waiting for I/O 9 > 8",
        "sessions waiting for a lock 6 > 5",
        "time to read a block 10.0 ms > 5.0 ms",
        "active sessions 50 > 40",
        "read latency 30.0 ms > 25.0 ms",
        "replay lag 40.00 s > 30.00 s",
        "queue length 2000 > 1000",
    ]


def test_the_whole_verdict_in_words() -> None:
    """Level first, the deciding signal next; what has no limit is not said, and is among the findings."""
    assessment = judged(LoadLimits(wal_rate="30MB/s"), commit_latency=0.002, wal_rate=42.5e6, commit_rate=900.0)
    assert str(assessment) == "load high: WAL written 42.5MB/s > 30MB/s; commit latency 2.0 ms ≤ 25.0 ms"
    others = {finding.signal: str(finding) for finding in assessment.findings[2:]}
    assert others["commit_rate"] == "commits 900/s (no limit)"
    assert others["tuple_rate"] == "tuples written unknown (not measured)"


def test_plain_findings_are_json() -> None:
    """JSON knows no infinity: a critical limit that is not set is null, and a limit that is not set is absent."""
    high, other, *_ = (
        finding.to_dict() for finding in judged(LoadLimits(commit_latency="20ms"), commit_latency=0.031).findings
    )
    assert json.loads(json.dumps(high, allow_nan=False)) == {
        "signal": "commit_latency",
        "level": "high",
        "value": 0.031,
        "max": 0.02,
        "critical": None,
        "text": "commit latency 31.0 ms > 20.0 ms",
    }
    assert other == {
        "signal": "wal_rate",
        "level": "normal",
        "value": None,
        "text": "WAL written unknown (not measured)",
    }
    critical = judged(LoadLimits(), commit_latency=0.2).deciding.to_dict()
    assert (critical["max"], critical["critical"], critical["level"]) == (0.025, 0.1, "critical")


def test_levels_are_ordered_by_harm() -> None:
    """Unknown is worse than high: what cannot be seen may be anything."""
    assert sorted(LoadLevel, key=lambda level: level.severity) == [
        LoadLevel.NORMAL,
        LoadLevel.HIGH,
        LoadLevel.UNKNOWN,
        LoadLevel.CRITICAL,
    ]
