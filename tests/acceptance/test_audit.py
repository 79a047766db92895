"""The example DAG of audits, run by Airflow."""

from __future__ import annotations

from airflow_backup_guard.engine.audit import chain
from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import Airflow


def test_a_run_audits_stores_and_fails_for_what_is_not_as_promised(airflow: Airflow) -> None:
    """The database is asked through its connection; what was found is in the log, in the XComs, in the metrics and in
    the repository, and the task fails, as this set-up keeps few promises."""
    run = airflow.scheduled("quarterly_audit")
    assert airflow.finish(run) == "failed"
    log = airflow.log(run, "audit")
    assert "BG001 fail The plan has no off-peak windows" in log
    assert "BG011" not in log
    values = airflow.api("GET", f"{run}/taskInstances/audit/xcomEntries/report?deserialize=true")
    report = values["value"]
    assert "# Audit of database backups" in report and "BG012 | The backup role may what it needs | pass" in report
    repository = open_repository(airflow.repository.as_uri())
    result = chain(repository, "shop")
    assert result.audits == 1 and not result.problems
    assert result.sha256 in log
    airflow.wait_until(
        lambda: airflow.metrics.values.get("airflow.backup_guard.shop.audit.passed") == 0, "the metric of the audit"
    )
    repository.delete_all([info.key for info in repository.list("audits/")])
