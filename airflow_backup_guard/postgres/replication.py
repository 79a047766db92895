"""A session in PostgreSQL's streaming replication protocol that never blocks longer than it was told to.

psycopg's ``pq`` layer holds the interpreter lock in its blocking reads, so everything here waits in ``poll``
and reads what has arrived. Protocol: "Streaming Replication Protocol" in PostgreSQL's documentation.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import psycopg
from psycopg.pq import ExecStatus

from airflow_backup_guard.errors import BackupGuardError, SourceBusy, SourceUnavailable, SourceUnsuitable
from airflow_backup_guard.postgres import connection
from airflow_backup_guard.postgres.connection import conninfo, cut, describe, session_options, translated

Row: TypeAlias = "tuple[str | None, ...]"
KeepGoing: TypeAlias = "Callable[[], None]"
"""Called several times a second during waits; raises to end them."""

_POLL_SECONDS = 0.1
_READ_AHEAD = 1 << 17
_TCP_INFO_RTT = 68  # where Linux has tcpi_rtt in struct tcp_info


class ReplicationConnection:
    """One walsender session. Closing it ends the walsender at once, whatever it was doing."""

    def __init__(self, dsn: str, application_name: str) -> None:
        """Connect; raises :class:`SourceUnavailable`, :class:`SourceBusy` or :class:`SourceUnsuitable`."""
        self._place = describe(dsn)
        keywords = {"replication": "true", "application_name": application_name, "options": session_options(dsn)}
        with translated(dsn):
            self._connection = psycopg.Connection.connect(conninfo(dsn, **keywords), autocommit=True)
        self._pgconn = self._connection.pgconn
        self._pgconn.nonblocking = 1
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)

    @property
    def pid(self) -> int:
        """Process id of its walsender."""
        return self._connection.info.backend_pid

    def close(self) -> None:
        """End the session. Idempotent."""
        self._connection.close()

    def cut(self) -> None:
        """End the session from another thread: the server notices at once, and whoever reads here gets an error."""
        cut(self._pgconn)

    def read_ahead_little(self, rate: float) -> None:
        """Bound what arrives here unasked, and what a copy that pauses makes the server read in vain: the kernel would
        take megabytes of it. Kept is what it takes to read ``rate`` bytes per second over a connection as slow as
        this one; where the system does not permit that much, its own way is left alone.
        """
        with socket.socket(fileno=os.dup(self._pgconn.socket)) as connected:
            if connected.family not in (socket.AF_INET, socket.AF_INET6) or not hasattr(socket, "TCP_INFO"):
                return
            info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_RTT + 4)
            (microseconds,) = struct.unpack_from("=I", info, _TCP_INFO_RTT)
            needed = int(rate * 2 * microseconds / 1e6)
            try:
                permitted = int(Path("/proc/sys/net/core/rmem_max").read_text())
            except (OSError, ValueError):
                return
            if needed <= permitted:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(needed, min(permitted, _READ_AHEAD)))

    def query(self, command: str, keep_going: KeepGoing) -> list[Row]:
        """Run a replication command that answers with one result set, at once."""
        until = time.monotonic() + connection.ANSWER_SECONDS

        def not_too_long() -> None:
            keep_going()
            if time.monotonic() > until:
                raise self._broken(f"it has not answered {command} for {connection.ANSWER_SECONDS} s.")

        self.send(command)
        rows = self.result(not_too_long)
        while self._next_result(not_too_long) is not None:
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
            self._consume()  # what has arrived already need not be waited for
            size, data = self._copy_message()
        if size == 0 and timeout > 0:
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

    def end_copy(self, keep_going: KeepGoing) -> None:
        """End a stream that goes both ways; what the server has sent of it until it hears that is dropped."""
        try:
            self._pgconn.put_copy_end()
            self._flush()
        except psycopg.Error as error:
            raise self._broken(str(error)) from error
        while self.copy_data(_POLL_SECONDS) is not False:
            keep_going()
        while self._next_result(keep_going) is not None:
            pass

    def _receive(self, timeout: float) -> None:
        self._poll.poll(timeout * 1000)
        self._consume()  # also after a timeout: what TLS has decrypted already does not show on the socket

    def _consume(self) -> None:
        try:
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
                remedy="The server keeps less WAL than its max_slot_wal_keep_size and the repository's speed ask for: "
                "raise it, or use a faster repository.",
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
