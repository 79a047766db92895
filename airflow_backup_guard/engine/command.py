"""A guarded command: any program that makes backups, held to the pace that the load of a database allows."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Protocol

from airflow_backup_guard import __version__
from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import StoredPart
from airflow_backup_guard.core.budget import Budget
from airflow_backup_guard.core.command import (
    CommandReceipt,
    GuardedCommand,
    command_prefix,
    exit_status_of,
    receipt_key,
)
from airflow_backup_guard.core.duty import Slices, share_of, slices
from airflow_backup_guard.core.load import Assessment, Phase
from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.secrets import Mask, secrets_in
from airflow_backup_guard.engine.control import ControlWatch, clear
from airflow_backup_guard.engine.ical import with_sources_read
from airflow_backup_guard.engine.parts import PartStore, PartWriter
from airflow_backup_guard.engine.snapshot import refuse_outside_window
from airflow_backup_guard.engine.stop import Stop, when_stopped
from airflow_backup_guard.engine.supervised import SupervisedCommand
from airflow_backup_guard.engine.telemetry import Telemetry
from airflow_backup_guard.engine.throttle import Listener, LoadMonitor, Throttle, ignore_load
from airflow_backup_guard.errors import BackupGuardError, BackupStopped, BudgetSpent
from airflow_backup_guard.postgres.connection import parse_conninfo
from airflow_backup_guard.repository.base import Repository

_LOOK_SECONDS = 0.1
_log = logging.getLogger(__name__)


class Output(Protocol):
    """Where paced stdout goes; an :class:`ObjectWriter` is one."""

    def write(self, data: bytes) -> object:
        """Append."""

    def commit(self) -> object:
        """All of it is there."""

    def abort(self) -> None:
        """It is worth nothing; idempotent, and nothing after ``commit``."""


@dataclass(frozen=True)
class CommandProgress:
    """How a command fares. ``share`` is the share of time that it may run, None where its stdout is paced; ``done`` is
    how many bytes of stdout were passed on. ``ran`` and ``stood`` are seconds that its processes ran and stood still,
    ``seconds`` those in each state."""

    phase: Phase
    pace: Pace
    share: float | None
    done: int = 0
    ran: float = 0.0
    stood: float = 0.0
    assessment: Assessment | None = None
    window_end: datetime | None = None
    seconds: Mapping[PaceState, float] = field(default_factory=dict)
    command_id: str = ""


def run_command(
    plan: BackupPlan,
    command: GuardedCommand,
    dsn: str,
    *,
    stop: Stop,
    repository: Repository | None = None,
    output: Output | None = None,
    store: str | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[CommandProgress], None] = lambda progress: None,
    on_load: Listener = ignore_load,
    baseline_seconds: float = 3.0,
    outside_window: bool = False,
    at_floor: bool = False,
    load_dsn: str | None = None,
) -> CommandReceipt:
    """Run the command, held to what the load of the plan's database allows, and tell what became of it.

    A command that paces its stdout writes to ``output``, or into the ``repository`` by the name ``store``. Else its
    processes run for a share of the time: the plan's ``max_rate`` stands for all of it, ``min_rate`` for the least.
    ``on_line`` gets its log, without secrets, from a thread, and ``on_load`` from another each sample of the load.
    ``at_floor`` never lets it leave its floor. With a ``repository`` orders reach it, and its receipt and telemetry are
    kept there.

    Its exit status is in the receipt, and other than 0 is no error here. Whatever goes wrong, no process of it stays
    behind, and no output of a command that did not succeed. Raises :class:`BackupStopped` after ``stop``,
    :class:`PreflightNotYet` outside of the plan's windows unless with ``outside_window``, :class:`BudgetSpent`,
    :class:`CommandNotFound`, :class:`CommandNotExecutable`, :class:`CommandEscaped`, :class:`CommandLost`, and the
    errors of the repository.
    """
    plan = with_sources_read(plan, datetime.now(timezone.utc))
    if not outside_window:
        refuse_outside_window(plan)
    run = _Run(plan, command, dsn, stop, repository, output, on_progress, on_load, baseline_seconds, at_floor, load_dsn)
    run.mask_and_pass_on(on_line)
    try:
        return run.run(store)
    except Exception as error:
        try:
            stop.check()  # whatever broke first when everything was cut off, the stop is why
        except BackupStopped as stopped:
            run.failed(stopped)
            raise
        run.failed(error)
        raise
    except BaseException as interrupt:
        run.failed(interrupt)
        raise


class _Run:
    def __init__(
        self,
        plan: BackupPlan,
        command: GuardedCommand,
        dsn: str,
        stop: Stop,
        repository: Repository | None,
        output: Output | None,
        on_progress: Callable[[CommandProgress], None],
        on_load: Listener,
        baseline_seconds: float,
        at_floor: bool,
        load_dsn: str | None,
    ) -> None:
        self.plan = plan
        self.command = command
        self.dsn = dsn
        self.load_dsn = load_dsn
        self.stop = stop
        self.repository = repository
        self.output: Output | PartWriter | None = output
        self.on_progress = on_progress
        self.on_load = on_load
        self.baseline_seconds = baseline_seconds
        known = secrets_in(command.words, command.environment)
        known |= {keywords.get("password", "") for keywords in map(parse_conninfo, filter(None, [dsn, load_dsn]))}
        self.mask = Mask(known)
        now = datetime.now(timezone.utc)
        self.receipt = CommandReceipt(
            format=backup.FORMAT,
            command_id=backup.new_backup_id(now, secrets.randbits(16)),
            plan=plan.to_dict(),
            command=self._shown(command.words),
            paces_stdout=command.paces_stdout,
            started_at=now,
            written_by=f"airflow-backup-guard {__version__}",
        )
        self.throttle = Throttle(Pace.start(plan.min_rate, plan.min_rate if at_floor else plan.max_rate), stop)
        self.budget = Budget.of(plan, now)
        self.telemetry = Telemetry()
        self.assessment: Assessment | None = None
        self.monitor: LoadMonitor | None = None
        self.process: SupervisedCommand | None = None
        self.store: PartStore | None = None
        self.control: ControlWatch | None = None
        if repository is not None:
            command_id = self.receipt.command_id
            self.store = PartStore(repository, plan, command_id, command_prefix(plan.name, command_id))
            self.control = ControlWatch(repository, plan.name, command_id, self.throttle, stop)
        self.phase = Phase.BEFORE
        self.done = 0
        self.parts: list[StoredPart] = []
        self.begun = False
        self.on_line: Callable[[str], None] = lambda line: None

    def mask_and_pass_on(self, on_line: Callable[[str], None]) -> None:
        self.on_line = lambda line: on_line(self.mask(line))

    def run(self, store: str | None) -> CommandReceipt:
        with ExitStack() as stack:
            self._keep_receipt()
            self.begun = True
            if store is not None:
                assert self.store is not None  # noqa: S101  # whoever stores has a repository
                self.output = stack.enter_context(self.store.writer("output", store, store))
            stack.enter_context(when_stopped(self.stop, self._let_go))
            if self.control is not None:
                stack.enter_context(self.control)
                self.control.start()
            self.monitor = LoadMonitor(
                self.dsn,
                self.plan.limits,
                self.throttle,
                self.budget,
                lambda: (self._used(), 0),
                self._on_load,
                load_dsn=self.load_dsn,
            )
            with self.monitor:
                self._tell()
                self.stop.wait(self.baseline_seconds)
                self._enter(Phase.DURING)
                started_at, began = datetime.now(timezone.utc), time.monotonic()
                self.receipt = replace(self.receipt, started_at=started_at)
                returned = self._hold_to_the_end()
                # What has passed since, and not another look at the clock, which may have been set meanwhile.
                ended_at = started_at + timedelta(seconds=time.monotonic() - began)
                self.receipt = replace(self.receipt, ended_at=ended_at)
                if returned == 0:
                    self._commit()
                self._enter(Phase.AFTER)
                with suppress(BackupStopped):  # it is done, and all there is to lose is a measurement
                    self.stop.wait(self.baseline_seconds)
            if self.control is not None:
                self.control.end()
            self.receipt = self._complete(exit_status_of(returned))
            try:
                self._keep_telemetry()
                self._keep_receipt()
            except BackupGuardError as error:
                if self.receipt.stored is not None:  # nobody would find it
                    raise
                _log.warning("The receipt of %s could not be stored: %s", self.receipt.command_id, error)
        self._forget_orders()
        if self.output is not None and returned != 0:
            self._drop_output()
        return self.receipt

    def failed(self, error: BaseException) -> None:
        """Leave nothing but a receipt that tells why."""
        self._drop_output()
        if not self.begun or self.repository is None or self.store is None:
            return
        outcome = self.mask(str(error) or type(error).__name__)
        self.receipt = replace(self._complete(None), outcome=outcome, parts=())
        try:
            self.store.clear()
            self._keep_receipt()
        except BackupGuardError as left:
            _log.warning("What is stored of %s could not be tidied up: %s", self.receipt.command_id, left)
        self._forget_orders()

    def _hold_to_the_end(self) -> int:
        full = self.plan.max_rate
        least = slices(self.plan.min_rate / full, PaceState.THROTTLED, self.command.max_stop.total_seconds())
        unheard = Slices(1.0, 0.0) if self.command.paces_stdout else least
        with SupervisedCommand(self.command, self.on_line, unheard) as process:
            self.process = process
            try:
                if self.command.paces_stdout:
                    self._pass_on_stdout(process)
                while not process.wait(_LOOK_SECONDS):
                    self._look()
                    if not self.command.paces_stdout:
                        process.hold(self._slices())
            except BaseException:
                process.end()
                for warning in process.warnings():
                    _log.warning("%s", self.mask(warning))
                raise
        self.stop.check()  # it may have ended for that before anybody looked
        process.check()
        assert process.returned is not None  # noqa: S101  # it has ended, and nobody lost it
        return process.returned

    def _pass_on_stdout(self, process: SupervisedCommand) -> None:
        assert self.output is not None  # noqa: S101  # whoever paces stdout says where to
        while (data := process.read(_LOOK_SECONDS)) != b"":
            self._look()
            if data is not None:
                self.output.write(data)
                self.done += len(data)
                self.throttle.spend(len(data))

    def _slices(self) -> Slices:
        pace = self.throttle.trusted_pace()
        return slices(share_of(pace, self.plan.max_rate), pace.state, self.command.max_stop.total_seconds())

    def _look(self) -> None:
        self.stop.check()
        if self.monitor is not None and self.monitor.exhausted is not None:
            raise BudgetSpent(
                f"The command was ended because {self.monitor.exhausted}.",
                remedy="Give it a longer window or more patience; or find what loads the database.",
            )
        if self.telemetry.is_due:
            self._keep_telemetry()
        self._tell()

    def _tell(self) -> None:
        pace = self.throttle.pace
        process = self.process
        self.on_progress(
            CommandProgress(
                self.phase,
                pace,
                None if self.command.paces_stdout else share_of(pace, self.plan.max_rate),
                self.done,
                process.running if process else 0.0,
                process.stopped if process else 0.0,
                self.assessment,
                self.budget.window_end,
                self.monitor.seconds if self.monitor else {},
                self.receipt.command_id,
            )
        )

    def _used(self) -> int:
        """Bytes that were passed on; of processes, the time that they ran, at what stands for all of it."""
        if self.command.paces_stdout:
            return self.done
        return int(self.process.running * self.plan.max_rate) if self.process else 0

    def _enter(self, phase: Phase) -> None:
        assert self.monitor is not None  # noqa: S101
        self.phase = phase
        self.monitor.enter(phase)
        self._tell()

    def _on_load(self, now: datetime, phase: Phase, assessment: Assessment, pace: Pace) -> None:
        self.assessment = assessment
        if self.store is not None:
            self.telemetry.add(now, phase.value, assessment, pace, self._used(), None)
        self.on_load(now, phase, assessment, pace)

    def _commit(self) -> None:
        if self.output is not None:
            stored = self.output.commit()
            if isinstance(stored, StoredPart):
                self.parts.append(stored)

    def _complete(self, exit_status: int | None) -> CommandReceipt:
        process = self.process
        return replace(
            self.receipt,
            ended_at=self.receipt.ended_at or datetime.now(timezone.utc),
            exit_status=exit_status,
            seconds_stopped=round(process.stopped, 3) if process else 0.0,
            output_size=self.done,
            parts=tuple(self.parts),
            impact=self.monitor.impact() if self.monitor else None,
            warnings=self._shown(process.warnings()) if process else (),
        )

    def _keep_telemetry(self) -> None:
        if self.store is not None:
            number = sum(part.kind == "telemetry" for part in self.parts) + 1
            self.parts.append(self.telemetry.store(self.store, number))
            self.receipt = replace(self.receipt, parts=tuple(self.parts))

    def _keep_receipt(self) -> None:
        if self.repository is not None:
            key = receipt_key(self.plan.name, self.receipt.command_id)
            self.repository.put(key, backup.dump(self.receipt))

    def _forget_orders(self) -> None:
        if self.repository is not None:
            clear(self.repository, self.plan.name, self.receipt.command_id)

    def _drop_output(self) -> None:
        if self.output is not None and not isinstance(self.output, PartWriter):
            self.output.abort()

    def _let_go(self) -> None:
        """On a stop: end the command at once, however long a reader of its output would take to notice."""
        if self.process is not None:
            self.process.request_end()
        if self.store is not None:
            self.store.abort_writers()

    def _shown(self, texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(map(self.mask, texts))
