"""The tab of a gate: each value against its threshold, and since when it is where it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_backup_guard.core.signals import signal_named
from airflow_backup_guard.sensors.gate import LOOK_KEY
from airflow_backup_guard.ui.instances import Instance, kept, problem, returned
from airflow_backup_guard.ui.plans import PlanTask


def view(task: PlanTask, instance: Instance) -> dict[str, Any]:
    """The document, from what the gate keeps at each look, or returned when it opened."""
    look = kept(instance, LOOK_KEY)
    seen = look.get("seen") or returned(instance)
    levels = look.get("levels", {})
    return {
        "kind": "gate",
        "plan": str(task.plans[0].get("name", "")) if task.plans else "",
        "repository": str(task.plans[0].get("repository", "")) if task.plans else "",
        "gate": seen.get("gate", ""),
        "running": instance.running,
        "over": instance.over,
        "task_state": instance.state or "not scheduled yet",
        "now": time.time(),
        "looked_at": datetime.fromisoformat(look["time"]).timestamp() if "time" in look else None,
        "opened": bool(seen.get("opened")) if seen else None,
        "text": str(seen.get("text", "")) or problem(instance),
        "rows": [_row(found, levels.get(found.get("signal"))) for found in seen.get("findings", ())],
    }


def _row(found: Mapping[str, Any], since: list[str] | None) -> dict[str, Any]:
    signal = signal_named(str(found["signal"]))

    def show(name: str) -> str:
        value = found.get(name)
        return "" if value is None else signal.show(value)

    return {
        "title": signal.title,
        "value": show("value") or "not measured",
        "max": show("max"),
        "critical": show("critical"),
        "level": str(found.get("level", "unknown")),
        "since": datetime.fromisoformat(since[1]).timestamp() if since else None,
        "text": str(found.get("text", "")),
    }
