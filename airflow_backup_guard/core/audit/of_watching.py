"""Checks of whether people would hear: alert channels, thresholds, backups that nobody guards."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from airflow_backup_guard.core.alert_log import Delivery, delivery_key
from airflow_backup_guard.core.alerts import Transition
from airflow_backup_guard.core.audit.facts import Facts, RogueSeen
from airflow_backup_guard.core.audit.values import Evidence, Judgement, fails, moment, passes
from airflow_backup_guard.core.limits import Limit

_LATENCIES = ("commit_latency", "read_latency")
_WRITES = ("wal_rate", "tuple_rate", "commit_rate", "transaction_wal", "full_page_images", "replay_lag")


def alerts_arrive(deliveries: Sequence[Delivery], facts: Facts) -> Judgement:
    """A test message went through each channel in the period."""
    channels = [channel.name for channel in facts.plan.alerts.channels]
    if not channels:
        return fails("The plan has no alert channels: nobody is told of anything.")
    tests = [
        one for one in deliveries if one.transition == Transition.TEST.value and facts.start <= one.at <= facts.end
    ]
    last = {one.channel: one for one in sorted(tests, key=lambda one: one.at)}
    seen = [_seen(last[name], facts) for name in channels if name in last]
    silent = [name for name in channels if name not in last]
    broken = [name for name in channels if name in last and last[name].problem]
    if silent or broken:
        problems = [f"was not tried in this period: {', '.join(silent)}"] if silent else []
        problems += [f"did not work in its last test: {', '.join(broken)}"] if broken else []
        return fails(f"Of {len(channels)} channels, {'; '.join(problems)}.", *seen)
    return passes(f"A test message went through each of {len(channels)} channels.", *seen)


def thresholds_set(plan_name: str, facts: Facts) -> Judgement:
    """There are two thresholds for what the application feels, and one for how much is written."""
    limits = dict(facts.plan.alerts.thresholds or facts.plan.limits)
    latencies = [name for name in _LATENCIES if (limit := limits.get(name)) is not None and _is_critical(limit)]
    writes = [name for name in _WRITES if limits.get(name) is not None]
    missing = [] if latencies else [f"a warning and a critical threshold of {' or '.join(_LATENCIES)}"]
    missing += [] if writes else [f"a threshold of writes, such as {_WRITES[0]} or {_WRITES[1]}"]
    if missing:
        return fails(f"There is not {', nor '.join(missing)}.")
    others = sorted(name for name, limit in limits.items() if limit is not None)
    return passes(f"There are thresholds of {', '.join(others)}.")


def no_rogues(rogues: Sequence[RogueSeen], facts: Facts) -> Judgement:
    """No backup was seen in the period that is neither ours nor allowed."""
    recent = [one for one in rogues if facts.start <= one.seen_at <= facts.end]
    if recent:
        seen = [
            Evidence(f"{one.title}, seen first at {moment(one.seen_at)}.", one.seen_at, one.source) for one in recent
        ]
        return fails(f"Seen, and guarded by nobody: {len(recent)} backup{'s' * (len(recent) != 1)}.", *seen)
    return passes("None runs now, and the watchdog has stored no evidence of one in this period.")


def _is_critical(limit: Limit) -> bool:
    return limit.critical < inf or limit.critical_times is not None


def _seen(one: Delivery, facts: Facts) -> Evidence:
    became = f"did not arrive: {one.problem}" if one.problem else "arrived"
    return Evidence(f"Test through {one.channel}: it {became}.", one.at, delivery_key(facts.plan.name, one))
