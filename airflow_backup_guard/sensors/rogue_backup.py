"""The watchdog as a sensor: opens when a backup runs that is neither ours nor allowed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.sensors.gate import Gate

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger


class RogueBackupSensor(Gate):
    """Waits until a backup runs against the plan's database that is surely or probably one, is not ours, and that no
    rule of ``plan.watchdog`` allows. Returns ``rogues``: what is known of each, as plain values.

    Fails at once where the role cannot see what others do: that must not look like peace.
    """

    def look(self, context: Context) -> tuple[bool, dict[str, Any]]:
        """One look, of some milliseconds."""
        from airflow_backup_guard.core.rogue_text import seen
        from airflow_backup_guard.engine.watchdog import look, refuse_blind

        hook = BackupGuardHook(self.plan)
        sighting = asyncio.run(look(hook.dsn(), self.plan, hook.repository()))
        refuse_blind(sighting)
        return bool(sighting.rogues), seen(sighting)

    def waiting(self) -> BaseTrigger:
        """Until one runs."""
        from airflow_backup_guard.triggers.rogue_backup import RogueBackupTrigger

        return RogueBackupTrigger(plan=self.plan.to_dict())
