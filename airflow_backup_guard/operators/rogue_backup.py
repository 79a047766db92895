"""The answer to rogue backups as a task: evidence, alert, and the end of those that the plan says to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowFailException

from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import told_to_airflow
from airflow_backup_guard.hooks.notifiers import tell, tell_channels
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class RogueBackupResponseOperator(StoppableOperator):
    """Answers every rogue backup that runs now, and those that it was started for, each once, however often it runs:
    keeps the evidence in the plan's repository, tells the channels of ``plan.alerts``, and follows ``plan.watchdog``.

    :param rogues: what :class:`RogueBackupSensor` returned, or its ``rogues``. What the events of an ``AssetWatcher``
        tell is found by itself
    :param notifiers: who is told beside the channels; their templates may use ``{{ backup_title }}`` and
        ``{{ backup_report }}``

    Waits for the grace time where something may have to be ended. Fails if that cannot be done. Returns ``outcomes``.
    """

    template_fields: Sequence[str] = ("rogues",)

    def __init__(self, *, rogues: Any = None, notifiers: Iterable[BaseNotifier] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rogues = rogues
        self.notifiers = list(notifiers)

    def execute(self, context: Context) -> dict[str, Any]:
        """Answer."""
        from airflow_backup_guard.core.backup import dump_plain
        from airflow_backup_guard.core.rogue_text import from_plain
        from airflow_backup_guard.engine.response import respond

        hook = BackupGuardHook(self.plan)
        with told_to_airflow(context):
            outcomes = respond(
                self.plan,
                [from_plain(rogue) for rogue in (*self._named(), *_told(context))],
                hook.dsn(),
                hook.repository(),
                responder=" ".join([context["dag_run"].dag_id, context["dag_run"].run_id, self.task_id]),
                tell=lambda rogue, title, report: self._tell(context, rogue, title, report),
                stop=self._stop,
                load_dsn=hook.load_dsn(),
            )
        for outcome in outcomes:
            self.log.info("Rogue backup %s: %s", outcome.id, outcome.state)
        if failed := [outcome.id for outcome in outcomes if outcome.state == "failed"]:
            raise AirflowFailException(f"Rogue backups run on, as they could not be ended: {', '.join(failed)}.")
        return {"outcomes": [dump_plain(outcome) for outcome in outcomes]}

    def _tell(self, context: Context, rogue: str, title: str, report: str) -> None:
        """The one place from which people hear of rogue backups."""
        tell_channels(self.plan, context, f"rogue.{rogue}", title, report)
        tell(self.notifiers, context, backup_title=title, backup_report=f"{title}\n\n{report}")

    def _named(self) -> list[dict[str, Any]]:
        named = self.rogues or []
        return list(named.get("rogues", []) if isinstance(named, dict) else named)


def _told(context: Context) -> Iterator[dict[str, Any]]:
    """What the events tell that have started this run."""
    events = context.get("triggering_asset_events")
    for told in (events or {}).values():
        for event in told:
            payload = (event.extra or {}).get("payload")
            if isinstance(payload, dict) and "certainty" in payload:
                yield payload
