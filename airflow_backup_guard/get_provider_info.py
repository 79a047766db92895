"""What Airflow's provider manager is told about this package."""

from __future__ import annotations

from typing import Any

_NAME = "Backup Guard"


def get_provider_info() -> dict[str, Any]:
    """Metadata in the form of Airflow's ``provider_info.schema.json``."""
    package = "airflow_backup_guard"
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
            {
                "integration-name": _NAME,
                "python-modules": [
                    f"{package}.operators.{name}" for name in ("snapshot", "copy", "verify", "notify", "record_load")
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": _NAME,
                "python-modules": [f"{package}.sensors.{name}" for name in ("off_peak", "write_load")],
            }
        ],
        "hooks": [{"integration-name": _NAME, "python-modules": [f"{package}.hooks.backup_guard"]}],
        "triggers": [{"integration-name": _NAME, "python-modules": [f"{package}.triggers.write_load"]}],
    }
