"""Opening connections to PostgreSQL, and turning what goes wrong into errors that say what to do."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from traceback import clear_frames
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from psycopg.pq.abc import PGconn

from airflow_backup_guard.core.names import APPLICATION_NAME as APPLICATION_NAME
from airflow_backup_guard.errors import (
    BackupGuardError,
    InvalidPlan,
    SourceBusy,
    SourceUnavailable,
    SourceUnsuitable,
)

STATEMENT_SECONDS = 30
"""How long a question may take the server."""

ANSWER_SECONDS = STATEMENT_SECONDS + 10
"""How long an answer may take to come. A network may swallow it, and TCP's keepalives see nothing wrong with that."""

READABLE_TIMES = "SET DateStyle = 'ISO'"
"""What a session needs of which times are asked: psycopg reads no other form, and a role may have another."""

_DEFAULTS = {
    "connect_timeout": "10",
    # A peer that vanished without a word is noticed within a minute, not after two hours.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}

# A worker that vanishes without a word must not leave a session behind for the hours that TCP's defaults take. What the
# server gives it up after is also the longest that a copy may be without reading, whatever the server's own (maybe much
# shorter) setting: a repository that hangs has five tries of a minute each before it is the one to blame.
_SESSION_SETTINGS = {
    "tcp_user_timeout": "6min",
    "tcp_keepalives_idle": "30s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "3",
    "wal_sender_timeout": "10min",
    "idle_session_timeout": "0",
}

# The server's own sentences for connections that it refuses: libpq reports no SQLSTATE for those, and psycopg has no
# way to ask for it (PQsetErrorVerbosity). With another lc_messages only the names in them are as they are here.
_REFUSALS: tuple[tuple[str, type[BackupGuardError], str], ...] = (
    (
        r"certificate verify failed|does not match host ?name|root certificate file|server does not support SSL",
        SourceUnsuitable,
        "The server did not prove who it is. Correct host to the name in its certificate, and sslrootcert to the "
        "authority that gave it; do not lower sslmode=verify-full for it.",
    ),
    (
        r"password authentication failed|no password supplied|role .* does not exist",
        SourceUnsuitable,
        "Correct the user or password of the connection.",
    ),
    (
        r"no pg_hba\.conf entry for replication|pg_hba\.conf rejects replication",
        SourceUnsuitable,
        "Add a line to pg_hba.conf and reload: host replication {user} <this worker's address>/32 scram-sha-256.",
    ),
    (
        r"pg_hba\.conf",
        SourceUnsuitable,
        "Add a line to pg_hba.conf and reload: host {dbname} {user} <this worker's address>/32 scram-sha-256.",
    ),
    (
        r"start wal ?sender|REPLICATION attribute",
        SourceUnsuitable,
        "Grant it: ALTER ROLE {user} REPLICATION.",
    ),
    (
        r"max_wal_senders|all replication slots are in use",
        SourceBusy,
        "Wait for another backup or standby to end, or raise max_wal_senders and max_replication_slots.",
    ),
    (
        r"too many clients|remaining connection slots|too many connections",
        SourceBusy,
        "Wait, or raise max_connections.",
    ),
    (r"database .* does not exist", SourceUnsuitable, "Correct the database of the connection."),
    (
        r"starting up|shutting down|recovery mode|not (yet )?accepting connections",
        SourceUnavailable,
        "Wait until the server is up; its log says what it is doing.",
    ),
    # libpq writes two blanks after a severity that a server has sent, and it has FATAL in many languages. It may mean
    # that the server starts, so a retry may help, and people must know that it may not.
    (
        r"[^\W\d]:  ",
        SourceUnavailable,
        "The server answered and refused, in words that are not known here: if they are about user, password, database "
        "or pg_hba.conf, correct that, for a retry will not help.",
    ),
    (r"", SourceUnavailable, "Check host, port, network and that the server runs."),
)


def parse_conninfo(dsn: str) -> dict[str, Any]:
    """Keywords of a libpq connection string or URI; raises :class:`InvalidPlan`, without showing a password."""
    try:
        # An @ or / in the password of a URI, as it is, makes libpq take what follows for the host or the database.
        if not re.match(r"postgres(ql)?://([^@/]*@[^@?]*@|[^@/?]*/[^@?]*@)", dsn):
            return conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        pass  # libpq's own message quotes the part that it cannot read, which may well be a password.
    raise InvalidPlan(
        "dsn", "…", "a libpq connection string, with spaces quoted, or a postgresql:// URI, with @ as %40 and / as %2F"
    )


def dsn_of(keywords: Mapping[str, Any]) -> str:
    """A connection string of those keywords that libpq knows and that have a value."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    return make_conninfo("", **{name: value for name, value in keywords.items() if name in known and value is not None})


def conninfo(dsn: str, **keywords: str) -> str:
    """``dsn`` with our defaults below it and ``keywords`` above it."""
    return make_conninfo("", **{"application_name": APPLICATION_NAME, **_DEFAULTS, **parse_conninfo(dsn), **keywords})


def session_options(dsn: str) -> str:
    """``options`` for sessions that live as long as a copy; those that the connection itself has come last, and win."""
    settings = " ".join(f"-c {name}={value}" for name, value in _SESSION_SETTINGS.items())
    return f"{settings} {parse_conninfo(dsn).get('options') or ''}".strip()


def cut(pgconn: PGconn) -> None:
    """End a session from another thread: libpq itself is not safe to call from two; the socket below it is."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(pgconn.socket)) as connected:
        connected.shutdown(socket.SHUT_RDWR)


class AnsweringConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that ends when the server takes longer than :data:`ANSWER_SECONDS` for an answer."""

    def wait(self, *arguments: Any, **keywords: Any) -> Any:
        """What every question waits with."""
        seconds = ANSWER_SECONDS
        silent = threading.Event()

        def give_up() -> None:
            silent.set()
            cut(self.pgconn)

        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            return super().wait(*arguments, **keywords)
        except psycopg.OperationalError as error:
            if silent.is_set():
                raise psycopg.OperationalError(f"it has not answered for {seconds} s.") from error
            raise
        finally:
            timer.cancel()


@contextmanager
def connect(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection for short questions: autocommit, statements limited to ``STATEMENT_SECONDS``.

    Raises :class:`SourceUnavailable`, :class:`SourceBusy` or :class:`SourceUnsuitable`, also for errors inside of it.
    """
    with translated(dsn):
        connection = AnsweringConnection.connect(conninfo(dsn), autocommit=True)
        try:
            connection.execute(f"SET statement_timeout = '{STATEMENT_SECONDS:d}s'; {READABLE_TIMES}")
            yield connection
        finally:
            connection.close()


@contextmanager
def translated(dsn: str) -> Iterator[None]:
    """Turns psycopg's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        if isinstance(error, psycopg.errors.ConnectionTimeout):
            # Its frames hold the socket open, and with it a session in the server, as long as somebody holds the error.
            clear_frames(error.__traceback__)
        raise translate(dsn, error) from error


def translate(dsn: str, error: psycopg.Error) -> BackupGuardError:
    """Our error for one of psycopg's: the server's own sentence, the place, and the remedy."""
    said = str(error)
    text = _sentence(said)
    place = describe(dsn)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return SourceUnsuitable(f"{place}: {text}", remedy="Grant the privilege, or use another role.")
    if error.sqlstate and not error.sqlstate.startswith(("08", "53", "57", "58")):
        return SourceUnsuitable(f"{place}: {text}", remedy="The log of the server may say more.")
    if isinstance(error, psycopg.errors.QueryCanceled):
        return SourceUnavailable(f"{place}: {text}", remedy="Try again when the server is less busy; see its log.")
    values = {"user": "<role>", "dbname": "<database>"}
    values.update({key: str(value) for key, value in parse_conninfo(dsn).items() if key in values})
    kind, remedy = next(
        (kind, remedy) for pattern, kind, remedy in _REFUSALS if re.search(pattern, said, re.IGNORECASE)
    )
    return kind(f"{place}: {text}", remedy=remedy.format(**values))


def describe(dsn: str) -> str:
    """Where a connection leads, for messages: ``PostgreSQL at db.example:5432``."""
    keywords = parse_conninfo(dsn)
    host = keywords.get("host") or keywords.get("hostaddr") or "the local socket"
    return f"PostgreSQL at {host}:{keywords.get('port') or 5432}"


def _sentence(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # libpq tries every address of a host and reports each; the last one is the one that counts.
    joined = " ".join(lines) or "the connection broke without a word"
    fatal = re.search(r"FATAL:\s*(.*)", joined)
    sentence = fatal[1] if fatal else joined.removeprefix("ERROR:").strip()
    return sentence if sentence.endswith(".") else sentence + "."
