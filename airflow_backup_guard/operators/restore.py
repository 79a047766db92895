"""The restore as a task: a backup into an empty folder of the worker, each file checked as it is written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.errors import InvalidPlan
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import told_to_airflow
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan


class BackupRestoreOperator(StoppableOperator):
    """Restores a backup of the plan into a folder that is empty or not there, and overwrites nothing.

    :param to: the data directory, an absolute path; ``{backup_id}`` in it stands for the id of the backup
    :param backup: a backup's id, what :class:`ThrottledCopyOperator` or :class:`BackupVerifyOperator` returned, or
        ``latest`` of the plan; one that is known to be damaged is restored only by its id
    :param before: the newest that was done by then, with a time zone: ``"2026-11-23 12:00+01:00"``
    :param tablespace_mapping: where tablespaces go, by where they were; others go where they were
    :param identity_file: a file of age secret keys on the worker, for a backup that is encrypted
    :param max_rate: the most that is read from the repository, as ``"50MB/s"``; no limit if None
    :param resume: keep what is written when the task fails or is stopped, and go on with it at its next try; with a
        ``to`` and a ``backup`` that stay the same, on the same worker

    Needs no database, and starts none. Returns ``backup_id``, ``target``, ``taken_at``, ``ended_at``,
    ``database_size`` in bytes, ``seconds``, ``read_size`` and ``kept_size`` in bytes, and ``warnings``. Without
    ``resume``, a restore that fails or is stopped removes what it wrote.
    """

    template_fields: Sequence[str] = ("to", "backup", "before", "tablespace_mapping", "identity_file")

    def __init__(
        self,
        *,
        plan: BackupPlan,
        to: str,
        backup: Any = "latest",
        before: str | datetime | None = None,
        tablespace_mapping: Mapping[str, str] | None = None,
        identity_file: str | None = None,
        max_rate: str | None = None,
        resume: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(plan=plan, **kwargs)
        self.to = to
        self.backup = backup
        self.before = before
        self.tablespace_mapping = tablespace_mapping
        self.identity_file = identity_file
        self.max_rate = None if max_rate is None else Rate.parse(max_rate, "max_rate")
        self.resume = resume

    def execute(self, context: Context) -> dict[str, Any]:
        """Restore; the log has a line of progress every 15 s."""
        from airflow_backup_guard.engine.choice import LATEST, choose, parse_moment
        from airflow_backup_guard.engine.identities import read_identities
        from airflow_backup_guard.engine.progress import BytesLog
        from airflow_backup_guard.engine.restore import restore

        repository = BackupGuardHook(self.plan).repository()
        with told_to_airflow(context):
            backup_id = self.backup if isinstance(self.backup, str) else self.backup["backup_id"]
            before = None if self.before is None else parse_moment(self.before, "before")
            if before is not None and backup_id != LATEST:
                raise InvalidPlan("before", str(self.before), "None, where a backup is named")
            choice = choose(repository, backup_id, self.plan.name, before=before)
            for warning in choice.warnings:
                self.log.warning("%s", warning)
            record = choice.record
            target = Path(self.to.replace("{backup_id}", record.backup_id))
            if not target.is_absolute():
                raise InvalidPlan("to", self.to, "an absolute path")
            self.log.info("Restoring backup %s to %s", record.backup_id, target)
            began = time.monotonic()
            restored = restore(
                record,
                repository,
                target,
                tablespaces={old: Path(new) for old, new in (self.tablespace_mapping or {}).items()},
                identities=read_identities(Path(self.identity_file)) if self.identity_file else (),
                max_rate=self.max_rate,
                resume=self.resume,
                stop=self._stop,
                on_progress=BytesLog("restoring", self.log.info),
            )
            self._stop.check()
        seconds = round(time.monotonic() - began, 3)
        self.log.info("Restored in %.1f s, each file checked as it was written", seconds)
        return {
            "backup_id": record.backup_id,
            "target": str(target),
            "taken_at": record.snapshot.taken_at.isoformat(),
            "ended_at": record.ended_at.isoformat(),
            "database_size": record.database_size,
            "seconds": seconds,
            "read_size": restored.read,
            "kept_size": restored.kept,
            "warnings": list(choice.warnings),
        }
