"""A small process of its own that holds a command: starts it, lets it run and stand still in turn, and ends all of it.

It is there for the moment at which the guard dies: its stdin then ends, and it continues the command and terminates it.
Run as a program, with nothing but the standard library: one line of JSON on stdin says what to start, each later one is
an order; what happens is told on stdout, a line of JSON each.

* in: ``{"command", "environment", "folder", "output", "nice", "io_class", "grace", "max_stop", "unheard"}``, then
  ``{"hold": [run, stop]}`` in seconds, which ``unheard`` takes the place of when no order came for a while, and
  ``{"end": true}``
* out: ``started``, ``failed``, ``time`` (seconds that it ran and stood, in answer to each order), ``exited`` (status),
  ``left`` (the names of processes that outlive the command), ``killed`` (those that ignored SIGTERM), ``stuck`` (those
  that nobody can end), ``ended`` (with ``foreign``, those of another user, which may not be signalled)
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TICK_SECONDS = 0.1
# A pipeline's members end one after the other.
_LINGER_SECONDS = 1.0
_UNHEARD_SECONDS = 3.0
_KILL_SECONDS = 5.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IO_CLASSES = {"best-effort": 2 << 13 | 7, "idle": 3 << 13}


class Family:
    """All processes that descend from this one. Whatever forks, and leaves its group or session, stays in it (Linux);
    elsewhere it is the command's process group."""

    def __init__(self) -> None:
        self.group = 0
        self.foreign: set[str] = set()
        self._linux = sys.platform == "linux"
        if self._linux:
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def members(self) -> set[int]:
        """The ids of those that live."""
        if not self._linux:
            with contextlib.suppress(OSError):
                os.killpg(self.group, 0)
                return {self.group}
            return set()
        found: set[int] = set()
        seen = [os.getpid()]
        while seen:
            children = set(_children(seen.pop())) - found
            found |= children
            seen += children
        return {pid for pid in found if not _is_dead(pid)}

    def signal(self, number: int) -> None:
        """Send to all, until nobody new is found: who forks faster than we look is caught by its group."""
        told: set[int] = set()
        for _ in range(5):
            if self.group:
                with contextlib.suppress(OSError):
                    os.killpg(self.group, number)
            new = self.members() - told
            if not new:
                return
            for pid in new:
                try:
                    os.kill(pid, number)
                except PermissionError:
                    self.foreign.add(name_of(pid))
                except ProcessLookupError:
                    continue
            told |= new

    def leader_is_gone(self) -> None:
        """The number of its group may be given to others from now on."""
        if self._linux:
            self.group = 0

    def names(self) -> list[str]:
        """``["sleep (4711)"]``: who lives."""
        return sorted(map(name_of, self.members()))


def name_of(pid: int) -> str:
    """``sleep (4711)``."""
    with contextlib.suppress(OSError):
        return f"{Path(f'/proc/{pid}/comm').read_text().strip()} ({pid})"
    return f"process {pid}"


class Supervisor:
    """One command from its start to the end of the last of its processes."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked
        self._family = Family()
        self._parent = os.getppid()
        self._pid = 0
        self._exited_at: float | None = None
        self._run: float
        self._stop: float
        self._run, self._stop = asked["unheard"]
        self._running = True
        self._counted_at = self._slice_at = self._heard_at = time.monotonic()
        self._ran = 0.0
        """Seconds that the last slice of running really took: the stop that follows is as long as it has to be."""
        self._seconds = {True: 0.0, False: 0.0}
        self._pending = b""
        self._ending = False

    def start(self) -> bool:
        """Start the command; tells why if it cannot be."""
        asked = self._asked
        try:
            process = subprocess.Popen(  # noqa: S603
                asked["command"],
                env=asked["environment"],
                cwd=asked["folder"],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr if asked["output"] is None else asked["output"],
                stderr=sys.stderr,
                preexec_fn=lambda: _prepare(asked["nice"], asked["io_class"]),
            )
        except (OSError, ValueError) as error:
            number, name = getattr(error, "errno", None), getattr(error, "filename", None)
            tell(event="failed", number=number, message=getattr(error, "strerror", None) or str(error), name=name)
            return False
        finally:
            if asked["output"] is not None:
                os.close(asked["output"])
        self._pid = self._family.group = process.pid
        process.returncode = 0  # it is waited for here
        self._counted_at = self._slice_at = time.monotonic()
        tell(event="started", pid=self._pid)
        return True

    def run(self) -> None:
        """Hold the command until it and all that it started have ended."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        woken, wakes = os.pipe()
        os.set_blocking(wakes, False)
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        while True:
            self._reap()
            if self._exited_at is not None and not self._family.members():
                break
            now = time.monotonic()
            if self._exited_at is not None and now - self._exited_at > _LINGER_SECONDS and not self._ending:
                tell(event="left", names=self._family.names())
                self._ending = True
            if self._ending or os.getppid() != self._parent:
                self._end()
                break
            self._turn(now)
            ready, _, _ = select.select([0, woken], [], [], self._wait(now))
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
            if 0 in ready:
                self._obey()
        self._tell_time()
        tell(event="ended", foreign=sorted(self._family.foreign))

    def _on_signal(self, number: int, frame: object) -> None:
        self._ending = True

    def _wait(self, now: float) -> float:
        due = self._run if self._running else self._due_stop()
        left = self._slice_at + due - now if self._stop and self._exited_at is None else _TICK_SECONDS
        return min(max(left, 0.0), _TICK_SECONDS)

    def _due_stop(self) -> float:
        longest: float = self._asked["max_stop"]
        return min(self._stop * max(self._ran / self._run, 1.0), longest)

    def _turn(self, now: float) -> None:
        """Let it stand, or run, once the slice is over; a command that has exited leaves nobody to hold."""
        if now - self._heard_at > _UNHEARD_SECONDS:
            self._hold(*self._asked["unheard"])
        if self._exited_at is not None or not self._stop:
            wanted = True
        elif self._running:
            wanted = now - self._slice_at < self._run
        else:
            wanted = now - self._slice_at >= self._due_stop()
        if wanted == self._running:
            return
        self._family.signal(signal.SIGCONT if wanted else signal.SIGSTOP)
        self._flip(wanted)

    def _flip(self, running: bool) -> None:
        self._account()
        if self._running:
            self._ran = self._counted_at - self._slice_at
        self._slice_at = self._counted_at
        self._running = running

    def _account(self) -> None:
        now = time.monotonic()
        self._seconds[self._running] += now - self._counted_at
        self._counted_at = now

    def _hold(self, run: float, stop: float) -> None:
        if not self._stop:
            self._slice_at = time.monotonic()  # until now it just ran
        self._run, self._stop = run, stop

    def _obey(self) -> None:
        received = os.read(0, 65536)
        if not received:  # the guard is dead
            self._ending = True
            return
        *lines, self._pending = (self._pending + received).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "hold" in order:
                self._hold(*order["hold"])
            self._ending = self._ending or "end" in order
        self._heard_at = time.monotonic()
        self._tell_time()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                if pid == self._pid and self._exited_at is None:
                    self._exited_at = time.monotonic()
                    self._family.leader_is_gone()
                    tell(event="exited", status=os.waitstatus_to_exitcode(status))

    def _end(self) -> None:
        """Terminate all, and kill those that are left after the grace; a stopped process takes its SIGTERM when it is
        continued."""
        self._ending = True
        self._family.signal(signal.SIGTERM)
        self._family.signal(signal.SIGCONT)
        self._flip(True)
        if self._gone_within(self._asked["grace"]):
            return
        tell(event="killed", names=self._family.names())
        until = time.monotonic() + _KILL_SECONDS
        while time.monotonic() < until:
            self._family.signal(signal.SIGKILL)
            if self._gone_within(_TICK_SECONDS):
                return
        tell(event="stuck", names=self._family.names())

    def _gone_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while True:
            living = self._family.members()
            self._reap()  # after that look: who died before it is still to be waited for, and its status to be told
            if not living:
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(_TICK_SECONDS / 5)

    def _tell_time(self) -> None:
        self._account()
        tell(event="time", running=round(self._seconds[True], 4), stopped=round(self._seconds[False], 4))


def tell(**event: Any) -> None:
    """One line to the guard, if it is still there."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(event).encode() + b"\n")


def _children(pid: int) -> Iterator[int]:
    """Of all threads of a process; of a kernel without that list, by looking at every process there is."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  # many times a second
        for thread in threads:
            yield from map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except OSError:
        if not Path("/proc/self/task").exists() or Path(f"/proc/self/task/{os.getpid()}/children").exists():
            return
        for entry in os.listdir("/proc"):  # noqa: PTH208
            if entry.isdigit() and _status(int(entry))[1:2] == [str(pid)]:
                yield int(entry)


def _is_dead(pid: int) -> bool:
    return _status(pid)[:1] in ([], ["Z"], ["X"])


def _status(pid: int) -> list[str]:
    """State and parent, first of what the kernel says of a process; nothing of one that is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _prepare(nice: int, io_class: str | None) -> None:
    """In the new process: a group of its own in this session, so that the kernel continues it should we die while it
    stands, and a place behind others."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    call = _IOPRIO_SET.get(platform.machine()) if sys.platform == "linux" else None
    if io_class is not None and call is not None:
        _libc().syscall(call, 1, 0, _IO_CLASSES[io_class])


def _prctl(option: int, value: int) -> None:
    _libc().prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """The first line says what is asked for; no order follows before it is obeyed."""
    asked = b""
    while not asked.endswith(b"\n"):
        received = os.read(0, 65536)
        if not received:
            return
        asked += received
    supervisor = Supervisor(json.loads(asked))
    if supervisor.start():
        supervisor.run()


if __name__ == "__main__":
    main()
