"""Sessions of ours in the database, by name: how they are told apart from others', and ended."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_backup_guard.core.names import APPLICATION_NAME
from airflow_backup_guard.core.names import session_name as session_name
from airflow_backup_guard.postgres.connection import connect

# A role may end its own sessions; a walsender that waits for a checkpoint does not notice that its client is gone.
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"
_END_SOME = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid = ANY (%s)"
_END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name LIKE %s AND pid <> %s AND usename = current_user
"""


def end_sessions(dsn: str, backup_id: str) -> int:
    """End what one backup has left in the database; returns how many sessions that were. Raises as ``connect`` does."""
    with connect(dsn) as connection:
        return len(connection.execute(_END, [session_name(backup_id)]).fetchall())


def end_session(dsn: str, pid: int, application_name: str) -> None:
    """End one session, by its process in the server, if that is still the one of that name. Raises as ``connect``."""
    with connect(dsn) as connection:
        connection.execute(_END_SOME, [application_name, [pid]])


def end_own_sessions(dsn: str, backup_id: str, pids: Sequence[int]) -> int:
    """End those of one backup's sessions that have these process ids: another try of it may have others by now."""
    with connect(dsn) as connection:
        return len(connection.execute(_END_SOME, [session_name(backup_id), list(pids)]).fetchall())


def end_other_sessions(dsn: str, holder: int) -> int:
    """End what all copies but one have left, earlier tries of the same backup among them; only for the one that holds
    the cluster, by the session with the process id ``holder``: the others are dead, or have lost it."""
    with connect(dsn) as connection:
        return len(connection.execute(_END_OTHERS, [f"{APPLICATION_NAME}/%", holder]).fetchall())
