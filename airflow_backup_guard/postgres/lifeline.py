"""Make sure that a server and its folders do not outlive this Python process, however that process ends."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from airflow_backup_guard.postgres.account import Account

# Reads process ids from a pipe that only we hold; its end means that we are gone (even by SIGKILL). Then: a
# fast shutdown, an immediate one after 10 s, SIGKILL after 15 s, and the folders go.
# A pipe rather than PR_SET_PDEATHSIG: that one is Linux only, fires when the *thread* that started the server
# ends, and needs code between fork and exec.
_WATCH = """
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
  kill -INT "$pid" 2>/dev/null
  tenths=0
  while kill -0 "$pid" 2>/dev/null && [ "$tenths" -lt 160 ]; do
    sleep 0.1
    tenths=$((tenths + 1))
    [ "$tenths" -eq 100 ] && kill -QUIT "$pid" 2>/dev/null
    [ "$tenths" -eq 150 ] && kill -KILL "$pid" 2>/dev/null
  done
fi
rm -rf -- "$@"
"""


class Lifeline:
    """A tiny watcher process, in a session of its own so that Ctrl-C in a terminal does not reach it.

    What remains: a process forked from this one without exec (multiprocessing's fork) holds the pipe too, so
    the watcher acts when the last of them has ended. SIGKILL of the watcher as well leaves all of it running.
    """

    def __init__(self, folders: Sequence[Path], account: Account) -> None:
        """``folders`` are removed, as ``account``, when this process ends or :meth:`close` is called."""
        self._watcher = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCH, "backup-guard-watcher", *map(str, folders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **account.options(),
        )

    @property
    def pid(self) -> int:
        """Process id of the watcher."""
        return self._watcher.pid

    def guard(self, pid: int | None) -> None:
        """End this process too when we end; only the last one named counts, None for none."""
        assert self._watcher.stdin is not None  # noqa: S101
        try:
            self._watcher.stdin.write(b"\n" if pid is None else b"%d\n" % pid)
            self._watcher.stdin.flush()
        except BrokenPipeError:
            # Somebody killed the watcher: the server still ends with close() and at a normal exit.
            return

    def close(self) -> None:
        """Let the watcher finish now; returns when the guarded process has ended and the folders are gone."""
        assert self._watcher.stdin is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):
            self._watcher.stdin.close()
        self._watcher.wait()
