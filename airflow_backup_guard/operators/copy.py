"""The copy as a task: throttled by the live load, stopped by SIGTERM, safe to retry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import told_to_airflow
from airflow_backup_guard.hooks.notifiers import link_to
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan


class ThrottledCopyOperator(StoppableOperator):
    """Copies the cluster into the plan's repository, and makes the backup visible once it is whole.

    :param snapshot: what :class:`PostgresSnapshotOperator` returned
    :param gate: what :class:`WriteLoadSensor` returned: after a gate that opened because the RPO could not wait any
        longer, the copy never reads faster than the plan's ``min_rate``

    Returns ``backup_id``, sizes in bytes, ``seconds``, and the impact on the application.
    """

    backup_step: ClassVar[str] = "copy"
    template_fields: Sequence[str] = ("snapshot", "gate")

    def __init__(self, *, plan: BackupPlan, snapshot: Any, gate: Any = None, **kwargs: Any) -> None:
        super().__init__(plan=plan, **kwargs)
        self.snapshot = snapshot
        self.gate = gate

    def execute(self, context: Context) -> dict[str, Any]:
        """Copy; the log has a line of progress every 15 s, and the task state store what goes on now."""
        from airflow_backup_guard.core.backup import Snapshot, dump_plain, load_plain
        from airflow_backup_guard.core.report import record_lines
        from airflow_backup_guard.engine.alert_watch import alerting
        from airflow_backup_guard.engine.copy import Progress, copy
        from airflow_backup_guard.engine.priority import give_way
        from airflow_backup_guard.engine.progress import ProgressLog
        from airflow_backup_guard.operators.live import LiveView

        hook = BackupGuardHook(self.plan)
        snapshot = load_plain(Snapshot, self.snapshot)
        log = ProgressLog(self.log.info, self.log.warning)
        live = LiveView(self.plan.name, snapshot.backup_id, context.get("task_state_store"))
        self.keep_plan(context)

        give_way()

        repository = hook.repository()
        with told_to_airflow(context), alerting(self.plan, repository, context, link_to(context)) as watch:

            def show(progress: Progress) -> None:
                log(progress)
                live(progress)
                watch.progress(progress)

            record = copy(
                self.plan.at_floor() if (self.gate or {}).get("at_floor") else self.plan,
                snapshot,
                hook.dsn(),
                repository,
                stop=self._stop,
                on_progress=show,
                on_load=watch.load,
                load_dsn=hook.load_dsn(),
            )
            self._stop.check()
        live.finish(record.impact)
        for name, value in record_lines(record):
            self.log.info("%-16s %s", name, value)
        return {
            "backup_id": record.backup_id,
            "database_size": record.database_size,
            "stored_size": record.stored_size,
            "seconds": record.seconds,
            "impact": dump_plain(record.impact),
        }
