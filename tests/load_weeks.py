"""Months of recorded load that never were: what a recorder would have stored of a database with known habits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from airflow_backup_guard.core.load_history import Counters, LoadEntry

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
"""A Monday."""


@dataclass(frozen=True)
class Activity:
    """What a database does: bytes of WAL and commits per second, and how long a commit takes, in seconds."""

    wal: float = 0.2e6
    commits: float = 30.0
    latency: float = 0.001


REST = Activity()
DAY = Activity(8e6, 800.0, 0.003)
BATCH = Activity(38e6, 50.0, 0.002)
Habits = Callable[[datetime], Activity]


def shop(local: datetime) -> Activity:
    """A shop: busy from 8 to 23, a batch at midnight, quiet from 1 to 8, every day."""
    if local.hour == 0:
        return BATCH
    return DAY if 8 <= local.hour < 23 else REST


def shop_whose_batch_moved(local: datetime) -> Activity:
    """The same, and in the last three weeks another batch, on Tuesdays from 2 to 3."""
    moved = local.astimezone(timezone.utc) > NOW - timedelta(weeks=3)
    return BATCH if moved and local.weekday() == 1 and local.hour == 2 else shop(local)


def record_weeks(
    weeks: float,
    habits: Habits = shop,
    *,
    tz: str = "America/Los_Angeles",
    until: datetime = NOW,
    every: timedelta = timedelta(minutes=5),
    unknown: Callable[[datetime], bool] = lambda local: False,
    backup: Callable[[datetime], bool] = lambda local: False,
) -> list[LoadEntry]:
    """Entries up to ``until``, by the wall clock of ``tz``; the counters go on between them."""
    zone = ZoneInfo(tz)
    entries = []
    wal, commits = 1e9, 1e6
    at = until - timedelta(weeks=weeks)
    while at <= until:
        local = at.astimezone(zone)
        before = habits((at - every / 2).astimezone(zone))
        wal += before.wal * every.total_seconds()
        commits += before.commits * every.total_seconds()
        if unknown(local):
            entries.append(LoadEntry(at, {}, {"wal_rate": "gone", "commit_latency": "gone"}))
        else:
            now = habits(local)
            values = {"wal_rate": now.wal, "commit_rate": now.commits, "commit_latency": now.latency}
            entries.append(LoadEntry(at, values, {}, Counters("one", round(wal), round(commits)), backup(local)))
        at += every
    return entries
