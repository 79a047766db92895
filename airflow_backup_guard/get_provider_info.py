"""What Airflow's provider manager is told about this package."""

from __future__ import annotations

from typing import Any

_NAME = "Backup Guard"
_PACKAGE = "airflow_backup_guard"


def get_provider_info() -> dict[str, Any]:
    """Metadata in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-backup-guard",
        "name": _NAME,
        "description": "PostgreSQL backups that cannot hurt the database: off-peak, throttled by live load, verified.",
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://www.postgresql.org/docs/current/protocol-replication.html",
                "tags": ["software"],
            }
        ],
        "operators": [
            _modules("operators", "snapshot", "copy", "verify", "notify", "expire", "restore", "drill", "record_load"),
            _modules("operators", "command", "stop", "rogue_backup", "audit"),
        ],
        "sensors": [_modules("sensors", "off_peak", "write_load", "rogue_backup")],
        "hooks": [_modules("hooks", "backup_guard")],
        "notifications": [f"{_PACKAGE}.notifications.BackupGuardNotifier"],
        "extra-links": [f"{_PACKAGE}.hooks.links.PlanLink"],
        "triggers": [_modules("triggers", "write_load", "rogue_backup")],
    }


def _modules(kind: str, *names: str) -> dict[str, Any]:
    return {"integration-name": _NAME, "python-modules": [f"{_PACKAGE}.{kind}.{name}" for name in names]}
