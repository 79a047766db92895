"""The page of all plans: how each stands, in pieces, from what is remembered."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.fleet import PlanStatus
from airflow_backup_guard.engine import fleet
from airflow_backup_guard.engine.fleet_cache import FRESH_SECONDS, FleetCache, Seen
from airflow_backup_guard.errors import BackupGuardError, RepositoryDenied
from airflow_backup_guard.ui.access import User, readable_dags
from airflow_backup_guard.ui.live import live_copies
from airflow_backup_guard.ui.plans import KnownPlan, known_plans
from airflow_backup_guard.ui.reading import problem_text, repository_of

router = APIRouter(prefix="/api")

_WAIT_SECONDS = 1.5  # what is not known by then is asked for again by the page
_MOST = 100


def _look(plan: BackupPlan) -> PlanStatus:
    try:
        return fleet.status(plan, repository_of(plan))
    except BackupGuardError:
        raise
    except Exception as error:  # a connection that is missing here, or a library's own error
        raise RepositoryDenied(problem_text(error)) from error


cache = FleetCache(_look)
"""Of this process."""


@router.get("/plans")
def plans(
    user: User, offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=_MOST)] = 50
) -> dict[str, Any]:
    """Some of the plans of the DAGs that the user may see, by name, and how many there are.

    ``status`` is None while it is first asked for, and stays so where the plan cannot be read: ``problem`` says why.
    """
    everything = known_plans(readable_dags(user))
    shown = everything[offset : offset + limit]
    statuses = cache.statuses([known.plan for known in shown if known.plan is not None], _WAIT_SECONDS)
    seen = {(one.plan_name, one.repository): one for one in statuses}
    live = live_copies(shown)
    return {
        "total": len(everything),
        "offset": offset,
        "fresh_seconds": FRESH_SECONDS,
        "plans": [
            _row(known, seen.get((known.name, known.repository)), live.get((known.name, known.repository), []))
            for known in shown
        ],
    }


def _row(known: KnownPlan, seen: Seen | None, live: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": known.name,
        "repository": known.repository,
        "dag_ids": list(known.dag_ids),
        "problem": known.problem,
        "status": seen and seen.status and seen.status.to_dict(),
        "age_seconds": seen and seen.age_seconds,
        "live": live,
    }
