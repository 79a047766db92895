"""The replication slot of a copy: it holds the cluster, and the WAL that the copy has yet to fetch."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from airflow_backup_guard.core.names import SLOT_NAME as SLOT_NAME
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import BackupGuardError, SourceBusy, SourceUnavailable
from airflow_backup_guard.postgres.connection import AnsweringConnection, conninfo, cut, session_options, translated
from airflow_backup_guard.postgres.sessions import end_session

_CREATE = "SELECT pg_create_physical_replication_slot(%s, immediately_reserve => true, temporary => true)"
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
                self._connection.execute(_CREATE, [SLOT_NAME])
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

    def release_before(self, position: LSN) -> None:
        """WAL before this position is needed no longer; raises if the slot is lost, and other WAL maybe with it."""
        with translated(self._dsn):
            released = self._connection.execute(_ADVANCE, [str(position), SLOT_NAME]).fetchall()
        if not released:
            raise SourceUnavailable(
                f"The replication slot {SLOT_NAME} is gone.", remedy="See the server's log for who dropped it; retry."
            )

    def cut(self) -> None:
        """End the session from another thread: the server notices at once, and whoever waits here gets an error."""
        cut(self._connection.pgconn)

    def close(self) -> None:
        """End the session, and the slot with it. Idempotent."""
        self.cut()  # a statement under way in another thread ends, and gives the connection free
        with self._connection.lock:
            self._connection.close()
