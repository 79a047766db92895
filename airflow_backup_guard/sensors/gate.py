"""What the gates share: the same answer poked, rescheduled or deferred, and a deadline that does not move."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf, timezone
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_backup_guard.core.gate import levels_since
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.hooks.errors import told_to_airflow
from airflow_backup_guard.hooks.metrics import gauge
from airflow_backup_guard.hooks.shown import ShownTask

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_backup_guard.core import BackupPlan

LOOK_KEY = "backup_guard_look"
"""The key in the task state store of what a gate saw last: ``time``, ``opened``, ``seen`` and ``levels``."""


class Gate(ShownTask, BaseSensorOperator):
    """A sensor over a plan whose return value tells what it saw when it opened."""

    backup_step: ClassVar[str] = "gate"

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
        self._keep_look(context, opened, seen)
        self.log.info("The %s gate is %s: %s", seen["gate"], "open" if opened else "closed", seen["text"])
        self._gauge(context, seen["gate"], opened)
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

    def _keep_look(self, context: Context, opened: bool, seen: dict[str, Any]) -> None:
        """What was seen, in the task state store, for those who look at the task while it waits."""
        try:
            store: Any = context.get("task_state_store")
            if store is None:
                return
            now = timezone.utcnow()
            before = store.get(LOOK_KEY)
            if before is None:
                self.keep_plan(context)
                before = {}
            levels = levels_since(before.get("levels", {}), seen.get("findings", ()), now)
            store.set(LOOK_KEY, {"time": now.isoformat(), "opened": opened, "seen": seen, "levels": levels})
        except Exception as error:  # the picture must not keep a gate from its work
            self.log.warning("What this gate saw cannot be shown in Airflow: %r", error)

    def _gauge(self, context: Context, gate: str, opened: bool) -> None:
        try:
            ti = context["ti"]
            since = ti.get_first_reschedule_date(context) or ti.start_date
            waited = (timezone.utcnow() - since).total_seconds()
            name = gate.replace(" ", "_").replace("-", "_")
            gauge(self.plan.name, f"gate.{name}", wait_seconds=waited, open=int(opened))
        except Exception as error:  # a metric must not keep a gate from its work
            self.log.warning("How long this gate has waited could not be told: %r", error)

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
