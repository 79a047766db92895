"""The example DAG of many clusters, run by Airflow."""

from __future__ import annotations

from airflow_backup_guard.engine import catalog
from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import Airflow


def test_each_cluster_has_a_backup_of_its_own(airflow: Airflow) -> None:
    """Of three clusters two have a role that may not back up: the third has a verified backup, its asset an event."""
    run = airflow.trigger("many_clusters")
    assert airflow.finish(run) == "failed"
    tasks = airflow.api("GET", f"{run}/taskInstances")["task_instances"]
    states = {(task["map_index"], task["task_id"].removeprefix("back_up.")): task["state"] for task in tasks}
    shown = [task["rendered_map_index"] for task in tasks if task["task_id"] == "back_up.off_peak"]
    assert sorted(shown) == ["orders", "payments", "search"]
    steps = ("off_peak", "write_load", "snapshot", "copy", "verify", "snapshot_teardown")
    assert {step: states[0, step] for step in steps} == dict.fromkeys(steps, "success")
    for failed in (1, 2):
        assert states[failed, "write_load"] == "success"
        assert states[failed, "snapshot"] == "failed"
        assert {states[failed, step] for step in ("copy", "verify")} == {"upstream_failed"}
    backups = [record.plan_name for record in catalog.backups(open_repository(airflow.repository.as_uri()))]
    assert backups.count("orders") == 1 and "payments" not in backups
    events = airflow.api("GET", "/assets/events?limit=100")["asset_events"]
    told = [event["extra"]["plan_name"] for event in events if event["uri"] == "x-postgres-backup://orders"]
    assert told == ["orders"]
