"""Watches the live load of a database until it has been quiet for long enough."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from airflow_backup_guard.core.gate import GateReading, Quiet
from airflow_backup_guard.core.load import LoadLevel
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.engine.shared_probe import shared_load


async def watch_load(plan: BackupPlan, dsn: str, load_dsn: str | None = None) -> AsyncGenerator[GateReading, None]:
    """A reading a second, without end; the first that says ``opened`` is the answer. Close it (``aclosing``).

    ``load_dsn`` leads to the plan's load connection, if it has one: then both servers are measured, as for the copy.
    All gates of an event loop on the same database share one probe. The baseline of relative limits is the median of
    the last five minutes, as far as they were watched: before a copy they hold back a load that rises, and not one that
    is as it always is.
    """
    quiet = Quiet()
    async with shared_load(dsn, plan.limits.custom, load_dsn) as load:
        while True:
            sample = await load.sample()
            assessment = load.assess(plan.limits)
            quiet = quiet.after(assessment, sample.taken_at)
            opened = quiet.since is not None and quiet.lasted >= plan.quiet_for
            yield GateReading(opened, assessment, quiet, plan.quiet_for)


async def look(plan: BackupPlan, dsn: str, load_dsn: str | None = None) -> GateReading:
    """One look at the gate: ends as soon as it opens, or a sample shows that it does not now."""
    async with aclosing(watch_load(plan, dsn, load_dsn)) as readings:
        async for reading in readings:
            if reading.opened or reading.assessment.level is not LoadLevel.NORMAL:
                return reading
    raise AssertionError("watch_load has no end")
