"""Waits in the triggerer until the load of a database has been below its limits for long enough."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.load import LoadLevel
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook

_LOG_SECONDS = 15.0


class WriteLoadTrigger(BaseTrigger):
    """Fires once with what the gate saw when it opened; the deadline is kept by the deferral's timeout.

    :param plan: :meth:`BackupPlan.to_dict` of the plan. No password is among it: the connection is looked up
        wherever the trigger runs.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__()
        self.plan = plan

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that is needed to run anew elsewhere; the wait for quiet then begins anew, too."""
        return (f"{type(self).__module__}.{type(self).__qualname__}", {"plan": self.plan})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every two seconds; log changes at once, and the rest every 15 s."""
        from airflow_backup_guard.engine.gate import watch_load

        plan = BackupPlan.from_dict(self.plan)
        dsn = await BackupGuardHook(plan).async_dsn()
        logged_at, logged_level = 0.0, LoadLevel.NORMAL
        async for reading in watch_load(plan, dsn):
            level = reading.assessment.level
            if reading.opened or level is not logged_level or time.monotonic() - logged_at > _LOG_SECONDS:
                self.log.info("%s", reading)
                logged_at, logged_level = time.monotonic(), level
            if reading.opened:
                yield TriggerEvent(reading.to_dict())
                return
