"""What Airflow is told about this package is what Airflow expects, and costs a DAG file next to nothing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_backup_guard.get_provider_info import get_provider_info
from tests.acceptance.conftest import scrubbed_environment

FOUND = """
from airflow.providers_manager import ProvidersManager
found = ProvidersManager().providers["airflow-backup-guard"]
print(found.version, found.data["name"], sep="\\n")
"""
LOADED = """
import json, sys
from airflow.sdk import BaseHook, BaseNotifier, BaseOperator, BaseSensorOperator, Context
before = set(sys.modules)
import airflow_backup_guard.operators, airflow_backup_guard.sensors
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def run(code: str, home: Path) -> str:
    """What a fresh Python, with an Airflow home of its own, prints last."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=scrubbed_environment(home), check=True, capture_output=True, text=True)
    return done.stdout


def modules(found: Any) -> Iterator[str]:
    """All ``python-modules`` in the metadata, wherever they are."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from value if name == "python-modules" else modules(value)
    elif isinstance(found, list):
        for value in found:
            yield from modules(value)


def test_the_metadata_is_valid_by_airflows_own_schema() -> None:
    """Airflow drops a provider whose metadata its schema refuses."""
    import airflow

    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(get_provider_info())] == []
    assert list(validator.iter_errors({**get_provider_info(), "sensors": "airflow_backup_guard.sensors"}))


def test_every_module_in_the_metadata_can_be_imported() -> None:
    """None was renamed or removed, and none of operators, sensors, triggers and hooks was forgotten."""
    named = set(modules(get_provider_info()))
    for name in named:
        importlib.import_module(name)
    package = Path(__file__).parents[2] / "airflow_backup_guard"
    kinds = {
        "operators": "BaseOperator",
        "sensors": "BaseSensorOperator",
        "triggers": "BaseTrigger",
        "hooks": "BaseHook",
    }
    assert {name.split(".")[1] for name in named} == set(kinds)
    for kind in kinds:
        for path in (package / kind).glob("[a-z]*.py"):
            name = f"airflow_backup_guard.{kind}.{path.stem}"
            own = [thing for thing in vars(importlib.import_module(name)).values() if is_public(thing, name)]
            assert not own or name in named, f"{name} has {own}, and Airflow is not told"


def is_public(thing: object, module: str) -> bool:
    """Whether it is something that Airflow runs, is defined in this module, and is meant for users."""
    from airflow.sdk import BaseHook, BaseOperator
    from airflow.triggers.base import BaseTrigger

    kinds = (BaseOperator, BaseHook, BaseTrigger)
    ours = isinstance(thing, type) and issubclass(thing, kinds) and thing.__module__ == module
    return ours and not getattr(thing, "__abstractmethods__", None) and module.rpartition(".")[2] not in BASES


BASES = {"gate", "stoppable", "errors"}  # what others in their folder are built on


def test_airflow_finds_the_provider(tmp_path: Path) -> None:
    """Through the entry point of the installed package, by the name that ``airflow providers list`` shows."""
    from airflow_backup_guard import __version__

    assert run(FOUND, tmp_path).splitlines()[-2:] == [__version__, get_provider_info()["name"]]


def test_importing_the_operators_loads_nothing_heavy(tmp_path: Path) -> None:
    """A DAG file is parsed every few seconds: beyond ``airflow.sdk`` itself there are only modules of ours and its."""
    loaded = set(json.loads(run(LOADED, tmp_path).splitlines()[-1]))
    assert "airflow_backup_guard.operators.copy" in loaded
    tops = {name.partition(".")[0] for name in loaded}
    clients = {"boto3", "botocore", "google_crc32c", "psycopg", "pyrage", "pydantic", "rich", "sqlalchemy", "zstandard"}
    assert not tops & clients
    assert {name for name in loaded if name.startswith("airflow.") and not name.startswith("airflow.sdk.")} == set()
    assert not loaded & {
        f"airflow_backup_guard.{name}"
        for name in ("postgres.connection", "repository.codec", "repository.s3", "engine.copy")
    }
