"""The first task of a backup and, as its teardown, the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import told_to_airflow
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan


class PostgresSnapshotOperator(StoppableOperator):
    """Checks that a backup may begin, and fixes what it must contain: every transaction committed until now.

    Returns the snapshot as plain values, ``backup_id`` among them. Wire :meth:`teardown` after the copy.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the preflight check and open the attempt."""
        from airflow_backup_guard.core.backup import dump_plain
        from airflow_backup_guard.core.units import Size
        from airflow_backup_guard.engine.snapshot import take_snapshot

        hook = BackupGuardHook(self.plan)
        with told_to_airflow(context):
            snapshot = take_snapshot(self.plan, hook.dsn(), hook.repository(), load_dsn=hook.load_dsn())
            self._stop.check()
        for warning in snapshot.warnings:
            self.log.warning("%s", warning)
        self.log.info("Snapshot %s at %s: %s to copy", snapshot.backup_id, snapshot.lsn, Size(snapshot.size))
        return dump_plain(snapshot)

    def teardown(self, task_id: str | None = None) -> SnapshotTeardownOperator:
        """The teardown task of this snapshot: leaves nothing behind of a backup that did not become whole."""
        # Within a task group Airflow puts the group's name before that of every new task.
        name = self.task_id.removeprefix(f"{self.task_group.group_id}.") if self.task_group else self.task_id
        task = SnapshotTeardownOperator(task_id=task_id or f"{name}_teardown", plan=self.plan, snapshot=self.output)
        task.as_teardown(setups=self)
        return task


class SnapshotTeardownOperator(StoppableOperator):
    """Closes a snapshot's attempt, whatever became of the copy; running it twice does no harm."""

    template_fields: Sequence[str] = ("snapshot",)

    def __init__(self, *, plan: BackupPlan, snapshot: Any, **kwargs: Any) -> None:
        super().__init__(plan=plan, **kwargs)
        self.snapshot = snapshot

    def execute(self, context: Context) -> None:
        """Remove what is stored of an attempt without a record, and end sessions that it left."""
        from airflow_backup_guard.core.backup import Snapshot, load_plain
        from airflow_backup_guard.engine.attempt import close_attempt
        from airflow_backup_guard.errors import BackupGuardError
        from airflow_backup_guard.postgres.sessions import end_sessions

        snapshot = load_plain(Snapshot, self.snapshot)
        hook = BackupGuardHook(self.plan)
        try:
            end_sessions(hook.dsn(), snapshot.backup_id)
        except BackupGuardError as error:
            self.log.warning("Could not look for sessions that were left in the database: %s", error)
        repository = hook.repository()
        with told_to_airflow(context):
            closed = close_attempt(self.plan, snapshot, repository, "the run ended without it")
        self.log.info("%s %s", snapshot.backup_id, "did not become a backup; removed" if closed else "is whole")
