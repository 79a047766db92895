"""A restored cluster, started for a drill: cut off from the world, small, and never left running."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from airflow_backup_guard.errors import SourceUnavailable
from airflow_backup_guard.postgres.server import QUARANTINE, LocalServer

# What the original was given is for another machine. fsync stays on, or the achieved RTO would flatter.
_SMALL = {
    "autovacuum": "off",
    "huge_pages": "off",
    "jit": "off",
    "maintenance_work_mem": "64MB",
    "max_connections": "30",
    "max_parallel_workers": "2",
    # A transaction that was prepared must find its place again, and what the original had may be in a file elsewhere.
    "max_prepared_transactions": "300",
    "shared_buffers": "64MB",
    "superuser_reserved_connections": "3",
    "work_mem": "8MB",
}
_CUT_OFF = {
    **QUARANTINE,
    "archive_command": "",
    "archive_library": "",
    "listen_addresses": "",
    "local_preload_libraries": "",
    "max_wal_senders": "0",
    "restore_command": "",
    "session_preload_libraries": "",
    # A commit would wait for standbys for ever.
    "synchronous_standby_names": "",
}
# Not known to those before.
_SINCE = {
    16: {"reserved_connections": "0"},
    17: {"event_triggers": "off", "summarize_wal": "off", "sync_replication_slots": "off"},
    18: {"io_method": "worker"},
}
# A line of postgresql.conf: name and value, between them = or blanks; a quote in the value is doubled or escaped.
_SETTING = re.compile(r"\s*(?P<name>\w+)\s*(?:=|\s)\s*(?P<value>'(?:[^'\\]|''|\\.)*'|[^\s#']+)")
_SETTING_FILES = ("postgresql.conf", "postgresql.auto.conf")
_END_SECONDS = 20.0
_POLL_SECONDS = 0.05


class DrillServer:
    """For a ``with``: hands out the server, to be started inside; ends it as soon as ``stop_asked``, and at the end.

    Raises :class:`SourceUnsuitable` where no programs of its major version are found.
    """

    def __init__(self, data_directory: Path, superuser: str, stop_asked: Callable[[], bool]) -> None:
        major = int((data_directory / "PG_VERSION").read_text())
        self._server = LocalServer(data_directory, settings=_settings(major), superuser=superuser, tcp=False)
        self._stop_asked = stop_asked
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._end_when_asked, daemon=True)

    def __enter__(self) -> LocalServer:
        self._watch.start()
        return self._server

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._watch.join()
        # What was restored is thrown away, so that nothing need be flushed.
        self._server.kill()
        self._server.close()

    def _end_when_asked(self) -> None:
        """A query that runs for long does not look at a flag, but notices that its server goes."""
        while not self._over.wait(_POLL_SECONDS):
            if self._stop_asked():
                with suppress(SourceUnavailable, ProcessLookupError):
                    os.kill(self._server.pid, signal.SIGQUIT)
                return


def take_settings_out(data_directory: Path) -> dict[str, str]:
    """Take out of the settings of a restored cluster what a drill overrules; returns those values by name.

    The server reads them all the same, and does not start on one that its build does not know, such as ``ssl = on``.
    """
    names = _settings(int((data_directory / "PG_VERSION").read_text())).keys()
    taken: dict[str, str] = {}
    for path in (data_directory / name for name in _SETTING_FILES):
        if not path.is_file():
            continue
        kept = []
        for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True):
            setting = _SETTING.match(line)
            if setting and setting["name"].lower() in names:
                taken[setting["name"].lower()] = setting["value"].strip("'")
            else:
                kept.append(line)
        path.write_text("".join(kept), encoding="utf-8", errors="surrogateescape")
    return taken


def _settings(major: int) -> dict[str, str]:
    newer = {name: value for since, values in _SINCE.items() if major >= since for name, value in values.items()}
    return {**_CUT_OFF, **_SMALL, **newer}


def end_left_over(data_directory: Path) -> bool:
    """End the server of a drill that was killed, if one still runs on its data directory; False if none did.

    It is told by its lock file, and is ours only if it was started on this very directory: another process may have
    been given its number. Raises :class:`SourceUnavailable` if it cannot be ended.
    """
    pid = _running_on(data_directory)
    if pid is None:
        return False
    for number, seconds in ((signal.SIGQUIT, _END_SECONDS), (signal.SIGKILL, _END_SECONDS)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if _running_on(data_directory) != pid:
                return True
            time.sleep(_POLL_SECONDS)
    raise SourceUnavailable(f"PostgreSQL {pid} in {data_directory}, left by a drill that was killed, does not end.")


def _running_on(data_directory: Path) -> int | None:
    try:
        pid = int((data_directory / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
    arguments = _arguments(pid) if pid > 1 else []
    for option, value in pairwise(arguments):
        if option == "-D" and value == str(data_directory):
            return pid
    return None


def _arguments(pid: int) -> list[str]:
    """How a process was started; empty if it is gone."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        except OSError:
            return []
    ps = shutil.which("ps") or "/bin/ps"
    done = subprocess.run(  # noqa: S603
        [ps, "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.split(" ")
