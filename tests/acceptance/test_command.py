"""Guarded commands in a real Airflow: the example DAG, and a task that a person ends."""

from __future__ import annotations

import re

import psutil

from airflow_backup_guard.core.backup import load
from airflow_backup_guard.core.command import CommandReceipt, receipt_key
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.read import read_whole
from tests.acceptance.conftest import Airflow


def test_the_example_dag_runs_a_guarded_command(airflow: Airflow) -> None:
    """Both gates open, the command makes its dump, its log is the task's, and its receipt is in the repository."""
    run = airflow.scheduled("guarded_command")
    assert airflow.finish(run) == "success", {task: airflow.log(run, task) for task in airflow.states(run)}
    returned = airflow.returned(run, "backup")
    assert returned["exit_status"] == 0
    assert returned["impact"]["during"]["samples"] > 0
    log = airflow.log(run, "backup")
    assert "dumping contents of table" in log
    assert "commits during" in log
    (dump,) = re.findall(r"it is in (\S+/shop\.dump)", log)[:1]
    with open(dump, encoding="utf-8") as text:  # noqa: PTH123
        assert "PostgreSQL database dump complete" in text.read()[-200:]
    key = receipt_key("shop_command", returned["command_id"])
    receipt = load(CommandReceipt, read_whole(open_repository(airflow.repository.as_uri()), key), key)
    assert receipt.exit_status == 0


def test_a_command_whose_task_is_marked_failed_is_gone(airflow: Airflow) -> None:
    """Though it ignores SIGTERM; the log had no secret in it, and the receipt tells who ended it."""
    run = airflow.trigger("slow_command")
    said = re.compile(r"slow command (\d+)")
    airflow.wait_until(lambda: said.search(airflow.log(run, "backup")) is not None, "the log of the command")
    match = said.search(log := airflow.log(run, "backup"))
    assert match is not None
    assert "my secret is ***" in log
    process = psutil.Process(int(match[1]))
    assert process.is_running()
    airflow.api("PATCH", f"{run}/taskInstances/backup", new_state="failed")
    airflow.wait_until(lambda: not process.is_running(), "the end of the command", 20)
    assert airflow.finish(run) == "failed"
    repository = open_repository(airflow.repository.as_uri())
    (found,) = [info.key for info in repository.list("commands/slow_command/") if info.key.endswith(".json")]
    airflow.wait_until(
        lambda: (
            "Airflow stopped the task" in (load(CommandReceipt, read_whole(repository, found), found).outcome or "")
        ),
        "the receipt of the end",
        20,
    )
