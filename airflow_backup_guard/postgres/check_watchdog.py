"""The part of the preflight check that is about the watchdog: may it end what its plan says to end?"""

from __future__ import annotations

from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.connection import connect

# Any role.
_MAY_END = "SELECT current_user, pg_has_role(current_user, 'pg_signal_backend', 'USAGE')"


def check_may_end(dsn: str) -> Check:
    """Whether the role may end the sessions of others. If not that is a warning: our own backup needs it not."""
    try:
        with connect(dsn) as connection:
            row = connection.execute(_MAY_END).fetchone()
    except BackupGuardError as error:
        return _warning(f"Whether it may end other backups is unknown: {error.message}", error.remedy)
    assert row is not None  # noqa: S101  # it has no FROM
    role, may_end = row
    if not may_end:
        detail = f"The plan says to terminate rogue backups, and role {role} is not a member of pg_signal_backend."
        return _warning(detail, f"Grant it: GRANT pg_signal_backend TO {role}. Or let the watchdog only alert.")
    return Check("watchdog", CheckStatus.OK, f"{role} may end the sessions of others, but for those of superusers")


def _warning(detail: str, remedy: str) -> Check:
    return Check("watchdog", CheckStatus.WARNING, detail, remedy)
