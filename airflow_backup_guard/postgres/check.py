"""The preflight check: can this database be backed up, now, by this role, without harm? And who is it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from airflow_backup_guard.core.backup import Cluster, Database, Tablespace
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.any_text import AS_BYTES, readable, show_any_text
from airflow_backup_guard.postgres.connection import APPLICATION_NAME, connect
from airflow_backup_guard.postgres.replication import ReplicationConnection
from airflow_backup_guard.postgres.slot import SLOT_NAME
from airflow_backup_guard.postgres.wal_stream import SystemIdentity, identify_system

OLDEST_MAJOR = 15

# Any role may ask these; a query that a role may not ask would abort all others with it.
_ROLE = """
    SELECT current_setting('server_version_num')::int AS server_version,
           current_setting('server_version') AS version,
           current_user AS role,
           pg_is_in_recovery() AS standby,
           rolreplication OR rolsuper AS may_replicate,
           rolsuper OR pg_has_role(current_user, 'pg_monitor', 'USAGE') AS may_monitor
    FROM pg_roles WHERE rolname = current_user
"""
# Needs pg_monitor: without it the server shows NULL for other roles' sessions, and not an error.
_STATE = """
    SELECT current_setting('max_wal_senders')::int AS max_wal_senders,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender') AS wal_senders,
           current_setting('max_replication_slots')::int AS max_replication_slots,
           (SELECT count(*) FROM pg_replication_slots) AS replication_slots,
           current_setting('wal_level') AS wal_level,
           current_setting('data_checksums')::bool AS data_checksums,
           pg_size_bytes(current_setting('wal_segment_size')) AS wal_segment_size,
           current_setting('max_slot_wal_keep_size') AS max_slot_wal_keep_size,
           current_setting('tcp_user_timeout') AS tcp_user_timeout,
           current_setting('data_directory') AS data_directory,
           current_setting('config_file') AS config_file
"""
_OTHER_BACKUPS = """
    SELECT activity.pid, coalesce(activity.application_name, '') AS application, coalesce(usename, '?') AS role,
           coalesce(host(client_addr), 'the local socket') AS client, backend_start::text AS since
    FROM pg_stat_progress_basebackup JOIN pg_stat_activity AS activity USING (pid)
"""
_OURS = f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{SLOT_NAME}'"  # noqa: S608
# The insert position, not the write position: asynchronous commits that were acknowledged lie before it, too.
# A standby has what it has replayed, and writes no WAL that its statistics count.
_CONTENT = """
    SELECT pg_is_in_recovery() AS standby,
           (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text
           AS lsn,
           (SELECT wal_bytes / nullif(extract(epoch FROM now() - stats_reset), 0) FROM pg_stat_wal
            WHERE NOT pg_is_in_recovery())::float8 AS wal_rate
"""
_DATABASES = "SELECT oid::int8 AS oid, datname AS name FROM pg_database WHERE datallowconn ORDER BY datname"
# The location as the bytes that it is: no encoding of a database rules the names of files.
_TABLESPACES = """
    SELECT oid::int8 AS oid, spcname AS name, textsend(pg_tablespace_location(oid)) AS location
    FROM pg_tablespace WHERE pg_tablespace_location(oid) <> '' ORDER BY oid
"""
# Needs pg_monitor. The server looks at every file, so this is apart: it may take too long, and fails if one vanishes.
_SIZES = """
    SELECT 'database' AS kind, oid::int8 AS oid, pg_database_size(oid) AS size FROM pg_database
    UNION ALL
    SELECT CASE spcname WHEN 'pg_global' THEN 'shared' ELSE 'tablespace' END, oid::int8, pg_tablespace_size(oid)
    FROM pg_tablespace WHERE spcname = 'pg_global' OR pg_tablespace_location(oid) <> ''
"""


@dataclass(frozen=True)
class Content:
    """What there is to back up at the moment of asking; sizes in bytes.

    ``size`` is None when it could not be found out, and those of databases and tablespaces are 0 then. ``wal_rate`` is
    what was written per second, in bytes, on average since the statistics were reset; None if that was just now, or on
    a ``standby``.
    """

    lsn: LSN
    size: int | None
    wal_rate: float | None
    databases: tuple[Database, ...]
    tablespaces: tuple[Tablespace, ...]
    standby: bool


@dataclass(frozen=True)
class Preflight:
    """All answers; ``cluster`` and ``content`` are None when it could not be found out."""

    checks: tuple[Check, ...]
    cluster: Cluster | None = None
    content: Content | None = None


def preflight(dsn: str) -> Preflight:
    """Ask everything. A database that cannot be reached at all is an answer, too: nothing is raised for it."""
    try:
        with connect(dsn) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            connection.execute(AS_BYTES)
            show_any_text(cursor)
            role = cursor.execute(_ROLE).fetchone() or {}
            checks = [Check("connection", CheckStatus.OK, f"PostgreSQL {role['version']} as {role['role']}")]
            checks += [_version(role), _source(role), _replication_role(role), _monitor_role(role)]
            if not all(check.status is CheckStatus.OK for check in checks):
                return Preflight(tuple(checks))
            state = cursor.execute(_STATE).fetchone() or {}
            ours = cursor.execute(_OURS).fetchone()
            others = cursor.execute(_OTHER_BACKUPS).fetchall()
            checks += [*_capacity(state), _guarded_backup(ours), _other_backups(others), *_settings(state)]
            identity, replication = _replication(dsn)
            checks.append(replication)
            if identity is None:
                return Preflight(tuple(checks))
            sizes, why = _sizes(cursor)
            rows = cursor.execute(_TABLESPACES).fetchall()
            tablespaces = tuple(
                Tablespace(
                    oid=row["oid"],
                    name=row["name"],
                    location=readable(row["location"]),
                    size=sizes.get(("tablespace", row["oid"]), 0),
                )
                for row in rows
            )
            checks.append(_tablespaces(tablespaces, [row["location"] for row in rows]))
            databases = tuple(
                Database(row["name"], sizes.get(("database", row["oid"]), 0)) for row in cursor.execute(_DATABASES)
            )
            content_row = cursor.execute(_CONTENT).fetchone() or {}
            content = Content(
                lsn=LSN.parse(content_row["lsn"]),
                size=None if why else sum(size for (kind, _), size in sizes.items() if kind != "tablespace"),
                wal_rate=content_row["wal_rate"],
                databases=databases,
                tablespaces=tablespaces,
                standby=content_row["standby"],
            )
            checks.append(_size(content, why))
    except BackupGuardError as error:
        return Preflight((_failed("connection", error),))
    cluster = Cluster(
        system_identifier=identity.system_identifier,
        server_version=role["server_version"],
        timeline=identity.timeline,
        wal_segment_size=state["wal_segment_size"],
        data_checksums=state["data_checksums"],
    )
    return Preflight(tuple(checks), cluster, content)


def _sizes(cursor: psycopg.Cursor[DictRow]) -> tuple[dict[tuple[str, int], int], str]:
    """Bytes by kind and OID; or none, and why."""
    try:
        rows = cursor.execute(_SIZES).fetchall()
    except psycopg.Error as error:
        if cursor.connection.closed:
            raise
        return {}, error.diag.message_primary or str(error)
    return {(row["kind"], row["oid"]): row["size"] or 0 for row in rows}, ""


def _size(content: Content, why: str) -> Check:
    if content.size is not None:
        return Check("size", CheckStatus.OK, f"{Size(content.size)} in {len(content.databases)} databases")
    return Check(
        "size",
        CheckStatus.WARNING,
        f"It is unknown: the server was asked, and said: {why}.",
        "See yourself that the backup fits into its repository and its window.",
    )


def _failed(name: str, error: BackupGuardError) -> Check:
    return Check(name, CheckStatus.FAILED, error.message, error.remedy, transient=error.retryable)


def _version(row: dict[str, Any]) -> Check:
    if row["server_version"] >= OLDEST_MAJOR * 10000:
        return Check("version", CheckStatus.OK, f"{row['version']} is supported")
    return Check(
        "version",
        CheckStatus.FAILED,
        f"PostgreSQL {row['version']} is too old.",
        f"Upgrade to PostgreSQL {OLDEST_MAJOR} or newer: older ones stream base backups in another form.",
    )


def _source(row: dict[str, Any]) -> Check:
    return Check("source", CheckStatus.OK, f"the server is a {'standby' if row['standby'] else 'primary'}")


def _replication_role(row: dict[str, Any]) -> Check:
    if row["may_replicate"]:
        return Check("replication privilege", CheckStatus.OK, f"{row['role']} has it")
    return Check(
        "replication privilege",
        CheckStatus.FAILED,
        f"Role {row['role']} has no REPLICATION privilege.",
        f"Grant it: ALTER ROLE {row['role']} REPLICATION.",
    )


def _monitor_role(row: dict[str, Any]) -> Check:
    if row["may_monitor"]:
        return Check("monitor privilege", CheckStatus.OK, f"{row['role']} has it")
    return Check(
        "monitor privilege",
        CheckStatus.FAILED,
        f"Role {row['role']} is not a member of pg_monitor, so other sessions' load and backups are hidden from it.",
        f"Grant it: GRANT pg_monitor TO {row['role']}.",
    )


def _capacity(row: dict[str, Any]) -> list[Check]:
    checks = []
    for name, used, most, needed, setting in (
        ("WAL senders", row["wal_senders"], row["max_wal_senders"], 2, "max_wal_senders"),
        (
            "replication slots",
            row["replication_slots"],
            row["max_replication_slots"],
            1,
            "max_replication_slots",
        ),
    ):
        enough = most - used >= needed
        checks.append(
            Check(
                name,
                CheckStatus.OK if enough else CheckStatus.FAILED,
                f"{used} of {most} in use, {needed} needed" + ("" if enough else "."),
                "" if enough else f"Wait for others to end, or raise {setting}.",
                transient=not enough,
            )
        )
    minimal = row["wal_level"] == "minimal"
    checks.append(
        Check(
            "WAL level",
            CheckStatus.FAILED if minimal else CheckStatus.OK,
            f"wal_level is {row['wal_level']}" + ("." if minimal else ""),
            "Set wal_level = replica and restart the server." if minimal else "",
        )
    )
    return checks


def _guarded_backup(ours: dict[str, Any] | None) -> Check:
    if ours is None:
        return Check("guarded backup", CheckStatus.OK, "none is running")
    return Check(
        "guarded backup",
        CheckStatus.FAILED,
        f"Another guarded backup of this cluster is running (server process {ours['active_pid']}).",
        "Wait for it to end.",
        transient=True,
    )


def _other_backups(others: list[dict[str, Any]]) -> Check:
    others = [row for row in others if not row["application"].startswith(APPLICATION_NAME)]
    if not others:
        return Check("other backups", CheckStatus.OK, "none is running")
    who = "; ".join(
        f"{row['application'] or 'a nameless client'} by {row['role']} from {row['client']} since {row['since']}"
        for row in others
    )
    return Check(
        "other backups",
        CheckStatus.FAILED,
        f"A base backup is already loading this server: {who}.",
        "Wait for it to end, or ask its owner to stop it.",
        transient=True,
    )


def _tablespaces(tablespaces: tuple[Tablespace, ...], locations: list[bytes]) -> Check:
    in_place = [tablespace.name for tablespace in tablespaces if not tablespace.location.startswith("/")]
    if in_place:
        detail = f"In-place tablespaces (a developers' option) cannot be backed up whole: {', '.join(in_place)}."
        return Check("tablespaces", CheckStatus.FAILED, detail, "Move them to a location of their own.")
    changed = [t for t, location in zip(tablespaces, locations, strict=True) if t.location.encode() != location]
    if changed:
        # A record is JSON, and a path that is not as it was is another path.
        where = ", ".join(f"{tablespace.name} at {tablespace.location}" for tablespace in changed)
        detail = f"Tablespaces whose locations are not UTF-8 cannot be recorded: {where}."
        return Check("tablespaces", CheckStatus.FAILED, detail, "Move them to locations whose names are UTF-8.")
    return Check("tablespaces", CheckStatus.OK, f"{len(tablespaces)} beside the data directory")


def _settings(row: dict[str, Any]) -> list[Check]:
    checks = []
    if row["data_checksums"]:
        checks.append(Check("data checksums", CheckStatus.OK, "on"))
    else:
        remedy = "Turn them on with pg_checksums at the next downtime."
        checks.append(
            Check("data checksums", CheckStatus.WARNING, "Off: damage on the disk is copied unnoticed.", remedy)
        )
    if row["max_slot_wal_keep_size"] == "-1":
        remedy = "Set a bound that the disk can hold, such as max_slot_wal_keep_size = 50GB."
        detail = "Unlimited: a forgotten replication slot can fill the disk."
        checks.append(Check("slot WAL limit", CheckStatus.WARNING, detail, remedy))
    else:
        checks.append(Check("slot WAL limit", CheckStatus.OK, row["max_slot_wal_keep_size"]))
    if not row["config_file"].startswith(row["data_directory"].rstrip("/") + "/"):
        remedy = "Keep a copy of them elsewhere; a restore needs them."
        detail = f"{row['config_file']} lies outside of the data directory and is not in a base backup."
        checks.append(Check("configuration files", CheckStatus.WARNING, detail, remedy))
    return checks


def _replication(dsn: str) -> tuple[SystemIdentity | None, Check]:
    try:
        connection = ReplicationConnection(dsn, APPLICATION_NAME)
        try:
            identity = identify_system(connection, lambda: None)
        finally:
            connection.close()
    except BackupGuardError as error:
        return None, _failed("replication connection", error)
    detail = f"system {identity.system_identifier}, timeline {identity.timeline}"
    return identity, Check("replication connection", CheckStatus.OK, detail)
