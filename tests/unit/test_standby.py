"""Limits and samples where the source is a standby, with and without a load connection to its primary."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.load import SIGNALS, Limit, LoadLevel, LoadLimits, LoadSample, assess, limits_for, merged
from airflow_backup_guard.core.signals import OF_PRIMARIES, OF_STANDBYS
from tests.unit.test_load import ANY_LIMITS

NOW = datetime(2024, 6, 1, 19, tzinfo=timezone.utc)
GONE = LoadSample.failed(NOW, "refused")


def sample(absent: frozenset[str], **values: float) -> LoadSample:
    """Everything that such a server has, quiet unless given."""
    quiet = {name: 0.0 for name in SIGNALS if name not in absent}
    missing = {name: f"not {name}" for name in absent}
    return LoadSample(NOW, {**quiet, **values}, missing, absent=absent)


def primary(**values: float) -> LoadSample:
    """A sample of a primary."""
    return sample(OF_STANDBYS, **values)


def standby(**values: float) -> LoadSample:
    """A sample of a standby."""
    return sample(OF_PRIMARIES, **values)


def held(limits: LoadLimits, absent: frozenset[str]) -> dict[str, Limit]:
    """The limits that hold, by name."""
    return {name: limit for name, limit in limits_for(limits, absent) if limit is not None}


# Limits


def test_a_plan_that_says_nothing_is_guarded_on_a_standby_too() -> None:
    """By what reads and replay feel, in place of commits."""
    assert held(LoadLimits(), OF_PRIMARIES) == {"read_latency": Limit(0.025, 0.1), "replay_lag": Limit(30.0, 300.0)}
    assert held(LoadLimits(), OF_STANDBYS) == {"commit_latency": Limit(0.025, 0.1)}
    both = {"commit_latency", "read_latency", "replay_lag"}
    assert set(held(LoadLimits(), frozenset())) == both


def test_what_a_plan_says_of_a_standby_holds() -> None:
    """A standby that replays late on purpose needs that."""
    limits = LoadLimits(read_latency="5ms", replay_lag=("2h", "3h"), wal_rate="5MB/s", tuple_rate="10/s")
    assert held(limits, OF_PRIMARIES) == {
        "wal_rate": Limit(5e6),
        "read_latency": Limit(0.005),
        "replay_lag": Limit(7200.0, 10800.0),
    }
    assert held(limits, OF_STANDBYS) == {
        "commit_latency": Limit(0.025, 0.1),
        "wal_rate": Limit(5e6),
        "tuple_rate": Limit(10.0),
    }


def test_a_plan_for_a_standby_alone_still_guards_a_primary() -> None:
    """After a failover the same connection may lead to one."""
    limits = LoadLimits(commit_latency=None, read_latency="5ms")
    assert held(limits, OF_STANDBYS) == {"commit_latency": Limit(0.025, 0.1)}


@given(ANY_LIMITS, st.sampled_from([OF_PRIMARIES, OF_STANDBYS]))
def test_load_is_never_unknown_merely_for_what_a_server_is(limits: LoadLimits, absent: frozenset[str]) -> None:
    """Whatever a plan limits: where all is measured that there is, nothing is unknown; and something is held always."""
    custom = {f"custom.{name}": 0.0 for name, _ in limits.custom}
    found = assess(sample(absent, **custom), limits, dict.fromkeys([*SIGNALS, *custom], 1.0))
    assert found.level is LoadLevel.NORMAL
    assert any(finding.limit for finding in found.findings)


@given(ANY_LIMITS, st.sampled_from([OF_PRIMARIES, OF_STANDBYS]))
def test_what_should_be_there_and_is_not_is_unknown(limits: LoadLimits, absent: frozenset[str]) -> None:
    """Of a standby as of a primary."""
    assert assess(LoadSample(NOW, absent=absent), limits).level is LoadLevel.UNKNOWN


# Two servers in one sample


def test_a_standby_and_its_primary_are_one_sample() -> None:
    """What only a standby has is the source's, all else the primary's; nothing is dropped from the limits."""
    earlier = LoadSample(NOW - timedelta(seconds=1), {"commit_latency": 0.002, "custom.queue": 7.0, "wal_rate": 5.0})
    one = merged(standby(read_latency=0.004, replay_lag=3.0, wal_rate=99.0), earlier)
    assert one.values == {
        "commit_latency": 0.002,
        "custom.queue": 7.0,
        "wal_rate": 5.0,
        "read_latency": 0.004,
        "replay_lag": 3.0,
    }
    assert one.taken_at == earlier.taken_at
    assert one.absent == frozenset()
    assert one.latency == "read_latency"


@pytest.mark.parametrize(
    ("source", "load", "level"),
    [
        (standby(), primary(), LoadLevel.NORMAL),
        (standby(), primary(commit_latency=0.2), LoadLevel.CRITICAL),
        (standby(read_latency=0.2), primary(), LoadLevel.CRITICAL),
        (standby(replay_lag=60.0), primary(), LoadLevel.HIGH),
        (standby(), GONE, LoadLevel.UNKNOWN),
        (GONE, primary(), LoadLevel.UNKNOWN),
        (GONE, GONE, LoadLevel.UNKNOWN),
        (standby(), standby(read_latency=0.2), LoadLevel.NORMAL),
        (primary(), primary(), LoadLevel.NORMAL),
        (primary(commit_latency=0.2), primary(), LoadLevel.CRITICAL),
        (primary(commit_latency=0.2), standby(), LoadLevel.CRITICAL),
        (primary(), standby(), LoadLevel.NORMAL),
        (primary(), GONE, LoadLevel.UNKNOWN),
    ],
)
def test_either_server_decides(source: LoadSample, load: LoadSample, level: LoadLevel) -> None:
    """One that does not answer is never quiet, whichever it is."""
    assert assess(merged(source, load), LoadLimits()).level is level


def test_a_load_connection_that_fails_says_so() -> None:
    """The reason is that of its server."""
    found = assess(merged(standby(), GONE), LoadLimits())
    assert str(found.deciding) == "commit latency unknown (load connection: refused)"
    assert merged(standby(), GONE).missing == "load connection: refused"


def test_a_source_that_fails_is_told_from_the_load_connection() -> None:
    """And is not taken for a primary, which has no read latency."""
    found = assess(merged(GONE, primary()), LoadLimits())
    assert str(found.deciding) == "read latency unknown (refused)"
