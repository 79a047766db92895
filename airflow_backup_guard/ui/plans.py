"""The plans that there are: those of the tasks in Airflow's serialized DAGs, each with the DAGs that it is in."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from airflow_backup_guard import operators, sensors
from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.errors import InvalidPlan
from airflow_backup_guard.hooks.shown import FIELD, read_shown

_AT_ONCE = 200  # DAGs in one query: none of the databases takes parameters without end
_STEPS = {name: getattr(module, name).backup_step for module in (operators, sensors) for name in module.__all__}


@dataclass(frozen=True)
class PlanTask:
    """A task of ours: the step that it is, and its plans, each as plain values. Each instance of one that is mapped
    (``expand``), or in a mapped group, has a plan of its own."""

    dag_id: str
    task_id: str
    step: str
    plans: tuple[dict[str, Any], ...]
    mapped: bool = False


@dataclass(frozen=True)
class KnownPlan:
    """A plan, and the tasks that have it, as ``(dag_id, task_id, step)``.

    ``plan`` is None where this release cannot read what a DAG says; ``problem`` tells why.
    """

    name: str
    repository: str
    plan: BackupPlan | None
    problem: str
    tasks: tuple[tuple[str, str, str], ...]

    @property
    def dag_ids(self) -> tuple[str, ...]:
        """The DAGs that it is in, by name."""
        return tuple(sorted({dag_id for dag_id, _, _ in self.tasks}))


class SerializedTasks:
    """Tasks of ours by DAG. What was read of a version of a DAG is remembered, as it does not change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[str, tuple[str, tuple[PlanTask, ...]]] = {}

    def of(self, dag_ids: Collection[str]) -> list[PlanTask]:
        """Those in the latest versions of some DAGs; of DAGs that are not there any more, none."""
        with self._lock, create_session() as session:
            there = set(session.scalars(select(DagModel.dag_id).where(DagModel.is_stale.is_(False))))
            wanted = sorted(there & set(dag_ids))
            for start in range(0, len(wanted), _AT_ONCE):
                self._renew(session, wanted[start : start + _AT_ONCE])
            return [task for dag_id in wanted if dag_id in self._read for task in self._read[dag_id][1]]

    def _renew(self, session: Session, dag_ids: list[str]) -> None:
        newest = (
            select(DagVersion.dag_id, func.max(DagVersion.version_number).label("number"))
            .join(SerializedDagModel, SerializedDagModel.dag_version_id == DagVersion.id)
            .where(DagVersion.dag_id.in_(dag_ids))
            .group_by(DagVersion.dag_id)
            .subquery()
        )
        rows = session.execute(
            select(SerializedDagModel.dag_id, SerializedDagModel.dag_hash, SerializedDagModel.id)
            .join(DagVersion, SerializedDagModel.dag_version_id == DagVersion.id)
            .join(newest, (newest.c.dag_id == DagVersion.dag_id) & (newest.c.number == DagVersion.version_number))
        )
        changed = {key: (dag, version) for dag, version, key in rows if self._read.get(dag, ("",))[0] != version}
        for model in session.scalars(select(SerializedDagModel).where(SerializedDagModel.id.in_(list(changed)))):
            dag_id, version = changed[model.id]
            self._read[dag_id] = (version, tuple(_tasks(dag_id, model.data or {})))


serialized = SerializedTasks()
"""Of this process."""


def known_plans(dag_ids: Collection[str]) -> list[KnownPlan]:
    """The plans of some DAGs, by name. Plans of one name in two repositories are two."""
    found: dict[tuple[str, str], KnownPlan] = {}
    for task in serialized.of(dag_ids):
        for values in task.plans:
            name, repository = str(values.get("name")), str(values.get("repository"))
            known = found.get((name, repository)) or _known(name, repository, values)
            found[name, repository] = replace(known, tasks=(*known.tasks, (task.dag_id, task.task_id, task.step)))
    return [found[key] for key in sorted(found)]


def find_plan(dag_ids: Collection[str], name: str, repository: str | None = None) -> KnownPlan | None:
    """The plan of this name; with several of it, the one in this repository, or the first."""
    for known in known_plans(dag_ids):
        if known.name == name and repository in (None, known.repository):
            return known
    return None


def find_task(dag_id: str, task_id: str) -> PlanTask | None:
    """A task, if it is one of ours."""
    return next((task for task in serialized.of([dag_id]) if task.task_id == task_id), None)


def _known(name: str, repository: str, values: dict[str, Any]) -> KnownPlan:
    plan, problem = _read_plan(json.dumps(values, sort_keys=True))
    return KnownPlan(name, repository, plan, problem, ())


@lru_cache(maxsize=4096)
def _read_plan(text: str) -> tuple[BackupPlan | None, str]:
    # To check every value of five hundred plans takes a quarter of a second, for each question of a page.
    try:
        return BackupPlan.from_dict(json.loads(text)), ""
    except InvalidPlan as error:
        return None, f"This release cannot read the plan: {error}"


def _tasks(dag_id: str, data: dict[str, Any]) -> Iterable[PlanTask]:
    for encoded in data.get("dag", {}).get("tasks", ()):
        task = encoded.get("__var", encoded)
        shown = read_shown(task.get(FIELD))
        if shown is not None:
            step, plans = shown
            yield PlanTask(dag_id, str(task["task_id"]), step, tuple(plans), mapped=not plans)
        elif task.get("_is_mapped") and str(task.get("_task_module")).startswith("airflow_backup_guard."):
            step = _STEPS.get(str(task.get("task_type")), "other")
            yield PlanTask(dag_id, str(task["task_id"]), step, tuple(_mapped_plans(task)), mapped=True)


def _mapped_plans(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that the DAG file itself names; where another task returns them, there are none before it has run."""
    expanded = _plain(task.get("expand_input", {}).get("value"))
    each = expanded if isinstance(expanded, list) else [expanded]
    for arguments in (task.get("partial_kwargs", {}), *each):
        found = _plain(arguments.get("plan")) if isinstance(arguments, dict) else None
        for text in found if isinstance(found, list) else [found]:
            with suppress(TypeError, ValueError):
                plan = json.loads(str(text))
                if isinstance(plan, dict):
                    yield plan


def _plain(value: Any) -> Any:
    """Without what Airflow's serialization says of types."""
    if isinstance(value, dict) and "__type" in value:
        return _plain(value.get("__var"))
    return [_plain(one) for one in value] if isinstance(value, list) else value
