"""The example DAG of many clusters, run by Airflow."""

from __future__ import annotations

from airflow_backup_guard.engine import catalog
from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import Airflow


def test_each_cluster_has_a_backup_of_its_own(airflow: Airflow) -> None:
    """Of three clusters two have a role that may not back up: the third has a verified backup, its asset an event."""
    run = airflow.trigger("many_clusters")
    assert airflow.finish(run) == "failed"
    states = {
        (task["rendered_map_index"] or task["map_index"], task["task_id"].removeprefix("back_up.")): task["state"]
        for task in airflow.api("GET", f"{run}/taskInstances")["task_instances"]
    }
    good = ("off_peak", "write_load", "snapshot", "copy", "verify", "snapshot_teardown")
    assert {step: states["orders", step] for step in good} == dict.fromkeys(good, "success")
    for index, cluster in enumerate(("payments", "search"), 1):
        assert states[cluster, "write_load"] == "success"
        assert states[cluster, "snapshot"] == "failed"
        # Nobody knows the name of what never ran.
        assert {states[index, step] for step in ("copy", "verify")} == {"upstream_failed"}
    backups = [record.plan_name for record in catalog.backups(open_repository(airflow.repository.as_uri()))]
    assert backups.count("orders") == 1 and "payments" not in backups
    events = airflow.api("GET", "/assets/events?limit=100")["asset_events"]
    told = [event["extra"]["plan_name"] for event in events if event["uri"] == "x-postgres-backup://orders"]
    assert told == ["orders"]
