"""The retention as a task: removes the backups of a plan that need not be kept, and says why each stays or goes."""

from __future__ import annotations

from logging import INFO, WARNING
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from airflow_backup_guard.core.retention import check_abandoned_after
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import PROBLEM_KEY, told_to_airflow
from airflow_backup_guard.operators.stoppable import StoppableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan


class BackupExpireOperator(StoppableOperator):
    """Removes what the plan's ``retention`` does not keep, and what copies and expiries that died left behind.

    :param remove: False only says what would be removed
    :param abandoned_after: how long a copy must have stored nothing to be taken for dead, from ``"1h"`` up

    Needs the plan's repository, and no database. Returns the decisions as plain values; each is a line in the log.
    Fails, once all else is done, if something could not be removed. Without a retention nothing expires.
    """

    def __init__(self, *, plan: BackupPlan, remove: bool = True, abandoned_after: str = "7d", **kwargs: Any) -> None:
        super().__init__(plan=plan, **kwargs)
        self.remove = remove
        self.abandoned_after = check_abandoned_after(abandoned_after)

    def execute(self, context: Context) -> dict[str, Any]:
        """Expire."""
        from airflow_backup_guard.engine.expire import expire, propose

        repository = BackupGuardHook(self.plan).repository()
        with told_to_airflow(context):
            expiry = propose(
                repository,
                self.plan.name,
                self.plan.retention,
                self.plan.calendar.tz,
                abandoned_after=self.abandoned_after,
            )
            self._stop.check()
            if self.remove:
                expiry = expire(expiry, repository, stop=self._stop)
        for decision in expiry.decisions:
            self.log.info("%s %s", decision.backup.backup_id, decision)
        for left in expiry.left_over:
            self.log.log(INFO if left.known else WARNING, "%s %s", left.backup_id, left)
        for unreadable in expiry.unreadable:
            self.log.warning("Left alone: %s", unreadable.message)
        if expiry.failures:
            problem = "; ".join(f"{one.backup_id}: {one.message} {one.remedy}" for one in expiry.failures[:3])
            context["ti"].xcom_push(key=PROBLEM_KEY, value=problem)
            raise AirflowException(f"{len(expiry.failures)} backups could not be removed. {problem}")
        return expiry.to_dict()
