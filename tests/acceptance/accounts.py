"""People with accounts, for the tests of who may see and do what in Airflow's UI."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

from tests.acceptance.people import HIDDEN


class Accounts(SimpleAuthManager):
    """Airflow's own simple login; one of its users has no access to some DAGs."""

    def is_authorized_dag(
        self, *, user: SimpleAuthManagerUser, details: DagDetails | None = None, **arguments: Any
    ) -> bool:
        """As Airflow has it, but for that."""
        if user.username == "stranger" and details is not None and details.id in HIDDEN:
            return False
        return super().is_authorized_dag(user=user, details=details, **arguments)

    def get_authorized_dag_ids(self, *, user: SimpleAuthManagerUser, **arguments: Any) -> set[str]:
        """The same for many."""
        found = super().get_authorized_dag_ids(user=user, **arguments)
        return found - HIDDEN if user.username == "stranger" else found
