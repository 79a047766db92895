"""A notifier that knows backups, and speaks through the channels of their plan."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.units import parse_duration, whole_seconds
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.notifiers import tell_channels

if TYPE_CHECKING:
    from airflow.sdk import Context

_DEADLINE = "deadline"


class BackupGuardNotifier(BaseNotifier):
    """Tells the channels of a plan that a task failed, or that there is no new verified backup.

    As ``on_failure_callback`` of tasks or a DAG, it tells of the failure. In a ``DeadlineAlert`` it looks into the
    repository first, and is silent if a verified backup is there that is not older than ``max_age``. Either way it
    raises nothing: what cannot be sent is logged, and told through the other channels.

    :param plan: the plan, or its :meth:`~airflow_backup_guard.core.BackupPlan.to_dict` where Airflow must store it
    :param max_age: how old the last verified backup may be (the plan's ``rpo``, or a day)
    """

    def __init__(
        self,
        plan: BackupPlan | Mapping[str, Any],
        max_age: str | timedelta | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(context=context)
        self.plan = plan if isinstance(plan, BackupPlan) else BackupPlan.from_dict(plan)
        given = self.plan.rpo or timedelta(days=1) if max_age is None else max_age
        self.max_age = parse_duration(given, "max_age")

    def notify(self, context: Context) -> None:
        """Send, and wait until it is sent."""
        if _DEADLINE not in context:
            tell_channels(self.plan, context, "backup.failed", "", self._failure(context))
        elif overdue := self._overdue():
            tell_channels(self.plan, context, "backup.overdue", "", overdue)

    async def async_notify(self, context: Context) -> None:
        """:meth:`notify` for the triggerer, whose loop must not wait for a mail server."""
        await asyncio.to_thread(self.notify, context)

    @staticmethod
    def _failure(context: Context) -> str:
        ti, error = context.get("ti"), context.get("exception")
        what = f"task {ti.task_id} of DAG {ti.dag_id}" if ti is not None else "a DAG run"
        return f"{what}: {error or context.get('reason') or 'no reason is known'}"

    def _overdue(self) -> str:
        """What there is in place of a new backup; empty if there is one."""
        from airflow_backup_guard.engine.recovery_point import recovery_point

        try:
            last = recovery_point(BackupGuardHook(self.plan).repository(), self.plan.name)
        except Exception as error:  # whatever keeps us from looking, nobody knows of a backup
            return f"whether there is one cannot be told: {error}"
        allowed = f"at most {whole_seconds(self.max_age)} is allowed"
        if last is None:
            return f"no backup of this plan was ever verified; {allowed}"
        age = datetime.now(timezone.utc) - last
        if age > self.max_age:
            return f"the last verified backup is of {last:%Y-%m-%d %H:%M:%S %Z}, {whole_seconds(age)} ago; {allowed}"
        self.log.info("A verified backup of %s is of %s: nobody is told", self.plan.name, last)
        return ""
