"""The gate on the live load: opens once writes and commits have been below the plan's limits for long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, timezone

from airflow_backup_guard.core.alert_rules import Severity
from airflow_backup_guard.core.starvation import Patience, Urgency, weigh
from airflow_backup_guard.errors import BackupGuardError, LoadNeverDropped
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.notifiers import tell, tell_channels
from airflow_backup_guard.sensors.gate import Gate

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

_MEMORY_KEY = "backup_guard_gate"
_ASK_AGAIN = timedelta(minutes=5)


class WriteLoadSensor(Gate):
    """Waits until the load was below ``plan.limits`` for ``plan.quiet_for``. Returns each signal against its limit.

    A load that cannot be measured keeps the gate closed. With ``plan.rpo`` the gate warns while it is closed and the
    last verified backup grows old, then alerts, then does what ``plan.when_starved`` says.

    The channels of the plan's ``alerts`` are told, too.

    :param notifiers: who is alerted beside them; their templates may use ``{{ backup_title }}`` and
        ``{{ backup_report }}``
    """

    _look_at: datetime | None = None
    _memory: dict[str, Any] | None = None

    def __init__(self, *, notifiers: Iterable[BaseNotifier] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notifiers = list(notifiers)

    def look(self, context: Context) -> tuple[bool, dict[str, Any]]:
        """Watch until it has been quiet for long enough, or a sample shows that it is not."""
        from airflow_backup_guard.engine.gate import look

        hook = BackupGuardHook(self.plan)
        reading = asyncio.run(look(self.plan, hook.dsn(), hook.load_dsn()))
        self._look_at = None
        if reading.opened or self.plan.rpo is None:
            return reading.opened, reading.to_dict()
        return self._weigh(context, reading.to_dict())

    def waiting(self) -> BaseTrigger:
        """Until it has been quiet for long enough, or the last backup has grown older by a step."""
        from airflow_backup_guard.triggers.write_load import WriteLoadTrigger

        look_at = None if self._look_at is None else self._look_at.isoformat()
        return WriteLoadTrigger(plan=self.plan.to_dict(), look_at=look_at)

    def _weigh(self, context: Context, seen: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """What a closed gate does in view of the age of the last verified backup."""
        now = timezone.utcnow()
        memory = self._recall(context, now)
        try:
            patience = self._patience(datetime.fromisoformat(memory["since"]))
        except BackupGuardError as error:
            # Unknown is neither young nor old: go on waiting, say so, and ask again.
            self.log.warning("The age of the last verified backup is unknown: %s", error)
            self._look_at = now + _ASK_AGAIN
            return False, {**seen, "text": f"{seen['text']}; the age of the last verified backup is unknown"}
        wait = weigh(self.plan, patience, now)
        self._look_at = wait.next_look
        text = f"{seen['text']}; {wait.text}"
        if wait.urgency.rank > Urgency(memory["told"]).rank:
            self._tell(context, wait.urgency, text)
            self._remember(context, {**memory, "told": wait.urgency.value})
        if wait.fails:
            raise LoadNeverDropped(
                f"The load has not dropped: {text}.",
                remedy="Find what loads the database, raise its limits, or let the copy begin at its floor, with "
                'when_starved="go_at_floor".',
            )
        return wait.goes_at_floor, {
            **seen,
            "opened": wait.goes_at_floor,
            "at_floor": wait.goes_at_floor,
            "urgency": wait.urgency.value,
            "recovery_point": patience.recovery_point and patience.recovery_point.isoformat(),
            "text": text,
        }

    def _patience(self, since: datetime) -> Patience:
        from airflow_backup_guard.engine.recovery_point import last_duration, recovery_point

        repository, name = BackupGuardHook(self.plan).repository(), self.plan.name
        patience = Patience.of(self.plan, recovery_point(repository, name), since, last_duration(repository, name))
        assert patience is not None  # noqa: S101  # the plan has an RPO
        return patience

    def _tell(self, context: Context, urgency: Urgency, text: str) -> None:
        if urgency is Urgency.WARNING:
            self.log.warning("The backup of %s is held up by the load: %s", self.plan.name, text)
            return
        self.log.error("The backup of %s is held up by the load: %s", self.plan.name, text)
        title = f"Backup of {self.plan.name} is held up by the load ({urgency.value})"
        tell(self.notifiers, context, backup_title=title, backup_report=f"{title}\n\n{text}")
        severity = Severity.CRITICAL if urgency is Urgency.STARVED else Severity.WARNING
        tell_channels(self.plan, context, "gate.starved", "", text, severity)

    def _recall(self, context: Context, now: datetime) -> dict[str, Any]:
        """Since when this try has waited, and what it has told: in this process, or in the task's state, which
        outlives a deferral and a rescheduling."""
        attempt = context["ti"].try_number
        store = context.get("task_state_store")
        memory = self._memory or (store.get(_MEMORY_KEY) if store is not None else None)
        if not isinstance(memory, dict) or memory.get("try") != attempt:
            memory = {"try": attempt, "since": now.isoformat(), "told": Urgency.CALM.value}
            self._remember(context, memory)
        return memory

    def _remember(self, context: Context, memory: dict[str, Any]) -> None:
        self._memory = memory
        store = context.get("task_state_store")
        if store is not None:
            store.set(_MEMORY_KEY, memory)
