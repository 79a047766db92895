"""Secrets that tasks hold are shown nowhere, above all when the tasks fail."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import PASSWORD, Airflow
from tests.acceptance.planted import SECRETS
from tests.security.sampler import ArgumentSampler, holders
from tests.stored import store_backup

FAILING = ["snapshot_wrong_host", "snapshot_wrong_password", "gate", "snapshot_bucket", "drill", "restore", "command"]
TOLD = {
    "snapshot_wrong_host": "127.0.0.1:1",
    "snapshot_wrong_password": "password authentication failed",
    "snapshot_bucket": "cannot be reached",
    "command": "with ***",
}


def test_planted_secrets_are_found_nowhere(airflow: Airflow) -> None:
    """Passwords, a bucket's key, a token, a command's environment and an age identity: a run whose tasks fail with each
    of them leaves none in logs, XCom, rendered fields, task state, metadata, alerts, metrics, repository, the
    arguments of any process, Airflow's API or the API of our pages; and the logs say what was wrong all the same."""
    repository = open_repository(airflow.repository.as_uri())
    store_backup(repository, datetime.now(timezone.utc), name="planted_encrypted")
    with ArgumentSampler() as arguments:
        run = airflow.trigger("planted_secrets")
        assert airflow.finish(run) == "failed"
    repository.delete_all([info.key for info in repository.list("") if "planted_encrypted" in info.key])
    states = airflow.states(run)
    assert {name: states[name] for name in FAILING} == dict.fromkeys(FAILING, "failed")
    for task, said in TOLD.items():
        assert said in airflow.log(run, task), task

    secrets = {**SECRETS, "guard": PASSWORD}
    home = airflow.repository.parent
    # The key's own file, and what the fixtures keep for themselves.
    assert holders(home, secrets, but=("planted.identity", "passwords.json")) == {}

    run_id = run.rpartition("/")[2]
    texts = {"alerts": str(airflow.webhook.told), "metrics": str(airflow.metrics.values)}
    for task in FAILING:
        at = f"/api/v2{run}/taskInstances/{task}"
        place = f"dag_id=planted_secrets&run_id={run_id}&task_id={task}"
        for path in (at, f"{at}/xcomEntries", f"{at}/tries", f"/backup-guard/api/task?{place}"):
            texts[path] = airflow._client.get(path).text
    texts["plans"] = airflow._client.get("/backup-guard/api/plans").text
    assert "planted_command" in texts["plans"]
    assert "***" in texts[f"/api/v2{run}/taskInstances/command"]
    for name, text in texts.items():
        assert [secret for secret in secrets.values() if secret in text] == [], name
    assert [line for line in arguments.seen if any(secret.encode() in line for secret in secrets.values())] == []
