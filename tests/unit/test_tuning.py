"""Limits that are proposed from what was seen."""

from __future__ import annotations

from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.limits import LoadLimits
from airflow_backup_guard.core.load import LoadLevel, LoadSample, assess
from airflow_backup_guard.core.tuning import Observations, toml

NOW = datetime(2024, 6, 1, tzinfo=timezone.utc)


def observed(*samples: dict[str, float], unavailable: dict[str, str] | None = None) -> Observations:
    """All of these, a second apart or not: nobody looks."""
    observations = Observations()
    for values in samples:
        observations.add(LoadSample(NOW, values, unavailable or {}))
    return observations


def test_limits_are_round_and_well_above_what_was_seen() -> None:
    """Twice the 99th percentile, four times that; and never for what nobody feels."""
    samples = [{"commit_latency": 0.004, "wal_rate": 7e6}] * 99 + [{"commit_latency": 0.2, "wal_rate": 7e6}]
    proposal = observed(*samples).propose()
    assert proposal.limits == {"commit_latency": ("8ms", "40ms"), "wal_rate": ("15000000B/s", "60000000B/s")}
    assert observed({"commit_latency": 0.0001}).propose().limits == {"commit_latency": ("5ms", "20ms")}
    standby = observed({"read_latency": 0.0001, "replay_lag": 0.0}).propose().limits
    assert standby == {"read_latency": ("5ms", "20ms"), "replay_lag": ("30s", "2min 30s")}


def test_what_was_not_measured_is_named() -> None:
    """A signal without a value has its reason, and one that came and went is not missing."""
    observations = observed({"commit_latency": 0.001}, unavailable={"io_waits": "needs pg_monitor"})
    observations.add(LoadSample.failed(NOW, "no answer"))
    proposal = observations.propose()
    assert proposal.missing["io_waits"] == "no answer"
    assert "commit_latency" not in proposal.missing
    assert proposal.is_guess


SAMPLES = st.fixed_dictionaries({"commit_latency": st.floats(0, 60), "wal_rate": st.floats(0, 1e12)})


@given(st.lists(SAMPLES, min_size=1, max_size=80))
def test_a_plan_takes_what_is_proposed_and_is_quiet_at_what_was_usual(samples: list[dict[str, float]]) -> None:
    """The table reads back as limits, and a sample at the median of each signal is normal under them."""
    proposal = observed(*samples).propose()
    limits = LoadLimits.from_dict({name: list(pair) for name, pair in proposal.limits.items()})
    usual = {seen.signal: seen.p50 for seen in proposal.seen}
    assert assess(LoadSample(NOW, usual), limits).level is LoadLevel.NORMAL
    assert all(name in toml(proposal.limits) for name in proposal.limits)
