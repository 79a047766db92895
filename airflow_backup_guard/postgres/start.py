"""Starts PostgreSQL on a restored data directory: it outlives this process, and is kept from acting on the world."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from airflow_backup_guard.errors import SourceUnavailable, SourceUnsuitable
from airflow_backup_guard.postgres.account import account_for, check_reachable, hand_over
from airflow_backup_guard.postgres.server import QUARANTINE

LOG_FILE = "startup.log"
_LOG_TAIL_LINES = 15
_LONGEST_SOCKET_PATH = 80


@dataclass(frozen=True)
class Started:
    """A server that accepts connections: how to stop it, on which host and port it listens, and as whom it runs."""

    stop: str
    host: str
    port: int
    user: str
    log: Path


def start_server(data_directory: Path, binaries: Path, *, port: int, timeout: int) -> Started:
    """Start it, and wait until recovery has come to a consistent state and connections are accepted.

    It listens on 127.0.0.1 and a socket in the data directory, which only its owner enters; it archives nothing,
    follows no primary, loads no library, and uses no TLS, until it is started otherwise. A root user's server runs as
    the owner of the folder, which is given to ``nobody`` if it is root's. ``timeout`` in seconds.

    ``binaries`` is the folder of the programs. Raises :class:`SourceUnsuitable` if whoever would run them cannot, or
    the data directory has no configuration, and :class:`SourceUnavailable` with the end of its log if it does not come
    up; the data directory stays.
    """
    restored = f"{data_directory} is restored, but PostgreSQL was not started on it"
    missing = [name for name in ("postgresql.conf", "pg_hba.conf") if not (data_directory / name).exists()]
    if missing:
        raise SourceUnsuitable(
            f"{restored}: the original kept {' and '.join(missing)} elsewhere.",
            remedy="Put them into the folder, then start it by hand.",
        )
    account = account_for(data_directory)
    if not account.can("x", binaries / "pg_ctl"):
        raise SourceUnsuitable(
            f"{restored}: {account.name}, whom it would run as, cannot run {binaries / 'pg_ctl'}.",
            remedy="Install PostgreSQL from your operating system, or name other programs with --binaries.",
        )
    check_reachable(data_directory.parent, account)
    hand_over(data_directory, account)
    log = data_directory / LOG_FILE
    settings = {
        **QUARANTINE,
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(data_directory) if len(str(data_directory)) <= _LONGEST_SOCKET_PATH else "",
        "logging_collector": "off",
        "log_destination": "stderr",
        "external_pid_file": "",
        "data_directory": str(data_directory),
    }
    options = shlex.join(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
    pg_ctl = [str(binaries / "pg_ctl"), "-D", str(data_directory)]
    done = subprocess.run(  # noqa: S603
        [*pg_ctl, "-l", str(log), "-o", options, "-w", "-t", str(timeout), "start"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        start_new_session=True,
        **account.options(),
    )
    if done.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:] if log.exists() else [done.stdout]
        raise SourceUnavailable(
            f"{restored}: it was not ready after {timeout} s, or ended. The end of {log}:\n" + "\n".join(tail),
            remedy=f"See what it says; if it still recovers, wait: {shlex.join([*pg_ctl, 'status'])}.",
        )
    return Started(shlex.join([*pg_ctl, "stop"]), "127.0.0.1", port, account.name, log)
