"""From what a copy sees of the database, and of itself, to conditions that people may have to know of."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from airflow_backup_guard.core.alert_catalogue import entry_of
from airflow_backup_guard.core.alert_rules import AlertRules, Severity
from airflow_backup_guard.core.alerts import Condition
from airflow_backup_guard.core.limits import LoadLimits
from airflow_backup_guard.core.load import Assessment, Finding, LoadLevel, assess
from airflow_backup_guard.core.pace import Pace, PaceState

UNKNOWN = "load.unknown"
"""The key of the one condition for all signals that cannot be measured."""

_SEVERITIES = {LoadLevel.NORMAL: None, LoadLevel.HIGH: Severity.WARNING, LoadLevel.CRITICAL: Severity.CRITICAL}


def of_load(assessment: Assessment, limits: LoadLimits, rules: AlertRules, done: str) -> Iterator[Condition]:
    """One condition for each signal that has a threshold, those that are well included, and one for all unknown ones.

    ``done`` is what the guard has done about it. ``assessment`` is against ``limits``; where the rules have thresholds
    of their own, its sample is held to those.
    """
    if rules.thresholds is not None:
        thresholds = attrs.evolve(rules.thresholds, custom=limits.custom)
        assessment = assess(assessment.sample, thresholds, assessment.baseline)
    limited = [finding for finding in assessment.findings if finding.limit is not None]
    for finding in limited:
        if finding.level is not LoadLevel.UNKNOWN:
            yield _condition(f"load.{finding.signal}", _SEVERITIES[finding.level], str(finding), done)
    unknown = [finding for finding in limited if finding.level is LoadLevel.UNKNOWN]
    yield _condition(UNKNOWN, Severity.WARNING if unknown else None, _named(unknown), done)


def of_lateness(late: str, said: str) -> Condition:
    """Whether the copy will not be done within its window; ``late`` is what the plan does then, empty if it will."""
    severity = (Severity.CRITICAL if late == "stop" else Severity.WARNING) if late else None
    return _condition("copy.late", severity, said, "")


def done_to_copy(pace: Pace) -> str:
    """What the guard has done to a copy about the load."""
    match pace.state:
        case PaceState.PAUSED:
            return f"the copy is paused, and only trickles at {pace.rate}: {pace.reason}"
        case PaceState.THROTTLED:
            return f"the copy is slowed down to {pace.rate}: {pace.reason}"
        case _:
            return f"nothing yet: the copy reads at up to {pace.rate}"


def done_to_command(pace: Pace) -> str:
    """The same for a guarded command, for which a rate stands for a share of time."""
    match pace.state:
        case PaceState.PAUSED:
            return f"the command stands still, but for moments: {pace.reason}"
        case PaceState.THROTTLED:
            return f"the command is slowed down: {pace.reason}"
        case _:
            return "nothing yet: the command runs all the time"


def _condition(key: str, severity: Severity | None, measured: str, done: str) -> Condition:
    return Condition(key, severity, entry_of(key).title, measured, done)


def _named(unknown: list[Finding]) -> str:
    said = "; ".join(str(finding) for finding in unknown[:3])
    return said if len(unknown) <= 3 else f"{said}; and {len(unknown) - 3} more"
