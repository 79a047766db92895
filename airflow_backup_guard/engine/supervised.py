"""The guard's end of a supervised command: its start, orders to its supervisor, what it says, and its stdout."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from airflow_backup_guard.core.command import GuardedCommand, names_of
from airflow_backup_guard.core.duty import Slices
from airflow_backup_guard.engine import supervisor
from airflow_backup_guard.errors import CommandEscaped, CommandLost, CommandNotExecutable, CommandNotFound

_START_SECONDS = 30.0
_END_SECONDS = 10.0
_JOIN_SECONDS = 2.0
_LONGEST_LINE = 1 << 14
_CHUNK = 1 << 16
_log = logging.getLogger(__name__)


class SupervisedCommand(AbstractContextManager["SupervisedCommand"]):
    """A command from entry to exit; whoever leaves early ends it, with everything that it has started.

    Its stderr, and its stdout unless that is paced, goes to ``on_line`` line by line, from a thread. ``unheard`` is how
    it is held should nobody give an order for three seconds. Raises :class:`CommandNotFound` and
    :class:`CommandNotExecutable` on entry.
    """

    def __init__(self, command: GuardedCommand, on_line: Callable[[str], None], unheard: Slices) -> None:
        self._command = command
        self._on_line = on_line
        self._unheard = unheard
        self._said = threading.Event()
        self._gone = threading.Event()
        self._failure: dict[str, Any] | None = None
        self._pid: int | None = None
        self._output: int | None = None
        self.returned: int | None = None
        """Its exit status, or minus the signal that ended it; None while it runs."""
        self.running = self.stopped = 0.0
        """Seconds that it ran, and stood still."""
        self.left: list[str] = []
        self.killed: list[str] = []
        self.stuck: list[str] = []
        self.foreign: list[str] = []
        self._ended = False

    def __enter__(self) -> SupervisedCommand:
        command = self._command
        log_from, log_to = os.pipe()
        output_to = None
        if command.paces_stdout:
            self._output, output_to = os.pipe()
        given = [log_to] if output_to is None else [log_to, output_to]
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", str(Path(supervisor.__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_to,
                pass_fds=given[1:],
                start_new_session=True,  # Ctrl-C is for the guard, which then ends the command in good order
            )
        finally:
            for number in given:
                os.close(number)
        self._threads = [
            threading.Thread(target=self._listen, name="command-events", daemon=True),
            threading.Thread(target=self._read_log, args=(log_from,), name="command-log", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._order(
            command=command.words,
            environment=dict(command.environment),
            folder=command.folder,
            output=output_to,
            nice=command.nice,
            io_class=command.io_class,
            grace=command.grace.total_seconds(),
            max_stop=command.max_stop.total_seconds(),
            unheard=list(asdict(self._unheard).values()),
        )
        assert self._process.stdin is not None  # noqa: S101
        os.set_blocking(self._process.stdin.fileno(), False)
        self._said.wait(_START_SECONDS)
        if self._pid is None:
            self._close()
            raise self._not_started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._close()

    def hold(self, slices: Slices) -> None:
        """Let it run and stand still like this; to be called several times a second."""
        self._order(hold=[slices.run, slices.stop])

    def wait(self, seconds: float) -> bool:
        """True once it has ended, with all that it started; raises :class:`CommandLost` if nobody holds it."""
        if not self._gone.wait(seconds):
            return False
        if not self._ended:
            raise CommandLost(
                "The process that held the command was killed, and the command with it.",
                remedy="Run it again; look in the kernel's log for what is out of memory.",
            )
        return True

    def read(self, seconds: float) -> bytes | None:
        """The next bytes of its stdout, if it is paced: empty at the end, None if none came in that time."""
        assert self._output is not None  # noqa: S101
        ready, _, _ = select.select([self._output], [], [], seconds)
        return os.read(self._output, _CHUNK) if ready else None

    def end(self) -> None:
        """Terminate it with everything that it started, and kill what is left after the grace; waits for that."""
        if self._gone.is_set():
            if not self._ended:
                self._end_orphans()
            return
        self._order(end=True)
        self._gone.wait(self._command.grace.total_seconds() + _END_SECONDS)

    def request_end(self) -> None:
        """The same without waiting; from any thread."""
        self._order(end=True)

    def check(self) -> None:
        """After its end, raises :class:`CommandEscaped` if anything of it was not in the guard's hand."""
        if self.stuck or self.foreign:
            raise CommandEscaped(
                f"Processes of the command could not be signalled: {names_of(self.stuck or self.foreign)}.",
                remedy="Those of another user cannot be held: run the guard as that user, as in "
                "'sudo -u postgres backup-guard run -- …'. Look whether they still run.",
            )
        if self.left and self.returned == 0:
            raise CommandEscaped(
                f"The command ended, but left processes behind, which nobody waits for: {names_of(self.left)}. "
                "They were ended.",
                remedy="Let it stay in the foreground until its work is done; for ssh, ControlPersist=no.",
            )

    def warnings(self) -> list[str]:
        """What else a person should know of its end."""
        found = []
        if self.killed:
            found.append(f"Killed, as SIGTERM did not end it in time: {names_of(self.killed)}.")
        if self.left and self.returned != 0:
            found.append(f"Left behind, and ended: {names_of(self.left)}.")
        return found

    def _order(self, **order: Any) -> None:
        assert self._process.stdin is not None  # noqa: S101
        # Who cannot be told anything any more knows what to do.
        with suppress(OSError, ValueError):
            os.write(self._process.stdin.fileno(), json.dumps(order).encode() + b"\n")

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        with suppress(ValueError):
            for line in self._process.stdout:
                self._take(json.loads(line))
        self._process.wait()
        self._said.set()
        self._gone.set()

    def _take(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "started":
                self._pid = event["pid"]
                self._said.set()
            case "failed":
                self._failure = event
            case "time":
                self.running, self.stopped = event["running"], event["stopped"]
            case "exited":
                self.returned = event["status"]
            case "left" | "killed" | "stuck" as what:
                setattr(self, what, event["names"])
            case "ended":
                self.foreign = event["foreign"]
                self._ended = True

    def _read_log(self, log: int) -> None:
        pending = b""
        with os.fdopen(log, "rb", buffering=0) as stream:
            while received := stream.read(_CHUNK):
                *lines, pending = (pending + received).replace(b"\r", b"\n").split(b"\n")
                for line in lines:
                    self._pass_on(line)
                while len(pending) >= _LONGEST_LINE:
                    self._pass_on(pending[:_LONGEST_LINE])
                    pending = pending[_LONGEST_LINE:]
            self._pass_on(pending)

    def _pass_on(self, line: bytes) -> None:
        if line.strip():
            try:
                self._on_line(line.decode(errors="backslashreplace").rstrip())
            except Exception:  # a log that cannot be written must not keep the command from being held
                _log.exception("A line of the command's log was lost")

    def _end_orphans(self) -> None:
        """Without its supervisor: the kernel has continued the group and told the command to end."""
        assert self._pid is not None  # noqa: S101
        with suppress(OSError):
            os.killpg(self._pid, signal.SIGTERM)
            os.killpg(self._pid, signal.SIGCONT)
            until = time.monotonic() + self._command.grace.total_seconds()
            while time.monotonic() < until:
                os.killpg(self._pid, 0)
                time.sleep(0.05)
            os.killpg(self._pid, signal.SIGKILL)

    def _not_started(self) -> CommandNotFound | CommandNotExecutable | CommandLost:
        program, failure = self._command.words[0], self._failure
        if failure is None:
            return CommandLost("The command's supervisor did not start.", remedy="See the log; run it again.")
        if failure["number"] in (2, 20) and failure["name"] == self._command.folder:
            return CommandNotFound(f"The folder {failure['name']} is not there.", remedy="Correct it, or make it.")
        if failure["number"] in (2, 20):
            return CommandNotFound(
                f"The command {program} is not found.",
                remedy="Is it installed, and on the PATH that it is given? A shell takes 'sh -c …'. "
                "If it is a script, is its interpreter there?",
            )
        return CommandNotExecutable(
            f"The command {program} cannot be run: {failure['message']}.",
            remedy="Is it executable for this user, and does a script begin with a line such as #!/bin/sh?",
        )

    def _close(self) -> None:
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        if self._output is not None:
            os.close(self._output)
            self._output = None
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101
        with suppress(OSError):
            self._process.stdin.close()
        if self._gone.is_set():
            self._process.stdout.close()
