"""Where the commands of a runbook put things, and what a backup asks of them."""

from __future__ import annotations

from airflow_backup_guard.core.backup import BackupRecord

DATA = "/srv/restored"
TABLESPACES = "/srv/restored-tablespaces"
BY_HAND = "/srv/by-hand"
KEY_FILE = "/etc/backup-guard/age.key"
PORT = "5433"
OWNER = "postgres"
"""Who runs PostgreSQL, as operating systems have it."""


def encrypted(record: BackupRecord) -> bool:
    """Whether it takes a secret key to read it."""
    return any(part.key.endswith(".age") for part in record.parts)


def settings_elsewhere(record: BackupRecord) -> bool:
    """Whether the original kept its configuration files where no base backup has them."""
    return any(warning.startswith("configuration files") for warning in record.snapshot.warnings)


def programs(record: BackupRecord) -> str:
    """Where Debian and Ubuntu have PostgreSQL's programs of the backup's version."""
    return f"/usr/lib/postgresql/{record.snapshot.cluster.major}/bin"
