"""Looks which backups run against a server, once or over time, and holds them against plan and repository."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from airflow_backup_guard.core.activity import Activity
from airflow_backup_guard.core.backup import Snapshot
from airflow_backup_guard.core.calendar import Because
from airflow_backup_guard.core.load import LoadSample, baseline_of
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.rogue import Sighting, claims, recognise, with_rates
from airflow_backup_guard.core.surge import surge
from airflow_backup_guard.core.watchdog import with_allowed
from airflow_backup_guard.engine import catalog, control
from airflow_backup_guard.engine.ical import with_sources_read
from airflow_backup_guard.errors import BackupGuardError, BackupMissing, BackupNotRunning, SourceUnsuitable
from airflow_backup_guard.postgres.activity import ActivityProbe
from airflow_backup_guard.postgres.probe import LoadProbe
from airflow_backup_guard.repository.base import Repository

EVERY_SECONDS = 2.0
"""How often a watch looks. One look takes the server some 3 ms."""

_BASELINE_SAMPLES = 150  # five minutes of them
_READ_SECONDS = 300.0  # calendars of others do not change from one second to the next


async def look(
    dsn: str, plan: BackupPlan | None = None, repository: Repository | None = None, *, seconds: float = 0.0
) -> Sighting:
    """One look, or two that are ``seconds`` apart, which tell how fast each backup goes.

    Raises :class:`SourceUnavailable`, :class:`SourceBusy` or :class:`SourceUnsuitable` if the server cannot be asked,
    but not for what the role may not see: that is ``blind`` in the answer.
    """
    plan = None if plan is None else await _with_sources_read(plan)
    async with ActivityProbe(dsn) as probe:
        before = activity = await probe.look()
        if seconds:
            await asyncio.sleep(seconds)
            activity = await probe.look()
        return await asyncio.to_thread(_sight, activity, plan, repository, before)


async def look_with_load(
    dsn: str, plan: BackupPlan | None = None, repository: Repository | None = None, *, seconds: float = 1.0
) -> tuple[Sighting, LoadSample]:
    """:func:`look` at backups, and at the load meanwhile, whatever causes it."""

    async def load() -> LoadSample:
        async with LoadProbe(dsn, timeout=seconds + 1) as probe:
            await probe.sample()  # a rate is the difference of two samples
            await asyncio.sleep(seconds)
            return await probe.sample()

    sighting, sample = await asyncio.gather(look(dsn, plan, repository, seconds=seconds), load())
    return sighting, sample


async def watch(
    plan: BackupPlan, dsn: str, repository: Repository | None = None, *, every: float = EVERY_SECONDS
) -> AsyncGenerator[Sighting, None]:
    """A sighting every two seconds, without end; close it (``aclosing``). A server that cannot be asked is one, too:
    it sees nothing, and its ``blind`` says why."""
    samples: deque[LoadSample] = deque(maxlen=_BASELINE_SAMPLES)
    before: Activity | None = None
    read_at, read = time.monotonic(), await _with_sources_read(plan)
    async with ActivityProbe(dsn) as probe, LoadProbe(dsn) as load:
        while True:
            began = time.monotonic()
            if began - read_at > _READ_SECONDS:
                read_at, read = began, await _with_sources_read(plan)
            try:
                activity, sample = await asyncio.gather(probe.look(), load.sample())
                sighting = await asyncio.to_thread(_sight, activity, read, repository, before)
                if not sighting.backups and (found := surge(activity, sample, baseline_of(samples))):
                    sighting = replace(sighting, backups=(found,))
                samples.append(sample)
                before = activity
            except BackupGuardError as error:
                sighting = Sighting(datetime.now(timezone.utc), "", blind=(str(error),))
                before = None
            yield sighting
            await asyncio.sleep(max(0.0, began + every - time.monotonic()))


def refuse_blind(sighting: Sighting) -> None:
    """Raise :class:`SourceUnsuitable` if backups may run that cannot be seen: that is never "none runs"."""
    if sighting.blind:
        raise SourceUnsuitable("Whether a backup runs cannot be seen.", remedy=" ".join(sighting.blind))


def in_window(plan: BackupPlan, now: datetime) -> bool:
    """Whether it is inside of the plan's windows; True if that is not known, as calendars of others may not be. The
    sources of its calendar must have been read."""
    return all(closed.because is Because.UNKNOWN for closed in plan.calendar.why_closed(now))


async def _with_sources_read(plan: BackupPlan) -> BackupPlan:
    return await asyncio.to_thread(with_sources_read, plan, datetime.now(timezone.utc))


def _sight(
    activity: Activity, plan: BackupPlan | None, repository: Repository | None, before: Activity | None
) -> Sighting:
    proven = None if repository is None else _proven(repository, activity, claims(activity))
    backups = recognise(activity, proven)
    if before is not None and before is not activity:
        backups = with_rates(backups, before, activity)
    inside = True if plan is None else in_window(plan, activity.at)
    if plan is not None:
        backups = with_allowed(backups, plan.watchdog, inside)
    return Sighting(
        at=activity.at,
        role=activity.role,
        backups=backups,
        blind=activity.blind,
        in_window=inside,
        may_end=activity.may_end,
        superuser=activity.superuser,
        works=activity.works,
    )


def _proven(repository: Repository, activity: Activity, claimed: Sequence[str]) -> frozenset[str] | None:
    """The ids that the repository knows of, as open or just become whole; None if it cannot be asked."""
    proven = set()
    try:
        for backup_id in claimed:
            if _cluster_of(repository, backup_id) == activity.system_identifier:
                proven.add(backup_id)
    except BackupGuardError:
        return None
    return frozenset(proven)


def _cluster_of(repository: Repository, backup_id: str) -> str | None:
    try:
        found = control.find(repository, backup_id)
        if isinstance(found, Snapshot):
            return found.cluster.system_identifier
    except BackupNotRunning:
        pass
    try:
        return catalog.find(repository, backup_id).snapshot.cluster.system_identifier
    except BackupMissing:
        return None
