"""The part of the preflight check that is about the load connection: will the load of its server be known?"""

from __future__ import annotations

from airflow_backup_guard.core.backup import Cluster
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.connection import connect

# Any role.
_WHO = """
    SELECT (SELECT system_identifier FROM pg_control_system())::text,
           CASE WHEN pg_is_in_recovery() THEN 'a standby' ELSE 'a primary' END,
           current_user, pg_has_role(current_user, 'pg_monitor', 'USAGE')
"""


def check_load_connection(dsn: str, cluster: Cluster | None) -> Check:
    """Ask its server who it is. What is wrong is a warning: the copy then goes at its floor, as unknown load does it.

    ``cluster`` is that of the source, if it is known.
    """
    try:
        with connect(dsn) as connection:
            row = connection.execute(_WHO).fetchone()
    except BackupGuardError as error:
        return _warning(f"Its load is unknown: {error.message}", error.remedy)
    assert row is not None  # noqa: S101  # it has no FROM
    system, kind, role, may_monitor = row
    if cluster is not None and system != cluster.system_identifier:
        detail = f"It leads to another cluster, system {system}."
        return _warning(detail, "Name a server of the cluster that is backed up, if that is not what you want.")
    if not may_monitor:
        detail = f"Role {role} is not a member of pg_monitor, so some of its load is hidden."
        return _warning(detail, f"Grant it: GRANT pg_monitor TO {role}.")
    return Check("load connection", CheckStatus.OK, f"it leads to {kind}, as {role}")


def _warning(detail: str, remedy: str) -> Check:
    return Check("load connection", CheckStatus.WARNING, detail, remedy)
