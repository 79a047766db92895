"""The asset of verified backups, and the example DAG that is scheduled on it, run by Airflow."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow_backup_guard.hooks.assets import backup_asset
from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import Airflow
from tests.integration.guarded import back_up, plan_for
from tests.stored import store_backup


def test_a_verified_backup_starts_a_restore(airflow: Airflow) -> None:
    """The verification's success makes one event that tells of the backup; Airflow then restores that very one."""
    airflow.unpause("staging_refresh")
    record = back_up(plan_for(airflow.repository), airflow.server.dsn())
    backup_id = record.backup_id
    run = airflow.trigger("verify_shop")
    assert airflow.finish(run) == "success", airflow.log(run, "verify")
    asset = backup_asset("shop")
    runs = "/dags/staging_refresh/dagRuns"

    def restored() -> bool:
        ended = [one for one in airflow.api("GET", runs)["dag_runs"] if one["state"] == "success"]
        return any(
            airflow.returned(f"{runs}/{one['dag_run_id']}", "restore")["backup_id"] == backup_id for one in ended
        )

    airflow.wait_until(restored, "a restore of the backup")
    events = airflow.api("GET", "/assets/events?limit=100")["asset_events"]
    (event,) = [one for one in events if one["extra"].get("backup_id") == backup_id]
    assert (event["uri"], event["source_task_id"]) == (asset.uri, "verify")
    assert event["extra"]["taken_at"] == record.snapshot.taken_at.isoformat()
    assert event["extra"]["database_size"] == record.database_size
    target = airflow.staging / backup_id
    assert (target / "global" / "pg_control").exists()
    assert (airflow.staging / "current").resolve() == target


def test_a_backup_that_fails_verification_updates_no_asset(airflow: Airflow) -> None:
    """Nothing is scheduled on what cannot be trusted."""
    store_backup(open_repository(airflow.repository.as_uri()), datetime.now(timezone.utc), None, name="unsound")
    run = airflow.trigger("verify_unsound")
    assert airflow.finish(run) == "failed"
    assert "is damaged" in airflow.log(run, "verify")
    uris = {event["uri"] for event in airflow.api("GET", "/assets/events?limit=100")["asset_events"]}
    assert backup_asset("unsound").uri not in uris
