"""Alerts out of a real Airflow: of a copy under load, of a missed deadline, and of a task that failed."""

from __future__ import annotations

from tests.acceptance.conftest import Airflow


def test_a_copy_under_load_and_a_missed_deadline(airflow: Airflow) -> None:
    """The copy tells of the load while it runs, with a link to its log, and that it is over when it ends. The triggerer
    tells, once, that the deadline passed without a verified backup."""
    run = airflow.trigger("loaded")
    assert airflow.finish(run) == "success", airflow.log(run, "copy")
    load = airflow.webhook.about("loaded/load.commit_latency")
    assert [message["state"] for message in load] == ["raised", "over"], airflow.log(run, "copy")
    assert load[0]["link"].endswith("/tasks/copy?try_number=1")
    airflow.wait_until(lambda: bool(airflow.webhook.about("loaded/backup.overdue")), "the alert of the deadline")
    (overdue,) = airflow.webhook.about("loaded/backup.overdue")
    assert overdue["severity"] == "critical" and "no backup of this plan was ever verified" in overdue["text"]


def test_a_task_that_fails(airflow: Airflow) -> None:
    """The failure of a task is told with its reason and what to do."""
    run = airflow.trigger("failing")
    assert airflow.finish(run) == "failed"
    airflow.wait_until(lambda: bool(airflow.webhook.about("failing/backup.failed")), "the alert of the failure")
    (failed,) = airflow.webhook.about("failing/backup.failed")
    assert "task snapshot of DAG failing" in failed["text"] and "password authentication failed" in failed["text"]
