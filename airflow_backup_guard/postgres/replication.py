"""A session in PostgreSQL's streaming replication protocol that never blocks longer than it was told to.

psycopg's ``pq`` layer holds the interpreter lock in its blocking reads, so everything here waits in ``poll``
and reads what has arrived. Protocol: "Streaming Replication Protocol" in PostgreSQL's documentation.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import psycopg
from psycopg.pq import ExecStatus

from airflow_backup_guard.errors import BackupGuardError, SourceBusy, SourceUnavailable, SourceUnsuitable
from airflow_backup_guard.postgres.connection import conninfo, describe, parse_conninfo, translated

Row: TypeAlias = "tuple[str | None, ...]"
KeepGoing: TypeAlias = "Callable[[], None]"
"""Called several times a second during waits; raises to end them."""

_POLL_SECONDS = 0.1
# A worker that vanishes without a word must not leave a session behind for the hours that TCP's defaults take. What the
# server gives it up after is also the longest that a copy may be without reading, whatever the server's own (maybe much
# shorter) setting: a repository that hangs has five tries of a minute each before it is the one to blame.
_SERVER_SETTINGS = {
    "tcp_user_timeout": "6min",
    "tcp_keepalives_idle": "30s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "3",
    "wal_sender_timeout": "10min",
}


class ReplicationConnection:
    """One walsender session. Closing it ends the walsender at once, whatever it was doing."""

    def __init__(self, dsn: str, application_name: str) -> None:
        """Connect; raises :class:`SourceUnavailable`, :class:`SourceBusy` or :class:`SourceUnsuitable`."""
        self._place = describe(dsn)
        options = " ".join(f"-c {name}={value}" for name, value in _SERVER_SETTINGS.items())
        given = parse_conninfo(dsn).get("options") or ""
        keywords = {
            "replication": "true",
            "application_name": application_name,
            "options": f"{options} {given}".strip(),
        }
        with translated(dsn):
            self._connection = psycopg.Connection.connect(conninfo(dsn, **keywords), autocommit=True)
        self._pgconn = self._connection.pgconn
        self._pgconn.nonblocking = 1
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)

    def close(self) -> None:
        """End the session. Idempotent."""
        self._connection.close()

    def cut(self) -> None:
        """End the session from another thread: the server notices at once, and whoever reads here gets an error."""
        # libpq itself is not safe to call from two threads; the socket below it is.
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._pgconn.socket)) as connected:
            connected.shutdown(socket.SHUT_RDWR)

    def query(self, command: str, keep_going: KeepGoing) -> list[Row]:
        """Run a replication command that answers with one result set."""
        self.send(command)
        rows = self.result(keep_going)
        while self._next_result(keep_going) is not None:
            pass
        return rows

    def send(self, command: str) -> None:
        """Send a command whose answers are then read with :meth:`result` and :meth:`copy_data`."""
        try:
            self._pgconn.send_query(command.encode())
            self._flush()
        except psycopg.Error as error:
            raise self._broken(str(error)) from error

    def result(self, keep_going: KeepGoing) -> list[Row]:
        """The next result set; raises if the server answered with an error or began a copy."""
        result = self._next_result(keep_going)
        if result is None or result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise self._broken("the server answered out of turn.")
        return [
            tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    def begin_copy(self, keep_going: KeepGoing) -> None:
        """Wait until the server begins to stream."""
        result = self._next_result(keep_going)
        if result is None or result.status not in (ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH):
            raise self._broken("the server did not begin to stream.")

    def copy_data(self, timeout: float) -> memoryview | bool | None:
        """The next message of the stream; None if none came within ``timeout`` seconds, False at its end."""
        size, data = self._copy_message()
        if size == 0:
            self._receive(timeout)
            size, data = self._copy_message()
        if size > 0:
            return data
        return None if size == 0 else False

    def put_copy_data(self, data: bytes) -> None:
        """Send a message on a stream that goes both ways."""
        try:
            self._pgconn.put_copy_data(data)
            self._flush()
        except psycopg.Error as error:
            raise self._broken(str(error)) from error

    def _receive(self, timeout: float) -> None:
        self._poll.poll(timeout * 1000)
        try:
            # Also after a timeout: what TLS has decrypted already does not show on the socket.
            self._pgconn.consume_input()
        except psycopg.Error as error:
            raise self._broken(str(error)) from error

    def _copy_message(self) -> tuple[int, memoryview]:
        try:
            return self._pgconn.get_copy_data(1)
        except psycopg.Error as error:
            raise self._broken(str(error)) from error

    def _next_result(self, keep_going: KeepGoing) -> psycopg.pq.abc.PGresult | None:
        while self._pgconn.is_busy():
            keep_going()
            self._receive(_POLL_SECONDS)
        try:
            result = self._pgconn.get_result()
        except psycopg.Error as error:
            raise self._broken(str(error)) from error
        if result is not None and result.status == ExecStatus.FATAL_ERROR:
            raise self._refused(result)
        return result

    def _flush(self) -> None:
        while self._pgconn.flush() == 1:
            self._receive(_POLL_SECONDS)

    def _refused(self, result: psycopg.pq.abc.PGresult) -> BackupGuardError:
        def field(code: psycopg.pq.DiagnosticField) -> str:
            return (result.error_field(code) or b"").decode("utf-8", "replace")

        state = field(psycopg.pq.DiagnosticField.SQLSTATE)
        text = f"{self._place}: {field(psycopg.pq.DiagnosticField.MESSAGE_PRIMARY)}."
        if state == "58P01" and "has already been removed" in text:
            return SourceUnavailable(
                text,
                remedy="The repository takes WAL more slowly than it is written: use a faster one, or raise the "
                "server's wal_keep_size so that it bears with it.",
            )
        if state in ("53400", "55000") and "slot" in text:
            return SourceBusy(text, remedy="Free a replication slot, or raise max_replication_slots.")
        if state.startswith(("53", "55", "57", "08", "XX", "58")) or not state:
            return SourceUnavailable(text, remedy="The log of the server may say more; try again once it is well.")
        return SourceUnsuitable(text, remedy="The log of the server may say more.")

    def _broken(self, text: str) -> SourceUnavailable:
        reason = " ".join(text.split()) or "the connection broke."
        return SourceUnavailable(
            f"{self._place}: {reason}", remedy="Check the server's log and the network; then retry."
        )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")
