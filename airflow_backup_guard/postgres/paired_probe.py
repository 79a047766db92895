"""Measures two servers as one: a standby that is backed up, and the primary that the limits are about."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType

from airflow_backup_guard.core.limits import CustomSignal
from airflow_backup_guard.core.load import LoadSample, merged
from airflow_backup_guard.postgres.probe import LoadProbe


class PairedProbe:
    """A :class:`LoadProbe` of the source, and if there is a load connection, one of its server; samples are
    :func:`~airflow_backup_guard.core.load.merged`. Never raises for a server that does not answer."""

    def __init__(self, dsn: str, load_dsn: str | None, *, custom: tuple[tuple[str, CustomSignal], ...] = ()) -> None:
        """``custom`` is asked of the server that the limits are about."""
        self._load = LoadProbe(load_dsn or dsn, custom=custom)
        self._source = self._load if load_dsn in (None, dsn) else LoadProbe(dsn)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> PairedProbe:
        for probe in {self._load, self._source}:
            await self._stack.enter_async_context(probe)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def pending(self) -> tuple[str, float] | None:
        """As :attr:`LoadProbe.pending`, of the server that has kept its probe waiting for longer."""
        pending = [probe.pending for probe in (self._load, self._source) if probe.pending is not None]
        return max(pending, key=lambda one: one[1], default=None)

    @property
    def retained_for_backup(self) -> float | None:
        """As :attr:`LoadProbe.retained_for_backup`, of the source."""
        return self._source.retained_for_backup

    async def sample(self) -> LoadSample:
        """Measure both, at the same time."""
        if self._source is self._load:
            return await self._load.sample()
        source, load = await asyncio.gather(self._source.sample(), self._load.sample())
        return merged(source, load)
