"""The page of one plan: its backups, why each is kept, what proves it, drills, rogue backups, and how to restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response

from airflow_backup_guard.core import BackupPlan, backup
from airflow_backup_guard.core.audit.html import html
from airflow_backup_guard.core.picture import telemetry_svg
from airflow_backup_guard.core.printed import style_digest
from airflow_backup_guard.engine import catalog, plan_details
from airflow_backup_guard.engine.audit import stored_audit
from airflow_backup_guard.errors import BackupGuardError, RepositoryDenied
from airflow_backup_guard.ui.access import User, readable_dags
from airflow_backup_guard.ui.live import live_copies, next_runs
from airflow_backup_guard.ui.plans import KnownPlan, find_plan
from airflow_backup_guard.ui.reading import PATIENCE, Remembered, problem_text, repository_of, within

router = APIRouter(prefix="/api")

_REMEMBER_SECONDS = 10.0
_read: Remembered[dict[str, Any]] = Remembered(_REMEMBER_SECONDS, most=200)
T = TypeVar("T")


@router.get("/plan")
def plan(user: User, name: str, repository: str) -> dict[str, Any]:
    """All that there is to see of one plan; 404 unless it is one of a DAG that the user may see."""
    known, found = _known(user, name, repository)
    document = _remembered("plan", found, lambda: plan_details.details(found, repository_of(found)).to_dict())
    live = live_copies([known]).get((known.name, known.repository), [])
    return {**document, "dag_ids": list(known.dag_ids), "live": live}


@router.get("/backup")
def one_backup(user: User, name: str, repository: str, backup_id: str) -> dict[str, Any]:
    """One backup with what proves it."""
    _, found = _known(user, name, repository)
    _check_id(backup_id)

    def read() -> dict[str, Any]:
        details, problems = plan_details.backup_details(found, repository_of(found), backup_id)
        return {**details.to_dict(), "problems": [{"message": p.message, "remedy": p.remedy} for p in problems]}

    return _remembered(backup_id, found, read)


@router.get("/picture")
def picture(user: User, name: str, repository: str, backup_id: str) -> Response:
    """What commits felt while a backup was copied, and how fast it read, as SVG."""
    _, found = _known(user, name, repository)
    _check_id(backup_id)

    def read() -> str:
        place = repository_of(found)
        lines = catalog.telemetry(place, catalog.record_of(place, found.name, backup_id))
        if len(lines) < 2:
            raise HTTPException(404, "This backup has no telemetry to make a picture of.")
        return telemetry_svg(lines, f"Backup {backup_id} of plan {found.name}")

    return Response(_told(read), media_type="image/svg+xml")


@router.get("/audit")
def audit_report(user: User, name: str, repository: str, number: Annotated[int, Query(ge=1)]) -> Response:
    """The report of an audit, made of what is stored: no HTML of the repository is served."""
    _, found = _known(user, name, repository)
    report = _told(lambda: html([stored_audit(repository_of(found), found.name, number)]))
    policy = (
        f"default-src 'none'; style-src {style_digest()}; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    return Response(report, media_type="text/html", headers={"Content-Security-Policy": policy})


@router.get("/week")
def week(user: User, name: str, repository: str) -> dict[str, Any]:
    """The week ahead of one plan, over the load that is known, and the next runs of its DAGs."""
    known, found = _known(user, name, repository)
    document = _remembered("week", found, lambda: plan_details.week_ahead(found, repository_of(found)).to_dict())
    runs = [
        {"dag_id": dag_id, "at": at and at.isoformat(), "paused": paused}
        for dag_id, at, paused in next_runs(known.dag_ids)
    ]
    return {**document, "runs": runs}


def _known(user: User, name: str, repository: str) -> tuple[KnownPlan, BackupPlan]:
    known = find_plan(readable_dags(user), name, repository)
    if known is None:
        raise HTTPException(404, "No DAG that you may see has this plan. Was it renamed or removed?")
    if known.plan is None:
        raise HTTPException(409, known.problem)
    return known, known.plan


def _check_id(backup_id: str) -> None:
    if not backup.is_backup_id(backup_id):
        raise HTTPException(404, "That is no id of a backup.")


def _remembered(what: str, of: BackupPlan, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return _told(lambda: _read.get((what, of.name, of.repository), read))


def _told(read: Callable[[], T]) -> T:
    """What ``read`` returns, in time; other errors than ours as ours, so that the page says what is wrong."""

    def guarded() -> T:
        try:
            return read()
        except (BackupGuardError, HTTPException):
            raise
        except Exception as error:
            raise RepositoryDenied(problem_text(error)) from error

    return within(PATIENCE, guarded)
