"""From a row of the server's statistics to signals, and the reason for each that cannot be known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_backup_guard.core.counters import RESTARTED, CounterHistory
from airflow_backup_guard.core.signals import OF_PRIMARIES, SIGNALS

TIMED = frozenset({"commit_latency", "read_latency"})
"""The signals that are no statistics: the probe times them."""

# About a second: rows of statistics are fetched that far apart, give or take how late a sampler wakes up.
_SECOND = 0.9
# Sessions add to the counters of databases once a second, each at its own moment: over one second, few sessions look
# like none, or like twice as many.
_SMOOTH = 2.9
_MINUTE = 60.0

# Each counter of the row, and the column that tells when it was reset last.
_COUNTERS = {
    "wal": None,
    "full_page_images": "wal_reset",
    "commits": "databases_reset",
    "tuples": "databases_reset",
    "blocks_read": "databases_reset",
    "read_seconds": "databases_reset",
    "requested_checkpoints": "checkpoints_reset",
}
_RATES = {
    "wal_rate": ("wal", _SECOND),
    "full_page_images": ("full_page_images", _SECOND),
    "tuple_rate": ("tuples", _SMOOTH),
    "commit_rate": ("commits", _SMOOTH),
}
_NULL = "PostgreSQL shows NULL"
_NEEDS_MONITOR = "needs pg_monitor"


class Statistics:
    """Turns rows of :func:`~airflow_backup_guard.postgres.load_sql.statistics` into signals; remembers a minute."""

    def __init__(self) -> None:
        self._history = CounterHistory(_MINUTE)
        self._started: str | None = None
        self._replayed_at: float | None = None
        self.values: dict[str, float] = {}
        self.unavailable: dict[str, str] = {}
        self.retained_for_backup: float | None = None
        """Bytes of WAL that the server keeps for nothing but a guarded copy; None while that is not known."""

    def read(self, row: Mapping[str, Any], now: float) -> None:
        """Set ``values`` and ``unavailable`` by one more row; ``now`` in seconds of any monotonic clock."""
        self.values, self.unavailable = {}, {}
        self.retained_for_backup = row["retained_for_backup"]
        self._count(row, now)
        for name, (counter, seconds) in _RATES.items():
            grown = self._grown(name, counter, seconds)
            if grown is not None:
                self.values[name] = grown[0] / grown[1]
        self._ratios(row)
        self._now(row)
        if not row["track_counts"]:
            for name in ("tuple_rate", "commit_rate", "transaction_wal"):
                self._lacks(name, "track_counts is off")
        if row["standby"]:
            for name in OF_PRIMARIES - TIMED:
                self._lacks(name, "the server is a standby")
        self._replay(row, now)

    def _count(self, row: Mapping[str, Any], now: float) -> None:
        if self._started not in (None, row["started"]):
            self._history.forget_all(RESTARTED)
            self._replayed_at = None
        self._started = row["started"]
        for counter, epoch in _COUNTERS.items():
            if row[counter] is None:
                self._history.forget(counter, _NULL)
            else:
                self._history.add(counter, now, row[counter], epoch and row[epoch])

    def _grown(self, name: str, counter: str, seconds: float) -> tuple[float, float] | None:
        grown = self._history.growth(counter, seconds)
        if grown is None:
            self._lacks(name, self._history.reason(counter))
        return grown

    def _ratios(self, row: Mapping[str, Any]) -> None:
        checkpoints = self._grown("requested_checkpoints", "requested_checkpoints", _MINUTE)
        if checkpoints is not None:
            # In the first minute this is how many there were until now: nobody can tell how it would go on.
            self.values["requested_checkpoints"] = checkpoints[0] * min(1.0, _MINUTE / checkpoints[1])
        wal = self._grown("transaction_wal", "wal", _SMOOTH)
        commits = self._grown("transaction_wal", "commits", _SMOOTH)
        if wal is not None and commits is not None:
            if commits[0]:
                self.values["transaction_wal"] = wal[0] / commits[0]
            else:
                self._lacks("transaction_wal", "no transaction was committed")
        if not row["track_io_timing"]:
            self._lacks("block_read_time", "track_io_timing is off")
            return
        blocks = self._grown("block_read_time", "blocks_read", _SMOOTH)
        seconds = self._grown("block_read_time", "read_seconds", _SMOOTH)
        if blocks is None or seconds is None:
            return
        if blocks[0]:
            self.values["block_read_time"] = seconds[0] / blocks[0]
        elif row["may_monitor"] and not row["io_waits"]:
            self.values["block_read_time"] = 0.0
        else:
            # A disk that stalls lets nobody end a read, and would look like one that nobody uses.
            self._lacks("block_read_time", "no read of a block has ended")

    def _now(self, row: Mapping[str, Any]) -> None:
        for name in ("retained_wal", "replication_lag", "io_waits", "lock_waits", "active_sessions"):
            if row[name] is None:
                self._lacks(name, _NULL)
            else:
                self.values[name] = row[name]
        if not row["standbys"]:
            self._lacks("replication_lag", "no standby")
        elif row["silent_standbys"]:
            self._lacks("replication_lag", "a standby reports no position")
        for name in ("io_waits", "lock_waits", "active_sessions"):
            if not row["track_activities"]:
                self._lacks(name, "track_activities is off")
        if not row["may_monitor"]:
            for name in ("replication_lag", "io_waits", "lock_waits", "active_sessions"):
                self._lacks(name, _NEEDS_MONITOR)

    def _replay(self, row: Mapping[str, Any], now: float) -> None:
        if not row["standby"]:
            self._lacks("replay_lag", "the server is a primary")
            return
        if row["replayed"]:
            self._replayed_at = now
        # The last transaction may be hours old where little is written, and the WAL that waits for its replay be new:
        # it has come since all was replayed.
        bounds = [row["replayed_age"], None if self._replayed_at is None else now - self._replayed_at]
        # A transaction that is yet to come was committed by a clock that is ahead, and tells nothing.
        known = [bound for bound in bounds if bound is not None and bound >= 0]
        if known:
            self.values["replay_lag"] = min(known)
        else:
            self._lacks("replay_lag", "it has not replayed any transaction yet, or its primary's clock is ahead")

    def _lacks(self, name: str, reason: str) -> None:
        self.values.pop(name, None)
        self.unavailable[name] = reason

    def fail(self, reason: str) -> None:
        """Nothing is known now, for this reason."""
        self.retained_for_backup = None
        self.values, self.unavailable = {}, {name: reason for name in SIGNALS if name not in TIMED}
