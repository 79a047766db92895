"""What the pages in Airflow's UI know of a task: the API server reads DAGs as Airflow has serialized them, never their
files."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_backup_guard.hooks.links import PlanLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context
    from jinja2 import Environment

    from airflow_backup_guard.core import BackupPlan

FIELD = "backup_guard"
"""The field of a serialized task: JSON with ``step``, and ``plans``, each as :meth:`BackupPlan.to_dict` gives it."""

PLAN_KEY = "backup_guard_plan"
"""The key in the task state store of the plan of one instance of a mapped task, as :meth:`BackupPlan.to_dict` gives
it."""

_log = logging.getLogger(__name__)


class ShownTask:
    """Beside an operator, as a base class before Airflow's own: serializes what the task does, and under which plan,
    and has a link to the plan's page.

    There are connection ids in it, and no credentials. Inside of a mapped task group the plan is known once the task
    runs: ``expand(plan=…)`` takes plans, or what a task returns, each as :meth:`BackupPlan.to_dict` gives it.
    """

    backup_step: ClassVar[str] = "other"
    operator_extra_links: Collection[BaseOperatorLink] = (PlanLink(),)
    plan: BackupPlan

    @property
    def backup_guard(self) -> str:
        """The field's value."""
        return json.dumps({"step": self.backup_step, "plans": [plan.to_dict() for plan in self.shown_plans()]})

    def shown_plans(self) -> Sequence[BackupPlan]:
        """The plans that this task is about, as far as the DAG's file tells."""
        return () if is_mapped(self.plan) else (self.plan,)

    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """What Airflow calls before the task runs: from here on a mapped plan is a plan."""
        super().render_template_fields(context, jinja_env)  # type: ignore[misc]
        plan: Any = getattr(self, "plan", None)
        if is_mapped(plan):
            from airflow_backup_guard.core import BackupPlan

            plan = plan.resolve(context)
            self.plan = BackupPlan.from_dict(plan) if isinstance(plan, dict) else plan

    def keep_plan(self, context: Context) -> None:
        """Tell which plan this instance of a mapped task has: nobody can see that from the DAG."""
        store: Any = context.get("task_state_store")
        if store is None or (getattr(context["ti"], "map_index", -1) or 0) < 0:
            return
        try:
            store.set(PLAN_KEY, self.plan.to_dict())
        except Exception as error:  # what the pages show must not keep a task from its work
            _log.warning("The plan of this task cannot be shown in Airflow: %r", error)

    @classmethod
    def get_serialized_fields(cls) -> frozenset[str]:
        """What Airflow serializes of a task, and ours."""
        fields: frozenset[str] = super().get_serialized_fields() | {FIELD}  # type: ignore[misc]
        return fields


def is_mapped(plan: Any) -> bool:
    """Whether it stands for a plan that is known only when the task runs."""
    return hasattr(plan, "resolve")


def read_shown(text: Any) -> tuple[str, list[dict[str, Any]]] | None:
    """Step and plans, as :class:`ShownTask` wrote them; None for whatever else."""
    try:
        found = json.loads(text)
        return str(found["step"]), [dict(plan) for plan in found["plans"]]
    except (KeyError, TypeError, ValueError):
        return None
