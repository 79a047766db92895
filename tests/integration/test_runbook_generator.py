"""The runbook of a cluster gets that cluster back: what it says is done, command by command, after the loss."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import DrillCheck, DrillPolicy
from airflow_backup_guard.core.runbook.facts import runbook_key
from airflow_backup_guard.engine import runbook
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.postgres.account import account_for, everything_in
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.read import read_whole
from tests.integration.guarded import back_up, plan_for
from tests.integration.test_docs import need_tools, run_shell
from tests.integration.test_runbooks import Place, major, open_shop  # noqa: F401  # a fixture
