"""Looks at the load of a database for a while, once a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.postgres.probe import LoadProbe

_SPACING_SECONDS = 1.0
_SLICE_SECONDS = 0.1


async def sampled(dsn: str, seconds: float, stop: Stop) -> AsyncIterator[LoadSample]:
    """A sample a second for ``seconds``, at least one; ends early, and without an error, once ``stop`` is requested."""
    async with LoadProbe(dsn) as probe:
        await probe.sample()  # a rate is the difference of two samples
        until = time.monotonic() + seconds
        while not stop.requested:
            next_at = time.monotonic() + _SPACING_SECONDS
            while time.monotonic() < next_at and not stop.requested:
                await asyncio.sleep(_SLICE_SECONDS)
            yield await probe.sample()
            if time.monotonic() >= until:
                return
