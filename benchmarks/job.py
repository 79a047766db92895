"""A backup as a process tree of its own: how long it takes, what it costs, and how far it has come."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.cluster import Cluster
from benchmarks.peers import Task
from benchmarks.report import Skipped, tree_ticks

_POLL_SECONDS = 0.2
_NOT_YET = ("initializing", "waiting for checkpoint to finish")
_STARTING = """SELECT count(*) FROM pg_stat_activity
WHERE state = 'active' AND query ~ 'pg_backup_start|pg_start_backup' AND pid <> pg_backend_pid()"""
_PROGRESS = "SELECT backup_streamed, backup_total, phase FROM pg_stat_progress_basebackup ORDER BY pid LIMIT 1"


class JobFailed(Exception):
    """A backup that ended badly, with the end of what it wrote."""


@contextlib.contextmanager
def failure_skips() -> Iterator[None]:
    """A tool that fails here is left out of the comparison, and named."""
    try:
        yield
    except JobFailed as error:
        raise Skipped(str(error)) from error


@dataclass(frozen=True)
class Outcome:
    """One backup. Times in seconds since 1970; ``begin`` is after the checkpoint, and ``end`` that of the copy where
    the server streams a base backup, and else of the process. ``share`` is how much of the database was
    read, 1 unless it was cut short. ``wall`` is from the start of the process to its end. ``track`` is how
    far the server had come when, as (time, bytes)."""

    begin: float
    end: float
    wall: float
    share: float
    cpu_seconds: float
    peak_memory: int
    output: str
    track: list[tuple[float, int]]

    @property
    def whole_seconds(self) -> float:
        """What the copy takes; if it was cut short, what it would have taken at the rate of its last ten seconds."""
        copied = self.end - self.begin
        if self.share >= 1 or not self.track:
            return copied
        until, done = self.track[-1]
        since, before = next(entry for entry in self.track if entry[0] >= until - 10)
        rate = (done - before) / (until - since) if until > since else 0.0
        return copied + done * (1 / self.share - 1) / rate if self.share and rate else float("inf")


def have_memory_ready(size: int) -> None:
    """Touch so many bytes of memory, and free them again.

    A virtual machine may give free memory back to its host within seconds, and taking it again costs a second for each
    GB or more: whoever came after a pause, or took more than the one before, would pay for it.
    """
    for _ in range(2):  # what the first pass takes may be gone again by its end
        bytes([1]) * size


def run_job(
    cluster: Cluster,
    task: Task,
    *,
    seconds: float = 3600.0,
    poll_seconds: float = _POLL_SECONDS,
    memory: bool = False,
    on_begin: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run one backup, stopped after ``seconds`` of copying; with ``memory`` its peak is measured, ten times a second.

    ``on_begin`` is called when the server begins to copy, or for tools that stream no base backup when they start.
    """
    folder = cluster.folder("job")
    environment = {**os.environ, **task.environment}
    # What is installed has its bytecode; without it every start would compile all that it loads.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with (
        (folder / "out").open("wb") as out,
        (folder / "err").open("wb") as err,
        psycopg.connect(cluster.dsn, autocommit=True) as watching,
    ):
        began = time.time()
        process = subprocess.Popen(
            [
                "taskset",
                "--cpu-list",
                ",".join(map(str, cluster.worker if task.remote else cluster.host)),
                *task.command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=Path(__file__).resolve().parent.parent,
            env=environment,
            start_new_session=True,
        )
        sampler = _MemorySampler(process.pid) if memory else None
        first: float | None = None
        last: float | None = None
        track: list[tuple[float, int]] = []
        if not task.streams:
            on_begin()
        share, stopped, copied = 0.0, False, False
        usage: resource.struct_rusage | None = None
        try:
            while True:
                pid, status, found = os.wait4(process.pid, os.WNOHANG)
                now = time.time()
                if pid:
                    process.returncode, usage = os.waitstatus_to_exitcode(status), found
                    break
                if task.streams:
                    row = watching.execute(_PROGRESS).fetchone()
                    if row is not None and row[2] not in _NOT_YET:
                        if first is None:
                            on_begin()
                        first, last = first or now, now
                        if row[1]:
                            share = max(share, min(1.0, row[0] / row[1]))
                            track.append((now, row[0]))
                    copied = copied or (row is None and first is not None)
                elif first is None or watching.execute(_STARTING).fetchone() != (0,):
                    first = now
                if first is not None and now - first > seconds and not stopped and not copied:
                    stopped = True
                    # The whole group: pg_basebackup's second process holds the first one's connection open.
                    os.killpg(process.pid, signal.SIGTERM)
                time.sleep(poll_seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if process.returncode is None:
                process.wait()
            peak = sampler.end() if sampler else 0
        _wait_until_gone(watching)
    output = (folder / "out").read_text(errors="replace")
    if process.returncode != 0 and not stopped:
        said = (folder / "err").read_text(errors="replace").strip() or output
        raise JobFailed(f"{Path(task.command[0]).name} ended with status {process.returncode}: {said[-1500:]}")
    assert usage is not None
    return Outcome(
        begin=first or began,
        end=last or now,
        wall=now - began,
        share=share if stopped else 1.0,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_memory=peak,
        output=output,
        track=track,
    )


def _wait_until_gone(watching: psycopg.Connection[tuple[object, ...]]) -> None:
    """The next backup is not to begin while the server still works on this one."""
    until = time.monotonic() + 30
    while watching.execute(_PROGRESS).fetchone() is not None:
        if time.monotonic() > until:
            raise JobFailed("the server went on with the base backup for 30 s after its client had ended")
        time.sleep(_POLL_SECONDS)


class _MemorySampler:
    """The most that all processes of one session held at once: proportional set size, so shared pages count once."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._peak = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Bytes."""
        self._ending.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._ending.wait(0.1):
            self._peak = max(self._peak, sum(map(_proportional_set_size, _session_members(self._session))))


def _session_members(session: int) -> list[int]:
    members = []
    for entry in os.listdir("/proc"):  # noqa: PTH208  # twice as fast, ten times a second
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    members.append(int(entry))
    return members


def _proportional_set_size(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def server_cpu_seconds(cluster: Cluster) -> float:
    """CPU time of the server so far, with all its processes, living and ended."""
    return tree_ticks(cluster.server.pid) / os.sysconf("SC_CLK_TCK")
