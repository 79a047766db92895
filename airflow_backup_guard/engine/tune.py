"""Watches the load of a database without a backup, to propose a plan's limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.core.tuning import Observations
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.postgres.probe import LoadProbe

_SAMPLE_SECONDS = 1.0
_SLICE_SECONDS = 0.1


async def observe(
    dsn: str, seconds: float, *, stop: Stop, on_sample: Callable[[LoadSample], None] = lambda sample: None
) -> Observations:
    """Sample once a second for ``seconds``, or until ``stop``; what was seen until then is as good as it is long."""
    observations = Observations()
    until = time.monotonic() + seconds
    async with LoadProbe(dsn) as probe:
        while time.monotonic() < until and not stop.requested:
            next_at = time.monotonic() + _SAMPLE_SECONDS
            sample = await probe.sample()
            observations.add(sample)
            on_sample(sample)
            while time.monotonic() < min(next_at, until) and not stop.requested:
                await asyncio.sleep(_SLICE_SECONDS)
    return observations
