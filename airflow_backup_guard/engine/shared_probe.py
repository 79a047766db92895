"""One probe for each database, however many gates of an event loop wait for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from weakref import WeakKeyDictionary

from airflow_backup_guard.core.limits import CustomSignal
from airflow_backup_guard.core.load import Assessment, LoadLimits, LoadSample, assess, baseline_of
from airflow_backup_guard.postgres.custom_signals import CustomProbe
from airflow_backup_guard.postgres.paired_probe import PairedProbe

SAMPLE_SECONDS = 1.0
"""From the start of a sample to that of the next, at least."""

_BASELINE_SAMPLES = 300
_log = logging.getLogger(__name__)

Custom = tuple[tuple[str, CustomSignal], ...]


@asynccontextmanager
async def shared_load(dsn: str, custom: Custom = (), load_dsn: str | None = None) -> AsyncIterator[SharedLoad]:
    """The load of a database, measured once a second for all who ask for it in this event loop.

    There is one session for each ``dsn`` (two with a ``load_dsn``, which leads to the server that the limits are
    about), and one more for each ``custom``, the signals of a plan's own. They end when the last who needs them leaves,
    also by an error or a cancellation.
    """
    key = (dsn, load_dsn)
    databases = _databases.setdefault(asyncio.get_running_loop(), {})
    database = databases.get(key)
    if database is None:
        database = databases[key] = _Database(dsn, load_dsn)
    load = database.join(custom)
    try:
        yield load
    finally:
        if database.leave(load):
            del databases[key]
            await database.end()


class SharedLoad:
    """What is measured for plans with the same signals of their own; each gate judges it by limits of its own."""

    def __init__(self, dsn: str, custom: Custom) -> None:
        self.custom = custom
        self.watchers = 0
        self.probe = CustomProbe(dsn, custom)
        self._next = asyncio.Event()
        self._seen: deque[LoadSample] = deque(maxlen=_BASELINE_SAMPLES)
        self._judged: _Judged | None = None

    async def sample(self) -> LoadSample:
        """The next sample, within a second or so; never raises for a database that cannot be asked."""
        await self._next.wait()
        return self._seen[-1]

    def assess(self, limits: LoadLimits) -> Assessment:
        """Hold the last sample against these limits; the baseline is the median of the last five minutes, as far as
        anybody has watched them."""
        if self._judged is None:
            self._judged = _Judged(self._seen[-1])
        return self._judged.by(limits, self._seen)

    async def publish(self, sample: LoadSample) -> None:
        """Hand a sample to all who wait for one, together with the answers to their own queries."""
        if self.custom:
            values, unavailable = await self.probe.answers()
            sample = replace(
                sample,
                values={**sample.values, **values},
                unavailable={**sample.unavailable, **unavailable},
            )
        self._seen.append(sample)
        self._judged = None
        woken, self._next = self._next, asyncio.Event()
        woken.set()


@dataclass
class _Judged:
    """Verdicts over one sample, each made once, as most gates of a database have the same limits."""

    sample: LoadSample
    baseline: dict[str, float] | None = None
    verdicts: dict[LoadLimits, Assessment] = field(default_factory=dict)

    def by(self, limits: LoadLimits, seen: deque[LoadSample]) -> Assessment:
        verdict = self.verdicts.get(limits)
        if verdict is None:
            if self.baseline is None and any(limit is not None and limit.relative for _, limit in limits):
                self.baseline = baseline_of(seen)
            verdict = self.verdicts[limits] = assess(self.sample, limits, self.baseline)
        return verdict


class _Database:
    """A task of its own that measures: whoever is cancelled, the others go on, and only it touches the sessions."""

    def __init__(self, dsn: str, load_dsn: str | None) -> None:
        self._dsn = dsn
        self._load_dsn = load_dsn
        self._loads: dict[Custom, SharedLoad] = {}
        self._left: list[SharedLoad] = []
        # In an empty context: what it logs concerns all gates, and not the one that came first.
        self._task = Context().run(asyncio.create_task, self._run(), name="backup-guard-shared-probe")

    def join(self, custom: Custom) -> SharedLoad:
        load = self._loads.get(custom)
        if load is None:
            load = self._loads[custom] = SharedLoad(self._load_dsn or self._dsn, custom)
        load.watchers += 1
        return load

    def leave(self, load: SharedLoad) -> bool:
        """True when nobody is left."""
        load.watchers -= 1
        if not load.watchers:
            self._left.append(self._loads.pop(load.custom))
        return not self._loads

    async def end(self) -> None:
        """Close the sessions; whoever is cancelled meanwhile leaves that to the task."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            async with PairedProbe(self._dsn, self._load_dsn) as probe:
                # A rate is the difference of two samples, so the first sample cannot be judged yet.
                await self._second(probe, publish=False)
                while True:
                    await self._second(probe, publish=True)
        finally:
            self._left += self._loads.values()
            await self._close_left()

    async def _second(self, probe: PairedProbe, *, publish: bool) -> None:
        began = time.monotonic()
        for load in self._loads.values():
            load.probe.ask()
        try:
            sample = await probe.sample()
        except Exception as error:  # what is unknown keeps gates closed; a probe that is gone would leave them waiting
            _log.exception("The load could not be measured")
            sample = LoadSample.failed(datetime.now(timezone.utc), repr(error))
        if publish:
            for load in list(self._loads.values()):
                await load.publish(sample)
        await self._close_left()
        await asyncio.sleep(max(0.0, began + SAMPLE_SECONDS - time.monotonic()))

    async def _close_left(self) -> None:
        while self._left:
            await self._left.pop().probe.close()


_Key = tuple[str, str | None]
_databases: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, _Database]] = WeakKeyDictionary()
