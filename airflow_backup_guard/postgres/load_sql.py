"""The SQL that measures load. Every part says which privilege and versions of PostgreSQL it needs.

What a role may not see is NULL in these views, and not an error.
"""

from __future__ import annotations

from airflow_backup_guard.postgres.connection import APPLICATION_NAME
from airflow_backup_guard.postgres.slot import SLOT_NAME

# Any role, on a primary, from 9.6 on. The commit is timed by the server's clock, so that neither the network nor a
# busy worker counts as load of the database. What is written is a WAL record of a few bytes that no table and no
# reader ever sees.
COMMIT = """
    SELECT extract(epoch FROM clock_timestamp())::float8;
    BEGIN;
    SELECT pg_logical_emit_message(true, 'backup_guard', '');
    COMMIT;
    SELECT extract(epoch FROM clock_timestamp())::float8
"""

# Any role, on a standby, in place of that: it reads a few rows from anywhere in a catalogue, so that it feels the disk
# where that is not in memory.
READ = """
    SELECT extract(epoch FROM clock_timestamp())::float8;
    SELECT min(atttypid) FROM (
        SELECT atttypid FROM pg_attribute
        WHERE attrelid >= (SELECT (random() * max(attrelid)::int8)::int8::oid FROM pg_attribute)
        ORDER BY attrelid, attnum LIMIT 20
    ) AS few;
    SELECT extract(epoch FROM clock_timestamp())::float8
"""

# Any role.
IS_STANDBY = "SELECT pg_is_in_recovery()"

# Any role. With asynchronous commit the probe would not feel the disk that it is there to feel. A commit that hangs is
# not ended by statement_timeout, but the statistics are.
PREPARE_SESSION = """
    SELECT CASE current_setting('synchronous_commit') WHEN 'off'
           THEN set_config('synchronous_commit', 'local', false) END;
    SET statement_timeout = '2s';
    SET jit = off
"""

# Any role. The session of a plan's own signals.
PREPARE_CUSTOM_SESSION = """
    SET default_transaction_read_only = on;
    SET statement_timeout = '250ms';
    SET lock_timeout = '250ms'
"""

# Any role; pg_has_role is true for superusers.
_SETTINGS = """
    SELECT pg_postmaster_start_time()::text AS started,
           current_setting('track_activities')::bool AS track_activities,
           current_setting('track_counts')::bool AS track_counts,
           current_setting('track_io_timing')::bool AS track_io_timing,
           pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS may_monitor
"""

# Any role. Sessions add what they did to these about once a second, or when they end.
_DATABASES = """
    SELECT sum(xact_commit)::float8 AS commits,
           sum(tup_inserted + tup_updated + tup_deleted)::float8 AS tuples,
           sum(blks_read)::float8 AS blocks_read,
           sum(blk_read_time)::float8 / 1000 AS read_seconds,
           max(stats_reset)::text AS databases_reset
    FROM pg_stat_database
"""

# Any role. How far WAL is written, or on a standby replayed.
_LSN = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"

# Any role, from 14 on.
_WAL = f"""
    SELECT ({_LSN} - '0/0')::float8 AS wal, wal_fpi::float8 AS full_page_images,
           stats_reset::text AS wal_reset
    FROM pg_stat_wal
"""  # noqa: S608

# Any role. What a standby has received says nothing of the primary once nobody sends: then it is as old as the last
# transaction that it has replayed.
_REPLAY = """
    SELECT pg_is_in_recovery() AS standby,
           EXISTS (SELECT FROM pg_stat_wal_receiver)
           AND coalesce(pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(), false) AS replayed,
           extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float8 AS replayed_age
"""

# Any role; up to 16.
_CHECKPOINTS_16 = """
    SELECT checkpoints_req::float8 AS requested_checkpoints, stats_reset::text AS checkpoints_reset
    FROM pg_stat_bgwriter
"""

# Any role; from 17 on.
_CHECKPOINTS_17 = """
    SELECT num_requested::float8 AS requested_checkpoints, stats_reset::text AS checkpoints_reset
    FROM pg_stat_checkpointer
"""

# Any role. A slot that was never used, or whose WAL is lost, retains nothing. The slot of a guarded copy is apart: its
# plan bounds it, and slowing the copy down would make it retain more. WAL since the last checkpoint is kept anyway.
_SLOTS = f"""
    SELECT coalesce(max({_LSN} - restart_lsn) FILTER (WHERE slot_name <> '{SLOT_NAME}'), 0)::float8
           AS retained_wal,
           greatest(max((SELECT redo_lsn FROM pg_control_checkpoint()) - restart_lsn)
                    FILTER (WHERE slot_name = '{SLOT_NAME}'), 0)::float8 AS retained_for_backup
    FROM pg_replication_slots WHERE wal_status IS DISTINCT FROM 'lost'
"""  # noqa: S608

# pg_monitor (pg_read_all_stats in it): the states of other roles' sessions are NULL without it. Sessions queue at the
# lock WALWrite while another one writes their WAL, so they wait for the disk as much as that one. The sessions are
# those of clients; our own do not count.
_SESSIONS = f"""
    SELECT count(*) FILTER (WHERE state IN ('active', 'fastpath function call')
                            AND backend_type = 'client backend')::float8 AS active_sessions,
           count(*) FILTER (WHERE state = 'active' AND (wait_event_type = 'IO' OR wait_event = 'WALWrite'))::float8
           AS io_waits,
           count(*) FILTER (WHERE wait_event_type = 'Lock')::float8 AS lock_waits
    FROM pg_stat_activity
    WHERE backend_type IN ('client backend', 'parallel worker')
          AND NOT starts_with(coalesce(application_name, ''), '{APPLICATION_NAME}')
"""  # noqa: S608

# pg_monitor, as above. Base backups are in this view, too, and are no standbys; nor is our own stream of WAL.
# pg_receivewal never replays: what it has flushed counts.
_STANDBYS = f"""
    SELECT count(*) AS standbys, count(*) FILTER (WHERE lag IS NULL) AS silent_standbys,
           max(greatest(lag, 0))::float8 AS replication_lag
    FROM (SELECT {_LSN} - coalesce(replay_lsn, flush_lsn, write_lsn) AS lag
          FROM pg_stat_replication
          WHERE state IS DISTINCT FROM 'backup'
                AND NOT starts_with(coalesce(application_name, ''), '{APPLICATION_NAME}')) AS standby
"""  # noqa: S608


def statistics(server_version: int) -> str:
    """One row of all statistics but the latencies. ``server_version`` is such as 180006."""
    checkpoints = _CHECKPOINTS_17 if server_version >= 170000 else _CHECKPOINTS_16
    parts = (_SETTINGS, _DATABASES, _WAL, checkpoints, _SLOTS, _SESSIONS, _STANDBYS, _REPLAY)
    rows = ", ".join(f"({part}) AS part_{number}" for number, part in enumerate(parts))
    return f"SELECT * FROM {rows}"  # noqa: S608


def custom(sql: str) -> str:
    """A plan's own query for one number, such that it can only read, and that two rows of it are fetched at most."""
    return f"SELECT * FROM (\n{sql.rstrip().rstrip(';')}\n) AS answer LIMIT 2"  # noqa: S608
