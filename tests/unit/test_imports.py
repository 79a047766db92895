"""What is imported when: a DAG file is parsed often, and recovery must not need Airflow."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LIST = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{sys.argv[1]}."):
    importlib.import_module(module.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def imported_with(module: str) -> set[str]:
    """Top-level names of all that a fresh Python has imported after this module and those within it."""
    command = [sys.executable, "-c", LIST, module]
    return set(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def test_the_core_is_pure() -> None:
    """No module of it loads Airflow, a client of anything, or pydantic, which is needed to read records only."""
    loaded = imported_with("airflow_backup_guard.core")
    assert "airflow_backup_guard" in loaded
    assert not loaded & {"airflow", "psycopg", "boto3", "botocore", "zstandard", "pyrage", "pydantic"}


def test_the_command_line_needs_no_airflow() -> None:
    """Recovery works where Airflow does not."""
    assert "airflow" not in imported_with("airflow_backup_guard.cli")


@pytest.mark.parametrize("command", ["catalog", "control", "expire", "fleet", "hold", "restore", "verify"])
def test_what_asks_only_a_repository_needs_no_client_of_a_database(command: str) -> None:
    """Of one in a folder it needs none of S3 either: what is not needed is not waited for."""
    assert not imported_with(f"airflow_backup_guard.cli.{command}") & {"psycopg", "boto3", "botocore"}
