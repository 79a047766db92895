"""A worker whose clock is set while it works: forwards, backwards, by a second or by years."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import LoadLimits
from airflow_backup_guard.core.catalog import BackupSummary
from airflow_backup_guard.core.gate import Quiet
from airflow_backup_guard.core.load import LoadSample, assess
from airflow_backup_guard.core.outlook import Outlook
from airflow_backup_guard.core.pace import Pace
from airflow_backup_guard.core.retention import RetentionPolicy, decide
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog, copy, throttle
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.telemetry import Telemetry
from airflow_backup_guard.postgres import probe
from airflow_backup_guard.postgres.server import LocalServer
from tests.faults.left import assert_verified, ours_in, wait_for_nothing_of_ours
from tests.integration.guarded import CopyInFlight, plan_for

NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)
LIMITS = LoadLimits(commit_latency=("25ms", "100ms"))
JUMPS = st.sampled_from([0, 0, 0, 0, 1, 30, 3600, 10**8, -1, -30, -3600, -(10**8)])


def normal(now: datetime) -> LoadSample:
    """A quiet database."""
    return LoadSample(now, {"commit_latency": 0.001})


@given(st.lists(JUMPS, max_size=60), st.integers(5, 40))
def test_no_jump_makes_a_gate_open_early(jumps: list[int], wanted: int) -> None:
    """What counts as quiet is never longer than the samples that saw it, but for jumps that no sample can tell from
    slow sampling (15 s at most each)."""
    quiet, now = Quiet(), NOON
    unseen = 0
    for real, jump in enumerate(jumps, 1):
        now += timedelta(seconds=1 + jump)
        unseen += jump if 0 < jump <= 14 else 0
        quiet = quiet.after(assess(normal(now), LIMITS), now)
        assert timedelta(0) <= quiet.lasted <= timedelta(seconds=real + unseen)
    for _ in range(wanted + 1):
        now += SECOND
        quiet = quiet.after(assess(normal(now), LIMITS), now)
    assert quiet.lasted >= timedelta(seconds=wanted), "a gate opens soon after the last jump, whichever way it was"


@given(st.lists(JUMPS, min_size=1, max_size=60))
def test_no_jump_silences_the_telemetry(jumps: list[int]) -> None:
    """A line a second is kept, whatever the clock says."""
    telemetry, now = Telemetry(), NOON
    for jump in jumps:
        now += timedelta(seconds=1 + jump)
        telemetry.add(now, "during", assess(normal(now), LIMITS), Pace.start(1e6, 1e6), 0, None)
    assert len(telemetry.take().splitlines()) >= len(jumps) - sum(jump == -1 for jump in jumps)


@given(st.lists(JUMPS, max_size=60))
def test_no_jump_spoils_a_forecast_for_long(jumps: list[int]) -> None:
    """Three minutes after the last jump it is right again."""
    outlook, now, done = Outlook(NOON + timedelta(days=10**5)), NOON, 0
    for jump in [*jumps, *[0] * 240]:
        now += timedelta(seconds=1 + jump)
        done += 1_000_000
        outlook.add(now, done, 60_000_000)
    assert outlook.finish is not None
    assert abs(outlook.finish - now - timedelta(seconds=60)) < timedelta(seconds=5)


def summary(taken_at: datetime, number: int, verdict: Verdict | None) -> BackupSummary:
    """A backup as a listing has it."""
    return BackupSummary("shop", f"{taken_at:%Y%m%dT%H%M%SZ}-{number:04x}", taken_at, 1, 1, 1.0, 180000, False, verdict)


@given(
    st.lists(st.tuples(st.integers(-400, 400), st.sampled_from([None, *Verdict])), min_size=1, max_size=12),
    st.integers(-400, 400),
)
def test_no_jump_costs_the_last_good_backup(made: list[tuple[int, Verdict | None]], jump: int) -> None:
    """However wrong the clock is that an expiry goes by: the newest and the newest verified of what it takes for past
    stay, and so does all that it takes for future."""
    backups = [summary(NOON + timedelta(days=days), number, verdict) for number, (days, verdict) in enumerate(made)]
    now = NOON + timedelta(days=jump)
    decisions = decide(RetentionPolicy(keep_last=1), backups, timezone.utc, now)
    kept = {one.backup.backup_id for one in decisions if one.keep}
    past = [one for one in backups if one.taken_at <= now]
    for some in (past, [one for one in past if one.trust == 2]):
        if some:
            assert max(some, key=lambda one: (one.taken_at, one.backup_id)).backup_id in kept
    assert {one.backup_id for one in backups if one.taken_at > now} <= kept


class Jumping(datetime):
    """The clock of a worker, which can be set."""

    offset = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """What the worker takes for now."""
        return datetime.now(tz) + cls.offset


@pytest.mark.parametrize("days", [400, -400])
def test_a_copy_during_which_the_clock_is_set(
    server: LocalServer, guard_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """No budget is spent by it, the lengths in the record are true, the telemetry goes on, and the backup is good; the
    next expiry, by the right clock again, leaves it alone."""
    before = ours_in(server)
    monkeypatch.setattr(Jumping, "offset", timedelta(0))
    for module in (copy, throttle, probe):
        monkeypatch.setattr(module, "datetime", Jumping)
    plan = plan_for(
        tmp_path / "backups",
        max_rate="5MB/s",
        min_rate="5MB/s",
        max_duration="1h",
        max_pause="1min",
        at_window_end="stop",
    )
    with CopyInFlight(plan, guard_dsn) as copying:
        Jumping.offset = timedelta(days=days)
        copying.end(120)
    assert copying.record is not None, copying.error
    record = copying.record
    assert 0 < record.checkpoint_seconds < record.seconds < 120
    assert all(0 <= pause.seconds < 120 for pause in record.impact.pauses)
    lines = catalog.telemetry(copying.repository, record)
    assert len(lines) >= int(record.seconds) - 1
    assert len({line["time"][:4] for line in lines}) > 1, "the clock was set"
    assert_verified([record], copying.repository)
    expiry = expire(propose(copying.repository, "shop", RetentionPolicy(keep_last=1), "UTC"), copying.repository)
    assert [one.backup.backup_id for one in expiry.kept] == [record.backup_id]
    wait_for_nothing_of_ours(server, before)
