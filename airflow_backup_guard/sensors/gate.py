"""What the gates share: the same answer poked, rescheduled or deferred, and a deadline that does not move."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf, timezone
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.hooks.errors import told_to_airflow

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_backup_guard.core import BackupPlan


class Gate(BaseSensorOperator):
    """A sensor over a plan whose return value tells what it saw when it opened."""

    def __init__(self, *, plan: BackupPlan, deferrable: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self._stop = Stop()
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        )

    @abstractmethod
    def look(self, context: Context) -> tuple[bool, dict[str, Any]]:
        """Whether the gate is open, and what was seen, as plain values with a ``text``."""

    @abstractmethod
    def waiting(self) -> BaseTrigger:
        """The trigger that fires when it is worth looking again, as far as the last look tells."""

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with told_to_airflow(context):
            opened, seen = self.look(context)
        self.log.info("The %s gate is %s: %s", seen["gate"], "open" if opened else "closed", seen["text"])
        return PokeReturnValue(opened, seen)

    def execute(self, context: Context) -> Any:
        """Look; if the gate is closed, wait in the way that the task was set up for."""
        if not self.deferrable:
            seen = super().execute(context)
            self._stop.check()
            return seen
        try:
            return self._wait_until(self._new_deadline(), context)
        except AirflowFailException as error:
            # As sensors do it that are poked, and those that come back from the triggerer.
            if self.soft_fail:
                raise AirflowSkipException(str(error)) from error
            raise

    def execute_complete(self, context: Context, event: Any, deadline: str | None = None) -> Any:
        """Look again after the trigger fired: it may have fired a while ago."""
        # `airflow dags test` resumes with the event alone, and drops everything else that was passed along.
        return self._wait_until(datetime.fromisoformat(deadline) if deadline else self._new_deadline(), context)

    def on_kill(self) -> None:
        """Airflow's SIGTERM, after which it lets the task go on, and end as a success if it does."""
        self._stop.request("Airflow stopped the task")

    def _new_deadline(self) -> datetime:
        return timezone.utcnow() + timedelta(seconds=self.timeout)

    def _wait_until(self, deadline: datetime, context: Context) -> Any:
        answer = self.poke(context)
        self._stop.check()
        if answer.is_done:
            return answer.xcom_value
        # Each deferral's timeout starts afresh, so the deadline travels along as a moment.
        return self.defer(
            trigger=self.waiting(),
            method_name="execute_complete",
            kwargs={"deadline": deadline.isoformat()},
            timeout=max(deadline - timezone.utcnow(), timedelta(0)),
        )
