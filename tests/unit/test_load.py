"""How load is judged: limits as plans write them, findings, and the verdict with its reasons."""

from __future__ import annotations

import json
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
    Finding,
    Limit,
    LoadLevel,
    LoadLimits,
    LoadSample,
    assess,
)
from airflow_backup_guard.errors import InvalidPlan

NOW = datetime(2024, 6, 1, 19, tzinfo=timezone.utc)
ALL_LIMITS = LoadLimits(
    commit_latency=("25ms", "100ms"),
    wal_rate=("30MB/s", "90MB/s"),
    tuple_rate=("5000/s", "9000/s"),
    commit_rate=("800/s", "2000/s"),
)
QUIET = {"commit_latency": 0.002, "wal_rate": 1e6, "tuple_rate": 100.0, "commit_rate": 50.0}
HIGH = {"commit_latency": 0.031, "wal_rate": 42.5e6, "tuple_rate": 6000.0, "commit_rate": 900.0}
CRITICAL = {"commit_latency": 0.25, "wal_rate": 120e6, "tuple_rate": 9500.0, "commit_rate": 2500.0}


def judged(limits: LoadLimits, unavailable: dict[str, str] | None = None, **values: float) -> Assessment:
    """Hold values against limits."""
    return assess(LoadSample(NOW, values, unavailable or {}), limits)


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
    ],
)
def test_a_limit_is_read(name: str, value: Any, limit: Limit) -> None:
    """One value sets max only; two set max and critical, in the signal's unit."""
    assert getattr(LoadLimits(**{name: value}), name) == limit


def test_without_a_word_commit_latency_is_limited() -> None:
    """A plan that says nothing is still guarded by the best harm signal, and by nothing that needs tuning."""
    assert dict(LoadLimits()) == {
        "commit_latency": Limit(0.025, 0.1),
        "wal_rate": None,
        "tuple_rate": None,
        "commit_rate": None,
    }


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
    [Limit(0, 1), Limit(-1, 1), Limit(2, 1), Limit(inf, inf), Limit(nan, inf), Limit(1, nan), Limit("1/s", "2/s")],  # type: ignore[arg-type]
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


LATENCIES = limits_of(st.integers(1, 10**12).map(lambda n: timedelta(microseconds=n).total_seconds()))
WAL_RATES = limits_of(st.integers(1, 10**13).map(float))
COUNT_RATES = limits_of(st.floats(1e-9, 1e15))
ANY_LIMITS = (
    st.fixed_dictionaries(
        {
            "commit_latency": st.none() | LATENCIES,
            "wal_rate": st.none() | WAL_RATES,
            "tuple_rate": st.none() | COUNT_RATES,
            "commit_rate": st.none() | COUNT_RATES,
        }
    )
    .filter(lambda values: any(values.values()))
    .map(lambda values: LoadLimits(**values))
)


@given(ANY_LIMITS)
def test_plain_values_lose_nothing(limits: LoadLimits) -> None:
    """What a backup's record keeps as JSON is the very same limits, sub-millisecond and large ones too."""
    assert LoadLimits.from_dict(json.loads(json.dumps(limits.to_dict()))) == limits


def test_plain_values_are_readable() -> None:
    """People read records: values carry their units, and no critical limit is simply not there."""
    limits = LoadLimits(commit_latency=("0.4ms", "2.5ms"), wal_rate="30MB/s", tuple_rate=("1000000/s", "2500000.5/s"))
    assert limits.to_dict() == {
        "commit_latency": ["0.4ms", "2.5ms"],
        "wal_rate": ["30000000B/s"],
        "tuple_rate": ["1000000/s", "2500000.5/s"],
        "commit_rate": None,
    }


def test_a_limit_made_by_hand_is_kept_as_it_is_written() -> None:
    """What is finer than a microsecond would not come back from a record, so it is never there."""
    limits = LoadLimits(commit_latency=Limit(0.0123456789, inf), wal_rate=Limit(1000.4, 2000.0))
    assert limits.commit_latency == Limit(0.012346, inf)
    assert limits.wal_rate == Limit(1000.0, 2000.0)


# The verdict


@pytest.mark.parametrize("name", SIGNALS)
def test_any_single_signal_decides(name: str) -> None:
    """One signal over a limit is enough, whatever the others say, and it comes first."""
    for values, level in ((HIGH, LoadLevel.HIGH), (CRITICAL, LoadLevel.CRITICAL)):
        assessment = judged(ALL_LIMITS, **{**QUIET, name: values[name]})
        assert assessment.level is level
        assert assessment.deciding.signal == name
        assert [finding.level for finding in assessment.findings[1:]] == [LoadLevel.NORMAL] * 3


@pytest.mark.parametrize("name", SIGNALS)
def test_a_missing_signal_is_unknown(name: str) -> None:
    """A limited signal that was not measured is never taken for quiet, nor for merely high."""
    values = {**HIGH}
    del values[name]
    assessment = judged(ALL_LIMITS, {name: "permission denied"}, **values)
    assert assessment.level is LoadLevel.UNKNOWN
    assert assessment.deciding == Finding(name, LoadLevel.UNKNOWN, None, getattr(ALL_LIMITS, name), "permission denied")


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
    """When the probe fails, the reason stands in the verdict."""
    assessment = assess(LoadSample.failed(NOW, "connection refused"), LoadLimits())
    assert assessment.level is LoadLevel.UNKNOWN
    assert str(assessment).startswith("load unknown: commit latency unknown (connection refused); ")


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


@given(SAMPLES, ANY_LIMITS)
def test_the_verdict_is_the_worst_finding(sample: LoadSample, limits: LoadLimits) -> None:
    """Findings come worst first, all four of them, and normal means that all that is limited is known and within."""
    assessment = assess(sample, limits)
    severities = [finding.level.severity for finding in assessment.findings]
    assert severities == sorted(severities, reverse=True)
    assert assessment.level is assessment.deciding.level
    assert {finding.signal for finding in assessment.findings} == set(SIGNALS)
    within = [sample.values.get(name, nan) <= limit.max for name, limit in limits if limit]
    assert (assessment.level is LoadLevel.NORMAL) == all(within)
    assert assessment.is_below(1.0) == all(within)
    json.dumps([finding.to_dict() for finding in assessment.findings], allow_nan=False)


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


def test_the_whole_verdict_in_words() -> None:
    """Level first, the deciding signal next, what has no limit last."""
    assessment = judged(LoadLimits(wal_rate="30MB/s"), commit_latency=0.002, wal_rate=42.5e6, commit_rate=900.0)
    assert str(assessment) == (
        "load high: WAL written 42.5MB/s > 30MB/s; commit latency 2.0 ms ≤ 25.0 ms; "
        "tuples written unknown (not measured); commits 900/s (no limit)"
    )


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
