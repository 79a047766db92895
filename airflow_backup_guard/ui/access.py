"""Who may see and do what: Airflow's own answers, about DAGs."""

from __future__ import annotations

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request

User = GetUserDep
"""The type of a route's parameter for who asks; 401 where nobody is logged in."""

may_read_task = Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))
"""For routes with a query parameter ``dag_id``: 403 unless the user may see the task instances of that DAG."""

may_change_task = Depends(requires_access_dag("PUT", DagAccessEntity.TASK_INSTANCE))
"""The same for those who may change them, as to mark one as failed."""


def readable_dags(user: BaseUser) -> set[str]:
    """Ids of the DAGs that a user may see."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def may_change(user: BaseUser, dag_id: str) -> bool:
    """What :data:`may_change_task` asks."""
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    manager = get_auth_manager()
    return manager.is_authorized_dag(
        method="PUT", access_entity=DagAccessEntity.TASK_INSTANCE, details=details, user=user
    )


def refuse_other_sites(request: Request) -> None:
    """403 for what a page of another site sends in the name of whoever is logged in here."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403, "This is only for the pages of this site.")
