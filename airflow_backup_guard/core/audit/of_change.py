"""Checks of whether what is promised is still what was promised: drift of the plan, and of the DAG that uses it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_backup_guard.core.audit.document import PlanAudit
from airflow_backup_guard.core.audit.facts import Facts, Run
from airflow_backup_guard.core.audit.values import Evidence, Judgement, fails, moment, passes, unknown
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.errors import InvalidPlan

_COMMAND_LINE = "command-line"  # what the command line calls the database that it is given
_CONNECTIONS = ("connection", "load_connection")


def plan_digest(plan: Mapping[str, Any]) -> str:
    """SHA-256 of a plan's fields, the same in whatever order they are."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def runs_use_plan(runs: Sequence[Run], facts: Facts) -> Judgement:
    """The newest run was made under the plan that is audited, so that its DAG has not gone another way."""
    if not runs:
        return unknown("No run of this period has a record.")
    newest = max(runs, key=lambda run: run.started_at)
    differing = differences(newest.plan, facts.plan.to_dict())
    if differing is None:
        return unknown(f"The plan of {newest.id} cannot be read by this release.")
    if differing:
        seen = Evidence(f"{newest.id} ran under another {', '.join(differing)}.", newest.started_at, newest.key)
        return fails("The newest run was made under another plan than the one that is audited.", seen)
    return passes(f"{newest.id} was made under this plan.")


def plan_unchanged(before: PlanAudit, facts: Facts) -> Judgement:
    """The plan is the one of the last audit, or somebody has looked at what is new in it."""
    now = facts.plan.to_dict()
    differing = differences(before.plan, now)
    if differing is None:
        return unknown("The plan of the last audit cannot be read by this release.")
    if differing:
        said = f"Since the audit of {moment(before.at)} the plan has another {', '.join(differing)}"
        return fails(f"{said} (SHA-256 {plan_digest(before.plan)[:12]}, now {plan_digest(now)[:12]}).")
    return passes(f"It is as it was on {moment(before.at)}, SHA-256 {plan_digest(now)[:12]}.")


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str] | None:
    """The fields that differ between two plans; None if one cannot be read. What an older release did not write has its
    default, and the name of a connection means nothing where the command line was given the database itself."""
    try:
        first, second = (BackupPlan.from_dict(plan).to_dict() for plan in (one, other))
    except (InvalidPlan, TypeError):
        return None
    if _COMMAND_LINE in (first["connection"], second["connection"]):
        for name in _CONNECTIONS:
            first[name] = second[name]
    return [name for name in second if first[name] != second[name]]
