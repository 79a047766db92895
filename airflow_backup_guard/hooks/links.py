"""A button on our tasks in Airflow's UI, to the page of their plan."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import attrs
from airflow.sdk import BaseOperatorLink, conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


@attrs.define()
class PlanLink(BaseOperatorLink):
    """To the page of a task's plan, or of all plans where the task has several."""

    @property
    def name(self) -> str:
        """What is on the button."""
        return "Backups of the plan"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """An address within Airflow's UI, whatever its base URL."""
        base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
        plan = getattr(operator, "plan", None)
        named = {key: getattr(plan, key, None) for key in ("name", "repository")}
        page = f"plan?{urlencode(named)}" if all(named.values()) else "backups"
        # The UI takes what follows its own route for the address of the page in its frame, from the root of the site.
        return f"{base}/plugin/backup-guard{urlsplit(base).path}/backup-guard/{page}"
