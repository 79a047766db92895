"""The example DAG of the retention, run by Airflow."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import Airflow
from tests.stored import store_backup


def test_a_run_expires_what_the_plan_does_not_keep(airflow: Airflow) -> None:
    """Its task returns each decision, the log has the reasons, the repository what is kept; no database is asked."""
    repository = open_repository(airflow.repository.as_uri())
    long_ago = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=4000)
    records = [store_backup(repository, long_ago + timedelta(hours=number)) for number in range(3)]
    run = airflow.scheduled("expire_backups")
    assert airflow.finish(run) == "success"
    returned = {one["backup_id"]: one for one in airflow.returned(run, "expire")["backups"]}
    ours = [returned[record.backup_id] for record in records]
    assert [one["action"] for one in ours] == ["expire", "expire", "keep"]
    assert airflow.returned(run, "expire")["done"] is True
    visible = {info.key.rpartition("/")[2].removesuffix(".json") for info in repository.list("records/shop/")}
    stored = {info.key.split("/")[2] for info in repository.list("backups/shop/")}
    assert records[2].backup_id in visible & stored
    assert not {one.backup_id for one in records[:2]} & (visible | stored)
    log = airflow.log(run, "expire")
    assert f"{records[0].backup_id} expire: older than 3d" in log
    # The others' tests find the repository as they would without this one.
    repository.delete(f"records/shop/{records[2].backup_id}.json")
    repository.delete(f"verifications/shop/{records[2].backup_id}.json")
    repository.delete_all([part.key for part in records[2].parts])
