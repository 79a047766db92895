"""What a recorder of load asks beside the probe: how far the counters are, and whether one of our backups runs."""

from __future__ import annotations

from airflow_backup_guard.core.load_history import Counters
from airflow_backup_guard.errors import SourceUnsuitable
from airflow_backup_guard.postgres.connection import APPLICATION_NAME, connect

# Any role, from 15 on; a primary. The names of others' sessions are shown to every role. The commits of a server that
# does not count them stand still, which must not look like rest.
_COUNTERS = f"""
    SELECT (SELECT system_identifier FROM pg_control_system())::text, pg_postmaster_start_time()::text,
           (SELECT max(stats_reset) FROM pg_stat_database)::text,
           CASE WHEN pg_is_in_recovery() THEN NULL ELSE (pg_current_wal_lsn() - '0/0')::float8 END,
           CASE WHEN current_setting('track_counts')::bool
                THEN (SELECT sum(xact_commit) FROM pg_stat_database)::float8 END,
           EXISTS (SELECT FROM pg_stat_activity WHERE starts_with(application_name, '{APPLICATION_NAME}/'))
"""  # noqa: S608


def read_counters(dsn: str) -> tuple[Counters, bool]:
    """The counters, and whether a guarded backup runs; raises as ``connect`` does."""
    with connect(dsn) as connection:
        row = connection.execute(_COUNTERS).fetchone()
    assert row is not None  # noqa: S101  # it has no FROM
    cluster, started, reset, wal, commits, backup = row
    if wal is None:
        raise SourceUnsuitable("The server is a standby, which writes no WAL.", remedy="Name the primary.")
    return Counters(" ".join([cluster, started, reset or "never"]), wal, commits), backup
