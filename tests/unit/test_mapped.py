"""Tasks inside of a mapped task group: their plan comes when they run."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.hooks.assets import ANY_BACKUP, backup_asset, tell_asset
from airflow_backup_guard.operators import BackupVerifyOperator
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.stored import store_backup

PLAN = BackupPlan(
    name="shop",
    connection="shop_primary",
    repository="file:///srv/backups",
    calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"),
)


class Later:
    """What stands for a value until the task runs."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def resolve(self, context: Any) -> Any:
        """The value."""
        return self._value


@pytest.mark.parametrize("value", [PLAN, PLAN.to_dict()], ids=["plan", "dictionary"])
def test_the_plan_is_known_once_the_task_runs(value: Any) -> None:
    """Whether the list had plans or what a task returned; until then nothing is told of it."""
    verify = BackupVerifyOperator(task_id="verify", plan=Later(value))  # type: ignore[arg-type]
    assert json.loads(verify.backup_guard)["plans"] == []
    assert verify.outlets == [ANY_BACKUP]
    verify.render_template_fields({})  # type: ignore[typeddict-item]
    assert verify.plan == PLAN
    assert json.loads(verify.backup_guard)["plans"] == [PLAN.to_dict()]


def test_its_success_updates_the_asset_of_its_plan() -> None:
    """Through an alias, as the asset was not known when the DAG was parsed."""
    verify = BackupVerifyOperator(task_id="verify", plan=Later(PLAN))  # type: ignore[arg-type]
    record = store_backup(MemoryRepository(), datetime(2026, 11, 23, tzinfo=timezone.utc))
    events = OutletEventAccessors()
    tell_asset({"task": verify, "outlet_events": events}, PLAN, record)  # type: ignore[typeddict-item]
    (event,) = events[ANY_BACKUP].asset_alias_events
    assert event.dest_asset_key.uri == backup_asset(PLAN).uri
    assert event.extra["backup_id"] == record.backup_id


def test_a_plan_of_its_own_has_its_asset() -> None:
    """Outside of mapped groups nothing changes."""
    verify = BackupVerifyOperator(task_id="verify", plan=PLAN)
    assert verify.outlets == [backup_asset(PLAN)]
    assert len(json.loads(verify.backup_guard)["plans"]) == 1
