"""The SQL that shows what the sessions of a server do. PostgreSQL 15 and newer, primary or standby; any role may ask.

What others do is NULL without pg_monitor (pg_read_all_stats in it), and not an error; ``may_see`` tells. Process ids,
names of roles and databases, and application names are shown to everybody.
"""

from __future__ import annotations

# One row of one column for each session of a client and each WAL sender but our own. The numbers of advisory locks are
# those that pgBackRest (12340078987004321) and WAL-G (hashtext('pg_backup')) lock with pg_try_advisory_lock(bigint).
# A logical subscription copies its tables first, in a WAL sender that is in pg_stat_progress_copy.
SESSIONS = """
    WITH held AS MATERIALIZED (
        SELECT pid,
               count(*) FILTER (WHERE locktype = 'relation' AND mode = 'AccessShareLock') AS relations,
               bool_or(locktype = 'advisory' AND objsubid = 1
                       AND ((classid::int8 << 32) | objid::int8) = 12340078987004321) AS pgbackrest,
               bool_or(locktype = 'advisory' AND objsubid = 1
                       AND ((classid::int8 << 32) | objid::int8) = hashtext('pg_backup')::int8) AS wal_g
        FROM pg_locks WHERE granted GROUP BY pid
    )
    SELECT activity.pid, activity.backend_start, activity.backend_type, activity.datname AS database,
           activity.usename AS "user", coalesce(rolsuper, false) AS superuser,
           nullif(activity.application_name, '') AS application_name, host(activity.client_addr) AS client,
           activity.state, nullif(left(activity.query, 1000), '<insufficient privilege>') AS query,
           activity.query_start, activity.backend_xmin::text AS xmin, replication.state AS replication_state,
           base.pid IS NOT NULL AS base_backup, base.phase, base.backup_streamed AS done, base.backup_total AS total,
           copy.command AS copy, copy.bytes_processed AS copied, coalesce(relations, 0)::int AS relations,
           CASE WHEN pgbackrest THEN 'pgBackRest' WHEN wal_g THEN 'WAL-G' END AS lock_of,
           ARRAY(SELECT slot_name::text FROM pg_replication_slots WHERE active_pid = activity.pid) AS slots
    FROM pg_stat_activity AS activity
         LEFT JOIN pg_roles ON pg_roles.oid = activity.usesysid
         LEFT JOIN pg_stat_replication AS replication USING (pid)
         LEFT JOIN pg_stat_progress_basebackup AS base USING (pid)
         LEFT JOIN pg_stat_progress_copy AS copy USING (pid)
         LEFT JOIN held USING (pid)
    WHERE activity.pid <> pg_backend_pid()
          AND (activity.backend_type IN ('client backend', 'walsender')
               OR activity.backend_type IS NULL AND activity.usesysid IS NOT NULL)
"""

# pg_control_system is for any role. A role may end sessions of its own, and with pg_signal_backend those of all that
# are no superusers.
SERVER = """
    SELECT now() AS at, current_user::text AS role,
           pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS may_see,
           pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS may_end,
           (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
           current_setting('track_activities')::bool AS tracks,
           (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier
"""

# Each needs pg_read_all_stats to be more than a count; what is counted is what loads a server beside backups.
WORKS = """
    SELECT what, count(*) AS number FROM (
        SELECT 'CREATE INDEX' AS what FROM pg_stat_progress_create_index
        UNION ALL SELECT 'VACUUM' FROM pg_stat_progress_vacuum
        UNION ALL SELECT 'ANALYZE' FROM pg_stat_progress_analyze
        UNION ALL SELECT coalesce(command, 'CLUSTER') FROM pg_stat_progress_cluster
        UNION ALL SELECT command FROM pg_stat_progress_copy WHERE command = 'COPY FROM'
    ) AS works GROUP BY what ORDER BY what
"""

# By number and by beginning, as the number may be somebody else's by now. Needs pg_signal_backend, or to be a member of
# the other's role; a superuser's session only a superuser may end.
END = """
    SELECT pid, pg_terminate_backend(pid) AS told FROM pg_stat_activity
    WHERE (pid, backend_start) IN (SELECT * FROM unnest(%s::int[], %s::timestamptz[]))
"""
