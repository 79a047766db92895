"""The throttled copy: from the replication stream through the pace and the codec into the repository."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from airflow_backup_guard import __version__
from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord, Snapshot, StoredPart, Tablespace
from airflow_backup_guard.core.budget import Budget
from airflow_backup_guard.core.load import Assessment, Phase
from airflow_backup_guard.core.outlook import Outlook
from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.engine import control
from airflow_backup_guard.engine.attempt import Try, close_dead, made_already
from airflow_backup_guard.engine.ical import with_sources_read
from airflow_backup_guard.engine.parts import PartWriter
from airflow_backup_guard.engine.snapshot import refuse_outside_window
from airflow_backup_guard.engine.stop import Stop, when_stopped
from airflow_backup_guard.engine.telemetry import Telemetry
from airflow_backup_guard.engine.throttle import Listener, LoadMonitor, Throttle, ignore_load
from airflow_backup_guard.engine.wal import WalArchive, identify
from airflow_backup_guard.errors import (
    BackupGuardError,
    BudgetSpent,
    SourceUnavailable,
    SourceUnsuitable,
)
from airflow_backup_guard.postgres.base_backup import BaseBackup, MessageKind
from airflow_backup_guard.postgres.replication import ReplicationConnection
from airflow_backup_guard.postgres.sessions import end_other_sessions, end_own_sessions, session_name
from airflow_backup_guard.postgres.slot import BackupSlot
from airflow_backup_guard.repository.base import Repository

_READ_SECONDS = 0.2
# A stream is never silent for long once it has begun: it waits for no checkpoint, and for no WAL archiver.
_SILENT_SECONDS = 300.0
# What has arrived is taken together, but not so much that a copy would then stand still for long.
_AT_ONCE_SECONDS, _AT_ONCE_BYTES = 0.02, 1 << 18
_TELL_SECONDS = 0.1
_THREADS = 2  # that compress; each holds 2 MB at level 3, and 20 MB at level 19
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a copy is: ``done`` of about ``total`` bytes of the database, its pace, and what the load was last.

    ``total`` is 0 while the server makes its checkpoint, before the first byte. ``finish`` is when it will be done at
    the pace of the last minutes, if that is known; ``late`` tells what becomes of it if that is after its window.
    ``seconds`` is how long it has been in each state.
    """

    done: int
    total: int
    pace: Pace
    assessment: Assessment | None = None
    finish: datetime | None = None
    window_end: datetime | None = None
    late: str = ""
    seconds: Mapping[PaceState, float] = field(default_factory=dict)


def copy(
    plan: BackupPlan,
    snapshot: Snapshot,
    dsn: str,
    repository: Repository,
    *,
    stop: Stop,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_load: Listener = ignore_load,
    baseline_seconds: float = 3.0,
    outside_window: bool = False,
    load_dsn: str | None = None,
) -> BackupRecord:
    """Copy the cluster, and make the backup visible once it is whole; a backup that is whole already is returned.

    ``on_progress`` hears several times a second how far it is, ``on_load``, from another thread, of each sample of the
    load. ``load_dsn`` leads to the plan's load connection, if it has one. The load is measured for ``baseline_seconds``
    before and after, to tell what the copy did to it. Whatever goes wrong, nothing stays behind in the database, and
    what was stored is removed again. Raises :class:`BackupStopped` after ``stop``, :class:`PreflightNotYet` outside of
    the plan's windows unless with ``outside_window``, :class:`BudgetSpent`, and the errors of the database and of the
    repository.
    """
    if (record := made_already(repository, snapshot)) is not None:
        return record
    plan = with_sources_read(plan, datetime.now(timezone.utc))
    if not outside_window:
        refuse_outside_window(plan)
    run = _Copy(plan, snapshot, dsn, repository, stop, on_progress, on_load, baseline_seconds, load_dsn)
    try:
        return run.run()
    except BaseException as error:
        # Without the cluster nothing was stored; what is there may belong to an earlier try that is not dead yet.
        if run.holds_cluster:
            _clean_up(run, error)
        # Whatever broke first when everything was cut off, the stop is why.
        stop.check()
        raise


def _clean_up(run: _Copy, error: BaseException) -> None:
    with suppress(BackupGuardError):  # the server may be what is broken
        end_own_sessions(run.dsn, run.snapshot.backup_id, run.pids)
    try:
        run.attempt.give_up(error)
    except BackupGuardError as left:
        # The first error is the one that a person needs; what is left is invisible, and the next copy sweeps it.
        _log.warning("What was stored of %s could not be removed yet: %s", run.snapshot.backup_id, left)


class _Copy:
    def __init__(
        self,
        plan: BackupPlan,
        snapshot: Snapshot,
        dsn: str,
        repository: Repository,
        stop: Stop,
        on_progress: Callable[[Progress], None],
        on_load: Listener,
        baseline_seconds: float,
        load_dsn: str | None,
    ) -> None:
        self.plan = plan
        self.snapshot = snapshot
        self.dsn = dsn
        self.repository = repository
        self.stop = stop
        self.on_progress = on_progress
        self.on_load = on_load
        self.baseline_seconds = baseline_seconds
        self.load_dsn = load_dsn
        self.attempt = Try(plan, snapshot, repository)
        self.throttle = Throttle(Pace.start(plan.min_rate, plan.max_rate), stop)
        self.control = control.ControlWatch(repository, plan.name, snapshot.backup_id, self.throttle, stop)
        self.telemetry = Telemetry()
        self.outlook = Outlook(None)
        self.assessment: Assessment | None = None
        self.parts: list[StoredPart] = []
        self.done = 0
        self.told_at = 0.0
        self.heard_at = 0.0
        self.wal: WalArchive | None = None
        self.monitor: LoadMonitor | None = None
        self.total = 0
        self.holds_cluster = False
        self.pids: list[int] = []
        self.sessions: list[ReplicationConnection | BackupSlot | WalArchive] = []

    def run(self) -> BackupRecord:
        with (
            self.control,
            when_stopped(self.stop, self._let_go),
            closing(self._hold_cluster()) as slot,
        ):
            self.pids.append(slot.pid)
            self.sessions.append(slot)
            end_other_sessions(self.dsn, slot.pid)
            if (record := made_already(self.repository, self.snapshot)) is not None:
                return record  # an earlier try has ended well, just before it let go of the cluster
            self.holds_cluster = True
            close_dead(self.plan, self.snapshot, self.repository)
            self.attempt.begin()
            self.control.start()
            budget = Budget.of(self.plan, datetime.now(timezone.utc))
            self.outlook = Outlook(budget.window_end)
            monitor = self.monitor = LoadMonitor(
                self.dsn,
                self.plan.limits,
                self.throttle,
                budget,
                self._read_and_left,
                self._on_load,
                load_dsn=self.load_dsn,
            )
            with ExitStack() as stack:
                stack.enter_context(monitor)
                self.stop.wait(self.baseline_seconds)
                # One look at the clock, and what has passed since: a clock that is set meanwhile changes no length.
                started_at, began = datetime.now(timezone.utc), time.monotonic()
                monitor.enter(Phase.DURING)
                stream = self._open(stack, slot)
                self.total = stream.total
                checkpoint_seconds = round(time.monotonic() - began, 3)
                self._receive(stream)
                end_lsn = stream.finish(self._listen)
                if self.snapshot.standby:
                    # Its end is what a restore needs to be consistent, which may lie before what was replayed then.
                    end_lsn = max(end_lsn, self.snapshot.lsn)
                self._check_range(stream, end_lsn)
                assert self.wal is not None  # noqa: S101  # _open made it
                self.parts += self.wal.finish(end_lsn, self._keep_going)
                ended_at = started_at + timedelta(seconds=time.monotonic() - began)
                monitor.enter(Phase.AFTER)
                self.stop.wait(self.baseline_seconds)
                self._store_telemetry()
                self.control.end()
                self._keep_going()
                self.attempt.check_stored(self.parts)
                record = BackupRecord(
                    format=backup.FORMAT,
                    snapshot=self.snapshot,
                    tablespaces=self._tablespaces(stream),
                    timeline=stream.timeline,
                    start_lsn=stream.start_lsn,
                    end_lsn=end_lsn,
                    started_at=started_at,
                    checkpoint_seconds=checkpoint_seconds,
                    ended_at=ended_at,
                    parts=tuple(self.parts),
                    impact=monitor.impact(),
                    written_by=f"airflow-backup-guard {__version__}",
                )
                # Still inside of everything: the cluster is ours until the backup is visible.
                self.attempt.make_visible(record)
        if self.wal.broke:
            with suppress(BackupGuardError):  # the server notices by itself, in some minutes
                end_own_sessions(self.dsn, self.snapshot.backup_id, self.pids)
        self.attempt.end()
        return record

    def _connect(self) -> ReplicationConnection:
        connection = ReplicationConnection(self.dsn, session_name(self.snapshot.backup_id))
        self.pids.append(connection.pid)
        return connection

    def _hold_cluster(self) -> BackupSlot:
        with closing(self._connect()) as connection:
            identify(connection, self.snapshot.cluster, self.stop.check)
        return BackupSlot(self.dsn, session_name(self.snapshot.backup_id))

    def _open(self, stack: ExitStack, slot: BackupSlot) -> BaseBackup:
        connection = stack.enter_context(closing(self._connect()))
        self.sessions.append(connection)
        stream = BaseBackup(
            connection,
            label=f"backup_guard {self.snapshot.backup_id}",
            checkpoint=self.plan.checkpoint,
            max_rate=self.plan.max_rate,
            keep_going=self._wait_for_checkpoint,
        )
        # What was written before its checkpoint the slot has kept for nothing.
        slot.release_before(stream.start_lsn)
        self.wal = WalArchive(
            self._connect,
            slot,
            self.attempt.store,
            start=stream.start_lsn,
            cluster=self.snapshot.cluster,
            max_rate=self.plan.max_rate,
        )
        self.sessions.append(stack.enter_context(self.wal))
        return stream

    def _wait_for_checkpoint(self) -> None:
        self._keep_going()
        self._tell(0)

    def _receive(self, stream: BaseBackup) -> None:
        with ExitStack() as open_part:
            part: PartWriter | None = None
            self.heard_at = time.monotonic()
            while (message := stream.read(_READ_SECONDS, self._at_once())) is not False:
                self._keep_going()
                if self.telemetry.is_due:
                    self._store_telemetry()
                if message is None or isinstance(message, bool):
                    self._listen()
                    continue
                if message.kind is MessageKind.DATA and part is not None:
                    for piece in message.data:
                        part.write(piece)
                    size = sum(map(len, message.data))
                    self.done += size
                    self.throttle.spend(size)
                elif message.kind in (MessageKind.ARCHIVE, MessageKind.MANIFEST):
                    self._commit(part)
                    open_part.close()  # what it held goes before the next one holds as much
                    part = open_part.enter_context(self._part(message.name))
                self.heard_at = time.monotonic()  # only now: what pace and repository took is not the server's silence
                self._tell(stream.total)
            self._commit(part)
            self.heard_at = time.monotonic()
        self._tell(stream.total, at_once=True)

    def _at_once(self) -> float:
        return min(self.throttle.pace.rate * _AT_ONCE_SECONDS, _AT_ONCE_BYTES)

    def _tell(self, total: int, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self.told_at >= _TELL_SECONDS:
            self.told_at = now
            if total:  # before that it waits for a checkpoint, which says nothing about its speed
                self.outlook.add(datetime.now(timezone.utc), self.done, max(total - self.done, 0))
            self.on_progress(
                Progress(
                    self.done,
                    total,
                    self.throttle.pace,
                    self.assessment,
                    self.outlook.finish,
                    self.outlook.window_end,
                    self.plan.at_window_end.value if self.outlook.is_late else "",
                    self.monitor.seconds if self.monitor else {},
                )
            )

    def _store_telemetry(self) -> None:
        number = sum(part.kind == "telemetry" for part in self.parts) + 1
        self.parts.append(self.telemetry.store(self.attempt.store, number))

    def _part(self, archive: str) -> PartWriter:
        if not archive:
            return self.attempt.store.writer("manifest", "backup_manifest", "backup_manifest")
        threads = min(_THREADS, os.cpu_count() or 1)
        return self.attempt.store.writer("archive", archive.removesuffix(".tar"), archive, threads=threads)

    def _commit(self, part: PartWriter | None) -> None:
        if part is not None:
            self.parts.append(part.commit())

    def _check_range(self, stream: BaseBackup, end_lsn: LSN) -> None:
        if end_lsn < self.snapshot.lsn:
            raise SourceUnsuitable(
                f"The backup ends at {end_lsn}, before the snapshot at {self.snapshot.lsn}.",
                remedy="Retry from the snapshot: this is not the server that it was taken of.",
            )

    def _let_go(self) -> None:
        """Free the database at once, however long the repository would take to notice a stop."""
        for session in list(self.sessions):
            session.cut()
        self.attempt.store.abort_writers()

    def _tablespaces(self, stream: BaseBackup) -> tuple[Tablespace, ...]:
        known = {tablespace.oid: tablespace.name for tablespace in self.snapshot.tablespaces}
        return tuple(Tablespace(t.oid, known.get(t.oid, ""), t.location, t.size) for t in stream.tablespaces)

    def _read_and_left(self) -> tuple[int, int]:
        return self.done, max(self.total - self.done, 0)

    def _keep_going(self) -> None:
        self.stop.check()
        if self.monitor is not None and self.monitor.exhausted is not None:
            raise BudgetSpent(
                f"The copy was ended because {self.monitor.exhausted}.",
                remedy="Give it a longer window, a higher max_rate or more patience; or find what loads the database.",
            )
        if self.wal is not None:
            self.wal.check()

    def _listen(self) -> None:
        self._keep_going()
        if time.monotonic() - self.heard_at > _SILENT_SECONDS:
            raise SourceUnavailable(
                f"The server has sent nothing of the base backup for {_SILENT_SECONDS:.0f} s.",
                remedy="Check the server's log, its disks and the network; then retry.",
            )

    def _on_load(self, now: datetime, phase: Phase, assessment: Assessment, pace: Pace) -> None:
        self.assessment = assessment
        self.telemetry.add(
            now, phase.value, assessment, pace, self.done, self.monitor.wal_retained if self.monitor else None
        )
        self.on_load(now, phase, assessment, pace)
