"""Restores a backup into a scratch folder, runs PostgreSQL on it, asks whether it is good, and clears all away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.drill import DrillResult, Stage, drill_key, judge_rpo, judge_rto, passed
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.scratch import keep_folder, scratch_folder
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import record_drill
from airflow_backup_guard.errors import BackupDamaged, ObjectMissing, SourceUnavailable, SourceUnsuitable
from airflow_backup_guard.postgres.binaries import find_binaries
from airflow_backup_guard.postgres.drill_checks import look
from airflow_backup_guard.postgres.drill_server import DrillServer, take_settings_out
from airflow_backup_guard.repository.base import Repository

_RECOVERY_SECONDS = 6 * 3600.0


def drill(
    plan: BackupPlan,
    record: BackupRecord,
    repository: Repository,
    *,
    scratch: Path | None = None,
    identities: Sequence[str] = (),
    stop: Stop | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_kept: Callable[[Path], None] | None = None,
) -> DrillResult:
    """Drill one backup by the plan's ``drill``, ``rto`` and ``rpo``, and store the result beside the backup.

    ``scratch`` goes above the plan's own. ``on_progress`` is given the bytes written and those there are to write,
    ``on_stage`` the name of each stage. With ``on_kept`` what was restored stays, its server stopped, and it is given
    the data directory.

    What is wrong with the backup, or keeps it from running here, is in the result. Raises what kept it from being
    tried: :class:`RestoreRefused` (scratch folder, space, key), :class:`SourceUnsuitable` (no PostgreSQL of its major
    version here), :class:`BackupStopped`, and the errors of the repository. Whatever happens, nothing stays behind.
    """
    find_binaries(record.snapshot.cluster.major)
    folder = scratch or (Path(plan.drill.scratch) if plan.drill.scratch else None)
    run = _Drill(plan, record, repository, stop or Stop(), on_progress, on_stage)
    with scratch_folder(folder, record, repository.url, run.stop) as place:
        run.run(place, identities)
        if on_kept is not None:
            keep_folder(place)
            on_kept(place / "data")
    return _store(run.result(), record, repository)


class _Drill:
    def __init__(
        self,
        plan: BackupPlan,
        record: BackupRecord,
        repository: Repository,
        stop: Stop,
        on_progress: Callable[[int, int], None],
        on_stage: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self.record = record
        self.repository = repository
        self.stop = stop
        self.on_progress = on_progress
        self.on_stage = on_stage
        self.started_at = datetime.now(timezone.utc)
        self.stages: list[Stage] = []
        self.checks: list[Check] = []
        self.answered = False

    def run(self, place: Path, identities: Sequence[str]) -> None:
        """All stages, up to the first that fails."""
        data, spaces = place / "data", place / "tablespaces"
        spaces.mkdir(0o711)
        try:
            with self._stage("restore"):
                restore(
                    self.record,
                    self.repository,
                    data,
                    tablespaces={t.location: spaces / str(t.oid) for t in self.record.tablespaces},
                    identities=identities,
                    max_rate=self.plan.drill.max_rate,
                    stop=self.stop,
                    on_progress=self.on_progress,
                )
        except (BackupDamaged, ObjectMissing) as error:
            self.checks.append(Check("restore", CheckStatus.FAILED, error.message, error.remedy))
            return
        overruled = take_settings_out(data)
        with DrillServer(data, self.plan.drill.superuser, lambda: self.stop.requested) as server:
            try:
                with self._stage("recovery"):
                    server.start(_RECOVERY_SECONDS, self.stop.check)
            except (SourceUnavailable, SourceUnsuitable) as error:
                self.stop.check()
                self.checks.append(Check("recovery", CheckStatus.FAILED, error.message, error.remedy))
                return
            self.answered = True
            with self._stage("checks"):
                for check in look(server, self.record, self.plan.drill, overruled.get("shared_preload_libraries", "")):
                    # A stop ends the server, and what is asked then fails for no other reason.
                    self.stop.check()
                    self.checks.append(check)

    def result(self) -> DrillResult:
        """What was found, held against the plan."""
        rto = sum(stage.seconds for stage in self.stages if stage.name != "checks") if self.answered else None
        rpo = (self.started_at - self.record.snapshot.taken_at).total_seconds()
        objectives = [judge_rpo(rpo, self.plan.rpo, self._is_newest())]
        if rto is not None:
            limited = f", with reads limited to {self.plan.drill.max_rate}" if self.plan.drill.max_rate else ""
            objectives.insert(0, judge_rto(rto, self.plan.rto, limited))
        checks = (*self.checks, *filter(None, objectives))
        return DrillResult(
            format=backup.FORMAT,
            plan_name=self.record.plan_name,
            backup_id=self.record.backup_id,
            started_at=self.started_at,
            ended_at=datetime.now(timezone.utc),
            server=f"PostgreSQL {self.record.snapshot.cluster.major}",
            stages=tuple(self.stages),
            rto_seconds=rto,
            rpo_seconds=rpo,
            checks=checks,
            passed=self.answered and passed(checks),
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.stop.check()
        self.on_stage(name)
        began = time.monotonic()
        try:
            yield
        finally:
            self.stages.append(Stage(name, round(time.monotonic() - began, 3)))

    def _is_newest(self) -> bool:
        ids = [backup_id for _, backup_id in catalog.ids(self.repository, self.record.plan_name)]
        return not ids or self.record.backup_id >= max(ids)


def _store(result: DrillResult, record: BackupRecord, repository: Repository) -> DrillResult:
    key = drill_key(record.plan_name, record.backup_id)
    repository.put(key, backup.dump(result))
    record_drill(record, repository, passed=result.passed, detail=result.summary, at=result.ended_at)
    if not any(repository.list(backup.record_key(record.plan_name, record.backup_id))):
        # It has expired meanwhile, and an expiry looks at it no more.
        repository.delete_all([key, backup.verification_key(record.plan_name, record.backup_id)])
    return result
