"""What people do from the pages: the orders of ``backup-guard pause``, ``resume``, ``limit`` and ``stop``."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from airflow.api_fastapi.logging.decorators import action_logging
from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, Field

from airflow_backup_guard.core.backup import FORMAT
from airflow_backup_guard.core.control import Action, Order
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.engine import control
from airflow_backup_guard.ui.access import User, may_change_task, refuse_other_sites
from airflow_backup_guard.ui.copy_view import forget_orders, subject_of
from airflow_backup_guard.ui.reading import repository_of, within
from airflow_backup_guard.ui.task import find

router = APIRouter(prefix="/api")

_EFFECTS = {
    Action.PAUSE: "It only trickles now, until it is resumed.",
    Action.RESUME: "It reads as fast as the load of the database allows.",
    Action.LIMIT: "It reads no faster than that, and slower where the load demands it.",
    Action.STOP: "It has ended, and what it stored is removed.",
}
_LONGEST_WAIT = 40.0  # a stop is waited for until what was stored is removed


class GivenOrder(BaseModel):
    """``rate`` is that of a limit, as ``"20MB/s"``; None lifts it. ``number`` is what the person has seen on the page:
    a retry of the task may be about another backup by now."""

    action: Action
    number: str
    reason: str = Field(default="", max_length=200)
    rate: str | None = Field(default=None, max_length=40)


async def refuse_other_fields(request: Request) -> None:
    """422 for a body with more than an order: Airflow's audit log would take names of another task from there."""
    with suppress(ValueError):  # what is no JSON is refused anyway
        body = await request.json()
        if isinstance(body, dict) and (others := body.keys() - GivenOrder.model_fields.keys()):
            raise HTTPException(422, f"An order has no {', '.join(sorted(others))[:100]}.")


@router.post(
    "/task/{dag_id}/{run_id}/{task_id}/order",  # the audit log takes from the path what an order was about
    dependencies=[
        may_change_task,
        Depends(refuse_other_sites),
        Depends(refuse_other_fields),
        Depends(action_logging("backup_guard_order")),
    ],
)
def give_order(
    user: User, given: GivenOrder, dag_id: str, run_id: str, task_id: str, map_index: str = "-1"
) -> dict[str, Any]:
    """Give it, wait until it is obeyed, and say so. Airflow's audit log has it, and the copy's own log who it was."""
    task, instance = find(dag_id, run_id, task_id, map_index)
    if task is None or task.step not in ("copy", "command") or not task.plans:
        raise HTTPException(409, "Orders are for copies and guarded commands, and this task is neither.")
    subject = subject_of(task, instance)
    if not instance.running or subject.plan is None or given.number != subject.number:
        raise HTTPException(409, f"Backup {given.number} does not run any more.")
    plan = subject.plan
    order = Order(
        format=FORMAT,
        action=given.action,
        by=f"{user.get_name()} in Airflow",
        reason=given.reason.strip(),
        at=datetime.now(timezone.utc),
        max_rate=f"{int(Rate.parse(given.rate, 'limit'))}B/s" if given.action is Action.LIMIT and given.rate else None,
    )

    def carry_out() -> control.Outcome:
        repository = repository_of(plan)
        return control.carry_out(repository, control.find(repository, given.number, plan.name), order)

    outcome = within(_LONGEST_WAIT, carry_out)
    forget_orders(subject)
    return {
        "order": str(order),
        "obeyed": outcome.obeyed,
        "ended": outcome.ended,
        "text": _effect(given.action, outcome),
    }


def _effect(action: Action, outcome: control.Outcome) -> str:
    if outcome.obeyed is None:
        return (
            f"No copy has answered within {control.OBEY_SECONDS:.0f} s: it has yet to begin, its worker is dead, or it "
            "cannot read the repository. The order stays, and is obeyed as soon as a copy reads it."
        )
    if not outcome.obeyed:
        return "It had ended before it read the order."
    if action is Action.STOP and not outcome.ended:
        return "It obeys, and is still removing what it stored."
    return f"Obeyed after {outcome.seconds:.1f} s. {_EFFECTS[action]}"
