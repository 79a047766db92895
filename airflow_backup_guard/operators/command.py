"""A backup command that people already have as a task: held to the live load, ended as a whole by SIGTERM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_backup_guard.core.command import GRACE, IO_CLASSES, MAX_STOP, NICE, check_options, check_words
from airflow_backup_guard.errors import CommandFailed, InvalidPlan
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import told_to_airflow
from airflow_backup_guard.hooks.notifiers import link_to
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan
    from airflow_backup_guard.core.command import GuardedCommand
    from airflow_backup_guard.engine.command import CommandProgress
    from airflow_backup_guard.engine.copy import Progress


class GuardedCommandOperator(StoppableOperator):
    """Runs any command that makes backups (pgBackRest, Barman, pg_dump, a script), held to what the load of the plan's
    database allows.

    :param command: the program and its arguments, as a list; a shell only where it is one of them, as in
        ``["sh", "-c", "…"]``
    :param env: its environment; by default that of the task
    :param append_env: True puts ``env`` above the environment of the task; False leaves nothing but ``env``
    :param cwd: the folder to run in
    :param output_file: for its stdout, which is then passed on at a rate; it appears once the command has succeeded
    :param store: the same into the plan's repository, by this name
    :param max_stop: the longest that its processes stand still at a time
    :param grace: between SIGTERM and SIGKILL, when it is ended; Airflow leaves a task five seconds
    :param nice: its niceness, 0 to 19
    :param io_class: ``"best-effort"``, ``"idle"`` or None
    :param gate: what :class:`WriteLoadSensor` returned: after a gate that opened because the RPO could not wait any
        longer, the command never leaves its floor

    Its log is the task's. Fails if the command's exit status is not 0. Returns ``command_id``, ``exit_status``,
    ``seconds``, ``seconds_stopped``, ``output_size`` in bytes, ``stored`` (the key in the repository) and ``impact``.
    """

    backup_step: ClassVar[str] = "command"
    template_fields: Sequence[str] = ("command", "env", "cwd", "output_file", "store", "gate")
    template_fields_renderers: ClassVar[dict[str, str]] = {"env": "json"}

    def __init__(
        self,
        *,
        plan: BackupPlan,
        command: Any,
        env: Mapping[str, str] | None = None,
        append_env: bool = False,
        cwd: str | None = None,
        output_file: str | None = None,
        store: str | None = None,
        max_stop: str | timedelta = MAX_STOP,
        grace: str | timedelta = GRACE,
        nice: int = NICE,
        io_class: str | None = IO_CLASSES[0],
        gate: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(plan=plan, **kwargs)
        self.command = command
        self.env = env
        self.append_env = append_env
        self.cwd = cwd
        self.output_file = output_file
        self.store = store
        self.max_stop, self.grace = max_stop, grace
        self.nice = nice
        self.io_class = io_class
        self.gate = gate
        if isinstance(command, str | bytes):
            check_words(command)
        check_options(max_stop, grace, nice, io_class)
        if output_file is not None and store is not None:
            raise InvalidPlan("store", store, "None where there is an output_file: stdout goes to one of them")

    def execute(self, context: Context) -> dict[str, Any]:
        """Run; the log has a line about its pace every 15 s, and the task state store what goes on now."""
        from airflow_backup_guard.core.alert_conditions import done_to_command
        from airflow_backup_guard.core.backup import dump_plain
        from airflow_backup_guard.core.command_report import command_title, receipt_lines
        from airflow_backup_guard.engine.alert_watch import alerting
        from airflow_backup_guard.engine.command import run_command
        from airflow_backup_guard.engine.command_output import file_output
        from airflow_backup_guard.engine.priority import give_way
        from airflow_backup_guard.engine.progress import CommandProgressLog
        from airflow_backup_guard.operators.live import LiveView

        hook = BackupGuardHook(self.plan)
        log = CommandProgressLog(self.log.info)
        live = LiveView(self.plan.name, "", context.get("task_state_store"))
        self.keep_plan(context)

        def show(progress: CommandProgress) -> None:
            log(progress)
            live.number = progress.command_id
            live(_as_of_copy(progress))

        repository = hook.repository()
        with (
            told_to_airflow(context),
            alerting(self.plan, repository, context, link_to(context), done_to_command) as watch,
        ):
            command = self._guarded_command()
            if command.paces_stdout:
                give_way()
            receipt = run_command(
                self.plan,
                command,
                hook.dsn(),
                stop=self._stop,
                repository=repository,
                output=None if self.output_file is None else file_output(self.output_file),
                store=self.store,
                on_line=lambda line: self.log.info("%s", line),
                on_progress=show,
                on_load=watch.load,
                at_floor=bool((self.gate or {}).get("at_floor")),
                load_dsn=hook.load_dsn(),
            )
            self._stop.check()
            for name, value in receipt_lines(receipt):
                self.log.info("%-16s %s", name, value)
            if receipt.exit_status != 0:
                raise CommandFailed(command_title(receipt), remedy="Its log is above.")
        assert receipt.impact is not None  # noqa: S101  # of a command that has ended
        live.finish(receipt.impact)
        return {
            "command_id": receipt.command_id,
            "exit_status": receipt.exit_status,
            "seconds": receipt.seconds,
            "seconds_stopped": receipt.seconds_stopped,
            "output_size": receipt.output_size,
            "stored": receipt.stored.key if receipt.stored else None,
            "impact": dump_plain(receipt.impact),
        }

    def _guarded_command(self) -> GuardedCommand:
        import os

        from airflow_backup_guard.core.command import GuardedCommand

        environment = dict(os.environ) if self.env is None or self.append_env else {}
        max_stop, grace = check_options(self.max_stop, self.grace, self.nice, self.io_class)
        return GuardedCommand(
            words=check_words(self.command),
            environment={**environment, **(self.env or {})},
            folder=self.cwd,
            paces_stdout=self.output_file is not None or self.store is not None,
            max_stop=max_stop,
            grace=grace,
            nice=self.nice,
            io_class=self.io_class,
        )


def _as_of_copy(progress: CommandProgress) -> Progress:
    """Shown as a copy is, whose size nobody knows."""
    from airflow_backup_guard.engine.copy import Progress

    return Progress(
        progress.done, 0, progress.pace, progress.assessment, None, progress.window_end, "", progress.seconds
    )
