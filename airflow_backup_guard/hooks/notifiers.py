"""Tells people, through notifiers that a DAG lists and through the channels of a plan."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from copy import copy
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.core.alert_catalogue import entry_of
from airflow_backup_guard.core.alert_rules import Severity
from airflow_backup_guard.core.alerts import Condition, event
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

    from airflow_backup_guard.core import BackupPlan
    from airflow_backup_guard.repository.base import Repository

_log = logging.getLogger(__name__)


def tell(notifiers: Iterable[BaseNotifier], context: Context, **values: Any) -> None:
    """Call each with ``values`` for its templates. One that fails is logged: whoever cannot be reached must not keep
    others from hearing, or turn what is told of into something worse."""
    for notifier in notifiers:
        try:
            # Airflow puts what a template became in place of the template, and there may be more to tell.
            copy(notifier)({**context, **values})
        except Exception:
            _log.exception("%s could not tell: %s", type(notifier).__name__, next(iter(values.values()), ""))


def link_to(context: Context) -> str:
    """Where a person sees the log of this task."""
    return str(getattr(context.get("ti"), "log_url", "") or "")


def tell_channels(
    plan: BackupPlan,
    context: Context,
    key: str,
    title: str,
    measured: str,
    severity: Severity = Severity.CRITICAL,
) -> None:
    """Tell the channels of a plan's alerts of something that has happened, and wait until they are told.

    ``key`` is one of the catalogue's; ``title`` and ``measured`` say what it is. Raises nothing.
    """
    from airflow_backup_guard.engine.alerting import AlertSender

    condition = Condition(key, severity, title or entry_of(key).title, measured)
    with AlertSender(plan, _repository(plan), context, link_to(context)) as sender:
        sender.send(event(plan.name, plan.alerts, condition, datetime.now(timezone.utc)))


def _repository(plan: BackupPlan) -> Repository | None:
    """The repository, if it can be had: that it cannot may be the very thing that people must be told."""
    try:
        return BackupGuardHook(plan).repository()
    except Exception as error:
        _log.warning("What is told of %s is not kept: %s", plan.name, error)
        return None
