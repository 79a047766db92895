"""A backup that leaves no other trace: WAL that swells as it does when one begins."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_backup_guard.core.activity import Activity
from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.core.rogue import RunningBackup
from airflow_backup_guard.core.signals import signal_named
from airflow_backup_guard.core.signs import UNKNOWN_PROGRAM, Certainty, Kind

# A backup begins with a checkpoint, after which every page is written whole once. Less than this is how loads vary.
_TIMES = 5.0
_SIGNALS = ("full_page_images", "transaction_wal")


def surge(activity: Activity, load: LoadSample, baseline: Mapping[str, float]) -> RunningBackup | None:
    """What might be a backup that cannot be seen otherwise: a checkpoint was asked for within the last minute, and
    full-page images and WAL per transaction are five times what they were. None if something else explains it.

    Never more than possible: a CHECKPOINT by hand, or much WAL, looks the same.
    """
    if activity.works or load.values.get("requested_checkpoints", 0.0) < 1:
        return None
    evidence = ["a checkpoint was asked for within the last minute"]
    for name in _SIGNALS:
        if name not in load.values or name not in baseline:
            return None
        signal = signal_named(name)
        usual = max(baseline[name], signal.least)
        if load.values[name] < _TIMES * usual:
            return None
        evidence.append(f"{signal.title} {signal.show(load.values[name])}, usually {signal.show(baseline[name])}")
    evidence.append("no session that the server shows explains it")
    return RunningBackup(
        id=f"{activity.at:%Y%m%dT%H%M}-surge",
        kind=Kind.SURGE,
        program=UNKNOWN_PROGRAM,
        certainty=Certainty.POSSIBLE,
        evidence=tuple(evidence),
        pids=(),
        starts=(),
        since=activity.at,
    )
