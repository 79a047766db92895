"""Waits in the triggerer until the load of a database has been below its limits for long enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime, timezone
from importlib import import_module
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.gate import LogRhythm
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook


class WriteLoadTrigger(BaseTrigger):
    """Fires once, with what the gate saw: when it opens, or at ``look_at``, closed, for its task to look again.

    All triggers of one triggerer on the same database share one probe. The deadline is kept by the deferral's timeout.

    :param plan: :meth:`BackupPlan.to_dict` of the plan. No password is among it: the connection is looked up
        wherever the trigger runs.
    :param look_at: a moment in ISO format
    """

    def __init__(self, plan: dict[str, Any], look_at: str | None = None) -> None:
        super().__init__()
        self.plan = plan
        self.look_at = look_at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that is needed to run anew elsewhere; the wait for quiet then begins anew, too."""
        kwargs = {"plan": self.plan, "look_at": self.look_at}
        return (f"{type(self).__module__}.{type(self).__qualname__}", kwargs)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look once a second; log changes, and a line a minute."""
        # Not in the event loop, which other triggers wait for.
        gate = await asyncio.to_thread(import_module, "airflow_backup_guard.engine.gate")
        plan = BackupPlan.from_dict(self.plan)
        look_at = datetime.fromisoformat(self.look_at) if self.look_at else None
        rhythm = LogRhythm()
        hook = BackupGuardHook(plan)
        watched = gate.watch_load(plan, await hook.async_dsn(), await hook.async_load_dsn())
        async with aclosing(watched) as readings:
            async for reading in readings:
                now = datetime.now(timezone.utc)
                if rhythm.is_due(reading, now):
                    self.log.info("%s", reading)
                    rhythm = rhythm.after(reading, now)
                if reading.opened or (look_at is not None and now >= look_at):
                    yield TriggerEvent(reading.to_dict())
                    return
