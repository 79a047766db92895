"""What the steps share: a plan, and a SIGTERM that never ends as a success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.hooks.shown import ShownTask

if TYPE_CHECKING:
    from airflow_backup_guard.core import BackupPlan


class StoppableOperator(ShownTask, BaseOperator):
    """An operator over a plan. Whoever implements ``execute`` calls ``self._stop.check()`` when it is done.

    Airflow lets a task that was stopped go on, and end as a success if it does.
    """

    def __init__(self, *, plan: BackupPlan, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self._stop = Stop()

    def on_kill(self) -> None:
        """Airflow's SIGTERM."""
        self._stop.request("Airflow stopped the task")
