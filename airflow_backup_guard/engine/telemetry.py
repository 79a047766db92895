"""One line a second about load, decision and rate: what happened, for whoever asks later why a copy was slow."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta
from typing import Any

from airflow_backup_guard.core.load import Assessment, LoadLevel
from airflow_backup_guard.core.pace import Pace, PaceState

_SPACING = timedelta(seconds=1)


class Telemetry:
    """Collects JSON lines; a change of level or state is never left out, whatever the spacing."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        self._last: tuple[datetime, LoadLevel, PaceState] | None = None

    def add(self, now: datetime, phase: str, assessment: Assessment, pace: Pace, bytes_read: int) -> None:
        """Add a line unless one was added less than a second ago and nothing changed since."""
        if self._last is not None:
            then, level, state = self._last
            if now - then < _SPACING and (level, state) == (assessment.level, pace.state):
                return
        self._last = (now, assessment.level, pace.state)
        line: dict[str, Any] = {
            "time": now.isoformat(timespec="milliseconds"),
            "phase": phase,
            "level": assessment.level.value,
            "state": pace.state.value,
            "rate": int(pace.rate),
            "reason": pace.reason,
            "bytes_read": bytes_read,
            **{finding.signal: finding.value for finding in assessment.findings},
        }
        with self._lock:
            self._lines.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def content(self) -> bytes:
        """All lines so far."""
        with self._lock:
            return b"".join(self._lines)
