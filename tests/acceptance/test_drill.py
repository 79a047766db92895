"""The example DAG of restore drills, run by Airflow."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.engine import catalog
from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import PASSWORD, Airflow
from tests.integration.guarded import back_up, plan_for


def test_a_run_drills_the_newest_backup(airflow: Airflow) -> None:
    """Its task returns what it found, stores it beside the backup, tells the metrics, and leaves nothing behind."""
    plan = plan_for(airflow.repository, repository=airflow.repository.as_uri())
    record = back_up(plan, f"host=127.0.0.1 port={airflow.server.port} user=guard password={PASSWORD} dbname=postgres")
    run = airflow.trigger("restore_drill")
    assert airflow.finish(run) == "success", airflow.log(run, "drill")
    returned = airflow.returned(run, "drill")
    assert (returned["backup_id"], returned["passed"]) == (record.backup_id, True)
    stored = catalog.last_drill(open_repository(airflow.repository.as_uri()), record)
    assert stored is not None and stored.rto_seconds == returned["rto_seconds"]
    airflow.wait_until(
        lambda: airflow.metrics.values.get("airflow.backup_guard.shop.drill.passed") == 1, "the metric of the drill"
    )
    assert "pg_amcheck found" in airflow.log(run, "drill")
    (scratch,) = Path(airflow.environment["TMPDIR"]).glob("backup-guard-drills-*")
    assert not list(scratch.glob("drill-*"))
    repository = open_repository(airflow.repository.as_uri())
    repository.delete(f"records/shop/{record.backup_id}.json")
    for folder in ("verifications", "drills"):
        repository.delete(f"{folder}/shop/{record.backup_id}.json")
    repository.delete_all([part.key for part in record.parts])
