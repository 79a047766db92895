"""Sessions of ours in the database, by name: how they are told apart from others', and ended."""

from __future__ import annotations

from airflow_backup_guard.core.names import APPLICATION_NAME
from airflow_backup_guard.core.names import session_name as session_name
from airflow_backup_guard.postgres.connection import connect

# A role may end its own sessions; a walsender that waits for a checkpoint does not notice that its client is gone.
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"
_END_ONE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND application_name = %s"
_END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name LIKE %s AND application_name <> %s AND usename = current_user
"""


def end_sessions(dsn: str, backup_id: str) -> int:
    """End what one backup has left in the database; returns how many sessions that were. Raises as ``connect`` does."""
    with connect(dsn) as connection:
        return len(connection.execute(_END, [session_name(backup_id)]).fetchall())


def end_session(dsn: str, pid: int, application_name: str) -> None:
    """End one session, by its process in the server, if that is still the one of that name. Raises as ``connect``."""
    with connect(dsn) as connection:
        connection.execute(_END_ONE, [pid, application_name])


def end_other_sessions(dsn: str, backup_id: str) -> int:
    """End what all backups but this one have left; only for the one that holds the cluster, as the others are dead."""
    with connect(dsn) as connection:
        others = connection.execute(_END_OTHERS, [f"{APPLICATION_NAME}/%", session_name(backup_id)])
        return len(others.fetchall())
