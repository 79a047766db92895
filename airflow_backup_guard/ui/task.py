"""The tab of a task instance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, HTTPException

from airflow_backup_guard.hooks.shown import PLAN_KEY
from airflow_backup_guard.operators.live import STATE_KEY
from airflow_backup_guard.ui import copy_view, gate_view
from airflow_backup_guard.ui.access import User, may_change, may_read_task
from airflow_backup_guard.ui.instances import Instance, find_instance, kept
from airflow_backup_guard.ui.plans import PlanTask, find_task

router = APIRouter(prefix="/api")

_NOT_OURS = "This is not a task of Backup Guard: there is nothing about a backup to show here."
_NO_PICTURE = "This task of Backup Guard has no picture of its own: its log says what it did."


def read_map_index(text: str) -> int:
    """Airflow leaves the placeholder as it is for a task that is not mapped."""
    return int(text) if text.isdecimal() and len(text) < 10 else -1


@router.get("/task", dependencies=[may_read_task])
def task_of(
    user: User, dag_id: str, run_id: str, task_id: str, map_index: str = "-1", after: float | None = None
) -> dict[str, Any]:
    """What there is to show of a task instance; ``after``, a time, asks for what is new in its picture."""
    task, instance = find(dag_id, run_id, task_id, map_index)
    if task is None:
        return {"kind": "other", "text": _NOT_OURS}
    if task.step == "gate":
        return gate_view.view(task, instance)
    if task.step in ("copy", "command"):
        document = copy_view.view(task, instance, after=after)
        return {**document, "may_change": may_change(user, dag_id)}
    return {"kind": "other", "text": _NO_PICTURE}


def find(dag_id: str, run_id: str, task_id: str, map_index: str) -> tuple[PlanTask | None, Instance]:
    """The task, if it is one of ours, and its instance; 404 if there is none."""
    instance = find_instance(dag_id, run_id, task_id, read_map_index(map_index))
    if instance is None:
        raise HTTPException(404, "There is no such task instance.")
    task = find_task(dag_id, task_id)
    if task is None and kept(instance, STATE_KEY):
        # It was removed from the DAG, or is of a class of the user's own that is mapped.
        task = PlanTask(dag_id, task_id, "copy", (), mapped=True)
    if task is not None and task.mapped:
        plan = kept(instance, PLAN_KEY)
        task = replace(task, plans=(plan,) if plan else ())
    return task, instance
