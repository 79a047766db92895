"""What became of each message: whom it was for, and whether it arrived. Audits ask for it.

Key below a repository's root: ``alerts/<plan>/<time>-<channel>.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_backup_guard.core.alert_text import title
from airflow_backup_guard.core.alerts import Alert
from airflow_backup_guard.core.backup import FORMAT


@dataclass(frozen=True)
class Delivery:
    """One message through one channel; ``problem`` is why it did not arrive, empty if it did."""

    format: int
    plan_name: str
    key: str
    title: str
    severity: str
    transition: str
    channel: str
    at: datetime
    tries: int
    problem: str = ""

    @classmethod
    def of(cls, alert: Alert, channel: str, at: datetime, tries: int, problem: str) -> Delivery:
        """What became of ``alert``."""
        return cls(
            FORMAT,
            alert.plan_name,
            alert.condition.key,
            title(alert),
            alert.severity.value,
            alert.transition.value,
            channel,
            at,
            tries,
            problem,
        )


def deliveries_prefix(plan: str) -> str:
    """Where those of one plan lie."""
    return f"alerts/{plan}/"


def delivery_key(plan: str, delivery: Delivery) -> str:
    """Where one lies; they sort by time. A channel sends one after the other, so that no two share a key."""
    return f"{deliveries_prefix(plan)}{delivery.at.astimezone(timezone.utc):%Y%m%dT%H%M%S.%fZ}-{delivery.channel}.json"
