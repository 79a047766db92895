"""Checks of what backups and guarded commands did: from their records and receipts, whatever was configured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from airflow_backup_guard.core.audit.facts import Facts, Run
from airflow_backup_guard.core.audit.values import Evidence, Judgement, fails, moment, passes, unknown
from airflow_backup_guard.core.calendar import Because
from airflow_backup_guard.core.load import LoadLevel

_BAD_LEVELS = (LoadLevel.HIGH, LoadLevel.CRITICAL, LoadLevel.UNKNOWN)
_TOLERATED_SECONDS = 5.0  # from a sample that shows a load to the pace that answers it
_TOLERATED_SHARE = 0.1
_NO_RUN = "No run of this period has a record."


def began_in_windows(runs: Sequence[Run], facts: Facts) -> Judgement:
    """Each run began inside of the plan's windows."""
    calendar = facts.plan.calendar
    if calendar.always_open:
        return fails("The plan has no off-peak windows: any hour counts as quiet.")
    if not runs:
        return unknown(_NO_RUN)
    bad, doubtful = [], []
    for run in runs:
        why = calendar.why_closed(run.started_at)
        if any(closed.because is not Because.UNKNOWN for closed in why):
            bad.append(_seen(run, f"{run.id} began at {moment(run.started_at)}: {why[0]}", run.started_at))
        elif why:
            doubtful.append(_seen(run, f"{run.id} began at {moment(run.started_at)}: {why[0]}", run.started_at))
    if bad:
        return fails(f"{len(bad)} of {len(runs)} runs began outside of {calendar} ({calendar.tz}).", *bad)
    if doubtful:
        return unknown(f"Of {len(doubtful)} of {len(runs)} runs it is not known.", *doubtful)
    return passes(f"All {len(runs)} runs began inside of {calendar} ({calendar.tz}).")


def ended_in_windows(runs: Sequence[Run], facts: Facts) -> Judgement:
    """Each run that began inside of a window ended before that did; one that began outside is told of once."""
    calendar = facts.plan.calendar
    inside = [(run, end) for run in runs if (end := calendar.window_end(run.started_at)) is not None]
    if not runs:
        return unknown(_NO_RUN)
    bad = [
        _seen(run, f"{run.id} ended at {moment(run.ended_at)}, and its window at {moment(end)}", run.ended_at)
        for run, end in inside
        if run.ended_at is not None and run.ended_at > end
    ]
    bad += [
        _seen(run, f"{run.id} has no end, and its window ended at {moment(end)}", end)
        for run, end in inside
        if run.ended_at is None and end < facts.end
    ]
    if bad:
        return fails(f"{len(bad)} of {len(inside)} runs went on after their window.", *bad)
    return passes(f"None of {len(inside)} runs that began in a window went on after it.")


def gave_way(runs: Sequence[Run], facts: Facts) -> Judgement:
    """While the load was over its limits, or unknown, each run was slowed down or paused."""
    if not runs:
        return unknown(_NO_RUN)
    bad, doubtful = [], []
    for run in runs:
        impact = run.impact
        if impact is None or not impact.seconds_at:
            doubtful.append(_seen(run, f"{run.id} has no account of the load", run.started_at))
            continue
        strained = sum(impact.seconds_at.get(level.value, 0.0) for level in _BAD_LEVELS)
        held = impact.seconds_throttled + impact.seconds_paused
        if strained - held > max(_TOLERATED_SECONDS, _TOLERATED_SHARE * strained):
            said = f"{run.id}: the load was over its limits for {strained:.0f} s, and it was held back for {held:.0f} s"
            bad.append(_seen(run, said, run.started_at))
    if bad:
        return fails(f"{len(bad)} of {len(runs)} runs went on at full speed while the load was over its limits.", *bad)
    if doubtful:
        return unknown(f"Of {len(doubtful)} of {len(runs)} runs it is not known what the load was.", *doubtful)
    return passes(f"All {len(runs)} runs were held back whenever the load was over its limits.")


def made_by_this_version(runs: Sequence[Run], facts: Facts) -> Judgement:
    """The newest run was made by the version of this package that audits."""
    if not runs:
        return unknown(_NO_RUN)
    newest = max(runs, key=lambda run: run.started_at)
    said = f"{newest.id} was written by {newest.written_by or 'an unknown version'}"
    seen = _seen(newest, said, newest.started_at)
    if not newest.written_by:
        return unknown("The newest run does not say which version made it.", seen)
    if newest.written_by.split()[-1] != facts.version:
        return fails(f"The newest run was made by another version than {facts.version}, which audits.", seen)
    return passes(f"The newest run was made by version {facts.version}, as this audit.", seen)


def _seen(run: Run, said: str, at: datetime) -> Evidence:
    return Evidence(f"{said}.", at, run.key)
