"""One line a second about load, decision and rate: what happened, for whoever asks later why a copy was slow."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta
from typing import Any

from airflow_backup_guard.core.backup import StoredPart
from airflow_backup_guard.core.load import Assessment, LoadLevel
from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.engine.parts import PartStore

_SPACING = timedelta(seconds=1)
_LINES_PER_PIECE = 600


class Telemetry:
    """Collects JSON lines, to be stored in pieces of ten minutes, so that a copy of a day holds no more of them.

    A change of phase, level or state is never left out, whatever the spacing. Any thread may add; one takes.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        self._last: tuple[datetime, str, LoadLevel, PaceState] | None = None

    @property
    def is_due(self) -> bool:
        """Whether there is enough for a piece."""
        return len(self._lines) >= _LINES_PER_PIECE

    def add(
        self,
        now: datetime,
        phase: str,
        assessment: Assessment,
        pace: Pace,
        bytes_read: int,
        wal_retained: float | None,
    ) -> None:
        """Add a line unless one was added less than a second ago and nothing changed since; sizes in bytes."""
        if self._last is not None:
            then, *before = self._last
            # A clock that was set back must not silence it until it has caught up.
            if timedelta(0) <= now - then < _SPACING and before == [phase, assessment.level, pace.state]:
                return
        self._last = (now, phase, assessment.level, pace.state)
        line: dict[str, Any] = {
            "time": now.isoformat(timespec="milliseconds"),
            "phase": phase,
            "level": assessment.level.value,
            "state": pace.state.value,
            "rate": int(pace.rate),
            "reason": pace.reason,
            "bytes_read": bytes_read,
            "wal_retained": wal_retained,
            **{finding.signal: finding.value for finding in assessment.findings},
        }
        with self._lock:
            self._lines.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def take(self) -> bytes:
        """All lines that were not taken yet."""
        with self._lock:
            lines, self._lines = self._lines, []
        return b"".join(lines)

    def store(self, parts: PartStore, number: int) -> StoredPart:
        """Store them as the piece of this number; they count from 1."""
        with parts.writer("telemetry", f"{number:05}", f"telemetry/{number:05}.jsonl") as writer:
            writer.write(self.take())
            return writer.commit()
