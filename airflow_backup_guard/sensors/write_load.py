"""The gate on the live load: opens once writes and commits have been below the plan's limits for long enough."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.sensors.gate import Gate

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger


class WriteLoadSensor(Gate):
    """Waits until the load was below ``plan.limits`` for ``plan.quiet_for``. Returns each signal against its limit.

    A load that cannot be measured keeps the gate closed.
    """

    def look(self) -> tuple[bool, dict[str, Any]]:
        """Watch until it has been quiet for long enough, or a sample shows that it is not."""
        from airflow_backup_guard.engine.gate import look

        reading = asyncio.run(look(self.plan, BackupGuardHook(self.plan).dsn()))
        return reading.opened, reading.to_dict()

    def waiting(self) -> BaseTrigger:
        """Until it has been quiet for long enough."""
        from airflow_backup_guard.triggers.write_load import WriteLoadTrigger

        return WriteLoadTrigger(plan=self.plan.to_dict())
