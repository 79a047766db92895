"""Watches a database from the triggerer for backups that are neither ours nor allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.rogue_text import plain, seen
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook

if TYPE_CHECKING:
    from airflow_backup_guard.core.rogue import Sighting
    from airflow_backup_guard.repository.base import Repository

_AGAIN_SECONDS = 30.0


class _RogueBackups(BaseTrigger):
    """:param plan: :meth:`BackupPlan.to_dict` of the plan; it has no password in it"""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__()
        self.plan = plan
        self._blind: tuple[str, ...] = ()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that is needed to run anew elsewhere."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"plan": self.plan}

    async def _watch(self, repository: Repository) -> AsyncIterator[Sighting]:
        """A sighting every two seconds; what keeps it from seeing is logged whenever that changes."""
        # Not in the event loop, which other triggers wait for.
        watchdog = await asyncio.to_thread(import_module, "airflow_backup_guard.engine.watchdog")
        plan = BackupPlan.from_dict(self.plan)
        async with aclosing(watchdog.watch(plan, await BackupGuardHook(plan).async_dsn(), repository)) as sightings:
            async for sighting in sightings:
                if sighting.blind != self._blind:
                    self._blind = sighting.blind
                    if sighting.blind:
                        self.log.error("Whether a backup runs cannot be seen: %s", " ".join(sighting.blind))
                    else:
                        self.log.info("It can be seen again whether a backup runs.")
                yield sighting

    async def _repository(self) -> Repository:
        return await asyncio.to_thread(BackupGuardHook(BackupPlan.from_dict(self.plan)).repository)


class RogueBackupTrigger(_RogueBackups):
    """Fires once, with what was seen, when a backup runs that is neither ours nor allowed."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every two seconds."""
        async with aclosing(self._watch(await self._repository())) as sightings:  # type: ignore[type-var]
            async for sighting in sightings:
                if sighting.rogues:
                    yield TriggerEvent(seen(sighting))
                    return


class RogueBackupEventTrigger(_RogueBackups, BaseEventTrigger):
    """For an ``AssetWatcher``: an event for each backup that is neither ours nor allowed, with all that is known of it.

    One that is answered already, as its evidence is in the repository, makes no event, so that a triggerer that is
    replaced does not tell of it again; should one be told twice all the same, it is answered once.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every two seconds, without end, whatever fails."""
        told: set[str] = set()
        while True:
            try:
                repository = await self._repository()
                async with aclosing(self._watch(repository)) as sightings:  # type: ignore[type-var]
                    async for sighting in sightings:
                        for backup in sighting.rogues:
                            if backup.id in told:
                                continue
                            told.add(backup.id)
                            if not await asyncio.to_thread(self._answered, repository, backup.id):
                                yield TriggerEvent(plain(backup))
            except BackupGuardError as error:
                self.log.error("The watch for rogue backups of %s is interrupted: %s", self.plan["name"], error)
                await asyncio.sleep(_AGAIN_SECONDS)

    def _answered(self, repository: Repository, rogue_id: str) -> bool:
        from airflow_backup_guard.engine.response import answered

        try:
            return answered(repository, self.plan["name"], rogue_id)
        except BackupGuardError as error:
            self.log.warning("Whether it is answered already is unknown: %s", error)
            return False
