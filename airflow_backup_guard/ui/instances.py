"""What Airflow's database has of one task instance: its state, what it returned, and what it keeps while it runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_backup_guard.hooks.errors import PROBLEM_KEY

_OVER = {"success", "failed", "skipped", "upstream_failed", "removed"}


@dataclass(frozen=True)
class Instance:
    """One task instance; ``state`` is None before it is scheduled."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    started_at: datetime | None

    @property
    def over(self) -> bool:
        """Whether it has ended, and will not be tried again."""
        return self.state in _OVER

    @property
    def running(self) -> bool:
        """Whether a worker has it now."""
        return self.state == "running"


def find_instance(dag_id: str, run_id: str, task_id: str, map_index: int) -> Instance | None:
    """The task instance, if there is one."""
    found = Instance(dag_id, run_id, task_id, map_index, None, None)
    with create_session() as session:
        row = session.execute(_of(select(TaskInstance.state, TaskInstance.start_date), TaskInstance, found)).first()
    return None if row is None else replace(found, state=row[0] and str(row[0]), started_at=row[1])


def kept(instance: Instance, key: str) -> dict[str, Any]:
    """What the task keeps under a key; empty if there is nothing, or nothing that could be ours."""
    statement = _of(select(TaskStateStoreModel.value), TaskStateStoreModel, instance)
    with create_session() as session:
        value = session.scalar(statement.where(TaskStateStoreModel.key == key))
    try:
        found = json.loads(value) if value else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def returned(instance: Instance) -> dict[str, Any]:
    """What the task returned; empty if it has not, or not what ours return."""
    found = _xcom(instance, "return_value")
    return found if isinstance(found, dict) else {}


def problem(instance: Instance) -> str:
    """Why the task failed, as it said itself; empty if it did not."""
    found = None if instance.running else _xcom(instance, PROBLEM_KEY)
    return found if isinstance(found, str) else ""


def _xcom(instance: Instance, key: str) -> Any:
    statement = XComModel.get_many(
        run_id=instance.run_id,
        key=key,
        dag_ids=instance.dag_id,
        task_ids=instance.task_id,
        map_indexes=instance.map_index,
    )
    with create_session() as session:
        row = session.scalars(statement).first()
        return None if row is None else XComModel.deserialize_value(row)


def map_index_of(model: Any) -> Any:
    """The column of a table of task instances that has their map index. From Airflow 3.4 on it has another name, as it
    counts the rounds of a loop, too."""
    return model.region_index if hasattr(model, "region_index") else model.map_index


def _of(statement: Any, model: Any, instance: Instance) -> Any:
    return statement.where(
        model.dag_id == instance.dag_id,
        model.run_id == instance.run_id,
        model.task_id == instance.task_id,
        map_index_of(model) == instance.map_index,
    )
