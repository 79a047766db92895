"""The replication slot of a copy: it holds the cluster, and the WAL that the copy has yet to fetch."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from airflow_backup_guard.core.names import SLOT_NAME as SLOT_NAME
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import BackupGuardError, SourceBusy, SourceUnavailable
from airflow_backup_guard.postgres.connection import (
    AnsweringConnection,
    connect,
    conninfo,
    cut,
    session_options,
    translated,
)
from airflow_backup_guard.postgres.sessions import end_session

_CREATE = "SELECT lsn FROM pg_create_physical_replication_slot(%s, immediately_reserve => true, temporary => true)"
_WRITTEN = """
    SELECT pg_current_wal_lsn() - %s::pg_lsn, setting::bigint << 20
    FROM pg_settings WHERE name = 'max_slot_wal_keep_size' AND setting::bigint >= 0
"""
# Below its own position a slot cannot be set; at first that is the start of the last checkpoint.
_ADVANCE = """
    SELECT pg_replication_slot_advance(slot_name, greatest(restart_lsn, %s::pg_lsn))
    FROM pg_replication_slots WHERE slot_name = %s AND active_pid = pg_backend_pid()
"""


class BackupSlot:
    """A temporary physical slot: the one lock in PostgreSQL that spans the cluster (advisory locks span a database).

    It is gone the moment its session is, even after kill -9.

    That session is an ordinary one, as PostgreSQL 15 wakes every WAL sender for each commit of anybody, also one that
    waits for its client. Raises :class:`SourceBusy` where another guarded backup holds the cluster.
    """

    def __init__(self, dsn: str, application_name: str) -> None:
        with translated(dsn):
            self._dsn = dsn
            self._connection = AnsweringConnection.connect(
                conninfo(dsn, application_name=application_name, options=session_options(dsn)), autocommit=True
            )
            pid = self._connection.info.backend_pid
            try:
                created = self._connection.execute(_CREATE, [SLOT_NAME]).fetchone()
                self._kept_from = str(created[0]) if created else ""
            except psycopg.errors.DuplicateObject as error:
                self._connection.close()
                raise SourceBusy(
                    f"Another guarded backup of this cluster is running: it holds the replication slot {SLOT_NAME}.",
                    remedy="Wait for it, or see pg_replication_slots for its process.",
                ) from error
            except BaseException:
                self._connection.close()
                # The slot may be there, and where the network lets no goodbye through it would be for minutes.
                with suppress(BackupGuardError):
                    end_session(dsn, pid, application_name)
                raise

    @property
    def pid(self) -> int:
        """Process id of the session that holds it."""
        return self._connection.info.backend_pid

    def release_before(self, position: LSN) -> None:
        """WAL before this position is needed no longer; raises if the slot is lost, and other WAL maybe with it."""
        try:
            with translated(self._dsn):
                released = self._connection.execute(_ADVANCE, [str(position), SLOT_NAME]).fetchall()
        except SourceUnavailable as error:
            self._refuse_exceeded(error)
            raise
        self._kept_from = str(position)
        if not released:
            raise SourceUnavailable(
                f"The replication slot {SLOT_NAME} is gone.", remedy="See the server's log for who dropped it; retry."
            )

    def _refuse_exceeded(self, cause: SourceUnavailable) -> None:
        """Say so if more WAL was written than the server keeps for a slot. It then ends the session that holds the slot
        with the words that it has for an administrator's command, and the reason is in its log alone."""
        with suppress(BackupGuardError, psycopg.Error), connect(self._dsn) as connection:
            found = connection.execute(_WRITTEN, [self._kept_from]).fetchone()
            if found is None or found[0] <= found[1]:
                return
            written, limit = Size(int(found[0])), Size(int(found[1]))
            cause.message = (
                f"{cause.message} The server has given up the replication slot {SLOT_NAME}: {written} of WAL were "
                f"written since what is stored, and its max_slot_wal_keep_size is {limit}."
            )
            cause.advise("Raise max_slot_wal_keep_size, or use a faster repository; then retry.", instead=True)

    def cut(self) -> None:
        """End the session from another thread: the server notices at once, and whoever waits here gets an error."""
        cut(self._connection.pgconn)

    def close(self) -> None:
        """End the session, and the slot with it. Idempotent."""
        self.cut()  # a statement under way in another thread ends, and gives the connection free
        with self._connection.lock:
            self._connection.close()
