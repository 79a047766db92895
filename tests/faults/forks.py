"""Runs commands and operators in forked processes, so that one that is killed costs no start of Python.

As a program (``python -m tests.faults.forks``) it loads all that they need, and forks a child for each line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
BASELINE_SECONDS = 0.3


@dataclass
class Job:
    """A child: its process id, and where its output goes. Until it is waited for, nobody else gets its number."""

    forks: Forks
    pid: int
    said: Path
    status: int | None = None

    def send(self, number: int) -> None:
        """A signal, if it runs still."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Its exit status, below zero if a signal ended it; None while it runs."""
        if self.status is None:
            self.status = self.forks.ask({"poll": self.pid})
        return self.status

    def wait(self, seconds: float = 120) -> int:
        """Wait for its end; one that does not end is killed, and the test fails."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise AssertionError(f"it did not end in {seconds:.0f} s; it said:\n{self.output}")
            time.sleep(0.01)
        assert self.status is not None
        return self.status

    @property
    def output(self) -> str:
        """What it has written to stdout and stderr: nothing if a signal ended it before it could open its log."""
        return self.said.read_text(errors="replace") if self.said.exists() else ""


class Forks:
    """The process that forks."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._begun = 0

    def start(self, job: Sequence[Any], **environment: str) -> Job:
        """Begin a command, ``["backup", "--plan-name", "shop"]``, or ``["module:function", arguments…]``."""
        self._begun += 1
        said = self._folder / f"{self._begun:05}.log"
        pid = self.ask({"start": list(job), "said": str(said), "environment": environment})
        return Job(self, pid, said)

    def run(self, job: Sequence[Any], **environment: str) -> Job:
        """Begin it and wait for its end."""
        begun = self.start(job, **environment)
        begun.wait()
        return begun

    def ask(self, question: Mapping[str, Any]) -> Any:
        """One question to the process that forks, and its answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


@contextmanager
def forks(folder: Path) -> Iterator[Forks]:
    """Ready to fork; the outputs of the children go to files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PG"))}
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=TOP,
        env={**environment, "AIRFLOW_HOME": str(folder / "airflow")},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Forks(process, folder)
        assert process.stdin is not None
        process.stdin.close()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is loaded may write a word
    import airflow_backup_guard
    from airflow_backup_guard.engine.copy import copy

    for module in pkgutil.walk_packages(airflow_backup_guard.__path__, "airflow_backup_guard."):
        if module.name.split(".")[1] in ("cli", "core", "engine", "postgres", "repository"):
            importlib.import_module(module.name)
    importlib.import_module("tests.faults.operators")
    assert copy.__kwdefaults__ is not None
    copy.__kwdefaults__["baseline_seconds"] = BASELINE_SECONDS
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if "poll" in question:
            pid, status = os.waitpid(question["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                os._exit(_child(question))
        print(json.dumps(answer), file=answers, flush=True)


def _child(question: Mapping[str, Any]) -> int:
    from airflow_backup_guard.cli import main

    os.setsid()
    said = os.open(question["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(said, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(question["environment"])
    name, *arguments = question["start"]
    status = 1
    try:
        if ":" not in name:
            status = main([name, *arguments])
        else:
            module, _, function = name.partition(":")
            getattr(importlib.import_module(module), function)(*arguments)
            status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return status


if __name__ == "__main__":
    _serve()
