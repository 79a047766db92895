"""What Airflow itself knows of plans: the copies that run now, and when a DAG runs next."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import and_, select

from airflow_backup_guard.operators.live import STATE_KEY
from airflow_backup_guard.ui.instances import map_index_of
from airflow_backup_guard.ui.plans import KnownPlan

_AT_ONCE = 200  # DAGs in one query: none of the databases takes parameters without end
_FACTS = (
    "backup_id",
    "done",
    "total",
    "rate",
    "allowed_rate",
    "state",
    "reason",
    "level",
    "finish",
    "window_end",
    "late",
)


def live_copies(plans: Iterable[KnownPlan]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What the running tasks of some plans say of themselves, by plan and repository; sizes in bytes."""
    of_task: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for known in plans:
        for dag_id, task_id, _ in known.tasks:
            of_task[dag_id, task_id].append((known.name, known.repository))
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for dag_id, run_id, task_id, map_index, value in _running(sorted({dag_id for dag_id, _ in of_task})):
        said = _read(value)
        for plan in of_task.get((dag_id, task_id), ()) if said else ():
            # Each instance of a mapped task says itself whose copy this is.
            if said.get("plan", plan[0]) == plan[0]:
                facts = {name: said.get(name) for name in _FACTS}
                where = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
                found[plan].append({**facts, **where})
    return found


def next_runs(dag_ids: Iterable[str]) -> list[tuple[str, datetime | None, bool]]:
    """Id of each DAG, when its next run is made, and whether it is paused, by time."""
    with create_session() as session:
        rows = session.execute(
            select(DagModel.dag_id, DagModel.next_dagrun_create_after, DagModel.is_paused).where(
                DagModel.dag_id.in_(sorted(dag_ids))
            )
        )
        found = [(dag_id, at, bool(paused)) for dag_id, at, paused in rows]
    return sorted(found, key=lambda one: (one[1] is None, one[1].timestamp() if one[1] else 0.0, one[0]))


def _running(dag_ids: list[str]) -> Iterator[tuple[str, str, str, int, str]]:
    state = TaskStateStoreModel
    with create_session() as session:
        for start in range(0, len(dag_ids), _AT_ONCE):
            yield from session.execute(
                select(state.dag_id, state.run_id, state.task_id, map_index_of(state), state.value)
                .join(
                    TaskInstance,
                    and_(
                        TaskInstance.dag_id == state.dag_id,
                        TaskInstance.run_id == state.run_id,
                        TaskInstance.task_id == state.task_id,
                        map_index_of(TaskInstance) == map_index_of(state),
                    ),
                )
                .where(
                    state.key == STATE_KEY,
                    TaskInstance.state == TaskInstanceState.RUNNING,
                    state.dag_id.in_(dag_ids[start : start + _AT_ONCE]),
                )
            ).tuples()


def _read(value: str) -> dict[str, Any]:
    try:
        said = json.loads(value)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
