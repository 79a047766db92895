"""What an audit asks a server beside the preflight: what our role may too much, our connection, replication slots."""

from __future__ import annotations

from psycopg.rows import dict_row

from airflow_backup_guard.core.audit.facts import Database, Slot
from airflow_backup_guard.postgres.check import preflight
from airflow_backup_guard.postgres.connection import connect

# Any role. Membership and not usage: who may SET ROLE to another may what that one may.
_ROLE = """
    SELECT current_setting('server_version_num')::int AS server_version, current_user::text AS role,
           rolsuper AS superuser, rolcreaterole, rolcreatedb, rolbypassrls,
           pg_has_role(current_user, 'pg_signal_backend', 'MEMBER') AS may_end,
           ARRAY(SELECT other.rolname::text FROM pg_roles AS other
                 WHERE (other.rolsuper OR other.rolname = ANY(%s)) AND other.rolname <> current_user
                       AND pg_has_role(current_user, other.oid, 'MEMBER') ORDER BY other.rolname) AS memberships,
           (SELECT concat_ws(', ', version, cipher) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS tls,
           inet_client_addr() IS NOT DISTINCT FROM inet_server_addr() AS stays_on_host
    FROM pg_roles WHERE rolname = current_user
"""
# Any role. PostgreSQL 17 is the first that knows since when a slot is idle.
_SLOTS = """
    SELECT slot_name::text AS name, active, temporary,
           pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                           restart_lsn)::int8 AS retained,
           (to_jsonb(slots)->>'inactive_since')::timestamptz AS inactive_since
    FROM pg_replication_slots AS slots ORDER BY slot_name
"""
_POWERFUL = [
    "pg_execute_server_program",
    "pg_maintain",
    "pg_read_all_data",
    "pg_read_server_files",
    "pg_write_all_data",
    "pg_write_server_files",
]
_ATTRIBUTES = {"rolcreaterole": "CREATEROLE", "rolcreatedb": "CREATEDB", "rolbypassrls": "BYPASSRLS"}


def look(dsn: str) -> Database:
    """Ask; raises :class:`SourceUnavailable`, :class:`SourceBusy` or :class:`SourceUnsuitable` if that is not possible.

    A load balancer or tunnel between us and the server ends what the server knows of the connection.
    """
    with connect(dsn) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        row = cursor.execute(_ROLE, [_POWERFUL]).fetchone()
        slots = cursor.execute(_SLOTS).fetchall()
    assert row is not None  # noqa: S101  # whoever is connected has a role
    return Database(
        server_version=row["server_version"],
        role=row["role"],
        superuser=row["superuser"],
        surplus=(*(text for name, text in _ATTRIBUTES.items() if row[name]), *row["memberships"]),
        may_end=row["may_end"],
        tls=row["tls"] or "",
        stays_on_host=row["stays_on_host"],
        slots=tuple(Slot(s["name"], s["active"], s["temporary"], s["retained"], s["inactive_since"]) for s in slots),
        checks=preflight(dsn).checks,
    )
