"""Watches the live load of a database until it has been quiet for long enough."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from airflow_backup_guard.core.gate import GateReading, Quiet
from airflow_backup_guard.core.load import LoadLevel, LoadSample, assess, baseline_of
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.postgres.probe import LoadProbe

_SAMPLE_SECONDS = 2.0
_BASELINE_SAMPLES = 150


async def watch_load(plan: BackupPlan, dsn: str) -> AsyncIterator[GateReading]:
    """A reading every two seconds, without end; the first that says ``opened`` is the answer.

    The baseline of relative limits is the median of the last five minutes, as far as they were watched: before a copy
    they hold back a load that rises, and not one that is as it always is.
    """
    quiet = Quiet()
    seen: deque[LoadSample] = deque(maxlen=_BASELINE_SAMPLES)
    async with LoadProbe(dsn, custom=plan.limits.custom) as probe:
        # A rate is the difference of two samples, so the first sample cannot be judged yet.
        await probe.sample()
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            sample = await probe.sample()
            seen.append(sample)
            assessment = assess(sample, plan.limits, baseline_of(seen))
            quiet = quiet.after(assessment, sample.taken_at)
            opened = quiet.since is not None and quiet.lasted >= plan.quiet_for
            yield GateReading(opened, assessment, quiet, plan.quiet_for)


async def look(plan: BackupPlan, dsn: str) -> GateReading:
    """One look at the gate: ends as soon as it opens, or a sample shows that it does not now."""
    async for reading in watch_load(plan, dsn):
        if reading.opened or reading.assessment.level is not LoadLevel.NORMAL:
            return reading
    raise AssertionError("watch_load has no end")
