"""What a row of the server's statistics says about each signal, and why it says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_backup_guard.core.signals import OF_PRIMARIES, SIGNALS
from airflow_backup_guard.postgres.load_statistics import TIMED, Statistics

ROW: dict[str, Any] = {
    "started": "2024-06-01 10:00",
    "track_activities": True,
    "track_counts": True,
    "track_io_timing": True,
    "may_monitor": True,
    "commits": 1000.0,
    "tuples": 5000.0,
    "blocks_read": 100.0,
    "read_seconds": 1.0,
    "databases_reset": None,
    "wal": 1e6,
    "full_page_images": 50.0,
    "wal_reset": "2024-06-01 10:00",
    "requested_checkpoints": 3.0,
    "checkpoints_reset": "2024-06-01 10:00",
    "retained_for_backup": None,
    "retained_wal": 0.0,
    "active_sessions": 2.0,
    "io_waits": 0.0,
    "lock_waits": 0.0,
    "standbys": 1,
    "silent_standbys": 0,
    "replication_lag": 4096.0,
    "standby": False,
    "replayed": False,
    "replayed_age": None,
}
PRIMARY = {"replay_lag": "the server is a primary"}
LATER = {
    **ROW,
    "commits": 1100.0,
    "tuples": 5400.0,
    "blocks_read": 150.0,
    "read_seconds": 1.1,
    "wal": 1.5e6,
    "full_page_images": 60.0,
    "requested_checkpoints": 4.0,
}
COUNTED = {"wal_rate", "tuple_rate", "commit_rate", "transaction_wal", "full_page_images", "block_read_time"}


def read(*rows: dict[str, Any], seconds: float = 1.0) -> Statistics:
    """After rows that far apart."""
    statistics = Statistics()
    for number, row in enumerate(rows):
        statistics.read(row, number * seconds)
    return statistics


def test_two_rows_tell_all() -> None:
    """Everything but latencies, which are no statistics, and what only a standby has."""
    statistics = read(ROW, LATER)
    assert statistics.unavailable == PRIMARY
    assert statistics.values == pytest.approx(
        {
            "wal_rate": 5e5,
            "tuple_rate": 400.0,
            "commit_rate": 100.0,
            "transaction_wal": 5000.0,
            "full_page_images": 10.0,
            "requested_checkpoints": 1.0,
            "replication_lag": 4096.0,
            "retained_wal": 0.0,
            "io_waits": 0.0,
            "lock_waits": 0.0,
            "block_read_time": 0.002,
            "active_sessions": 2.0,
        }
    )
    assert set(statistics.values) == set(SIGNALS) - TIMED - {"replay_lag"}


def test_one_row_tells_what_is_now() -> None:
    """Rates need two."""
    statistics = read(ROW)
    counted = dict.fromkeys(COUNTED | {"requested_checkpoints"}, "a rate needs two samples")
    assert statistics.unavailable == {**counted, **PRIMARY}


def test_every_signal_is_known_or_has_a_reason() -> None:
    """Columns that are NULL, for whatever reason, are no zeros."""
    empty = {name: None if isinstance(value, float) else value for name, value in ROW.items()}
    statistics = read(empty, empty)
    assert statistics.values == {}
    assert statistics.unavailable == {**dict.fromkeys(set(SIGNALS) - TIMED, "PostgreSQL shows NULL"), **PRIMARY}


@pytest.mark.parametrize(
    ("change", "names", "reason"),
    [
        (
            {"may_monitor": False},
            {"replication_lag", "io_waits", "lock_waits", "active_sessions"},
            "needs pg_monitor",
        ),
        ({"track_activities": False}, {"io_waits", "lock_waits", "active_sessions"}, "track_activities is off"),
        ({"track_counts": False}, {"tuple_rate", "commit_rate", "transaction_wal"}, "track_counts is off"),
        ({"track_io_timing": False}, {"block_read_time"}, "track_io_timing is off"),
        ({"standbys": 0, "replication_lag": None}, {"replication_lag"}, "no standby"),
        ({"standbys": 2, "silent_standbys": 1}, {"replication_lag"}, "a standby reports no position"),
        ({"commits": 1000.0}, {"transaction_wal"}, "no transaction was committed"),
        ({"databases_reset": "now"}, COUNTED - {"wal_rate", "full_page_images"}, "the statistics were reset"),
        ({"commits": 5.0}, {"commit_rate", "transaction_wal"}, "the statistics were reset"),
        ({"wal_reset": "now"}, {"full_page_images"}, "the statistics were reset"),
        ({"checkpoints_reset": "now"}, {"requested_checkpoints"}, "the statistics were reset"),
        (
            {"started": "now"},
            COUNTED | {"requested_checkpoints"},
            "the server was restarted, or another one answers",
        ),
        ({"blocks_read": 100.0, "io_waits": 3.0}, {"block_read_time"}, "no read of a block has ended"),
    ],
    # A set's own order differs from process to process.
    ids=lambda value: ",".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_what_is_missing_has_its_reason(change: dict[str, Any], names: set[str], reason: str) -> None:
    """And nothing else is missing."""
    assert read(ROW, {**LATER, **change}).unavailable == {**dict.fromkeys(names, reason), **PRIMARY}


def test_where_nothing_is_read_and_nobody_waits_reading_harms_nobody() -> None:
    """A database that fits into memory is not unknown for ever."""
    assert read(ROW, {**LATER, "blocks_read": 100.0}).values["block_read_time"] == 0.0


def test_requested_checkpoints_are_those_of_the_last_minute() -> None:
    """Fewer than a minute of rows do not make one checkpoint into sixty; older ones are forgotten."""
    assert read(ROW, LATER).values["requested_checkpoints"] == 1.0
    assert read(ROW, LATER, *[LATER] * 70).values["requested_checkpoints"] == 0.0
    assert read(ROW, LATER, seconds=120).values["requested_checkpoints"] == 0.5


def test_the_rates_of_databases_are_smoothed() -> None:
    """Sessions report once a second: what one second shows of a single session is chance."""
    rows = [{**ROW, "wal": 1e6 * n, "commits": 100.0 * (n // 3)} for n in range(7)]
    assert read(*rows).values["commit_rate"] == pytest.approx(100 / 3)
    rows[-1]["wal"] = 9e6
    assert read(*rows).values["wal_rate"] == pytest.approx(4e6)


def test_a_failure_takes_back_what_was_known() -> None:
    """What was true a second ago is no value for now."""
    statistics = read(ROW, LATER)
    statistics.fail("the statement timed out")
    assert statistics.values == {}
    assert statistics.unavailable == dict.fromkeys(set(SIGNALS) - TIMED, "the statement timed out")


# A standby

STANDBY = {"standby": True, "replayed": True, "replayed_age": 7200.0}


def test_a_standby_writes_nothing_of_its_own() -> None:
    """What only a primary has is missing for that reason, however its counters stand; WAL is what it replays."""
    statistics = read({**ROW, **STANDBY}, {**LATER, **STANDBY})
    assert statistics.unavailable == dict.fromkeys(OF_PRIMARIES - TIMED, "the server is a standby")
    assert statistics.values["wal_rate"] == 5e5
    assert statistics.values["commit_rate"] == 100.0


@pytest.mark.parametrize(
    ("rows", "lag"),
    [
        ([{"replayed": True}], 0.0),
        ([{"replayed": True, "replayed_age": None}], 0.0),
        ([{"replayed": False, "replayed_age": 40.0}], 40.0),
        ([{"replayed": False, "replayed_age": -2.0}], None),
        ([{"replayed": True}, {"replayed": False, "replayed_age": -2.0}], 1.0),
        ([{"replayed": True}, {"replayed": False, "replayed_age": 40.0, "started": "now"}], 40.0),
        ([{"replayed": True}, {"replayed": False}], 1.0),
        ([{"replayed": True}, *[{"replayed": False, "replayed_age": 1.5}] * 3], 1.5),
        ([{"replayed": True}, *[{"replayed": False, "replayed_age": None}] * 3], 3.0),
        ([{"replayed": False, "replayed_age": None}], None),
    ],
    ids=str,
)
def test_replay_lags_by_what_waits_for_it(rows: list[dict[str, Any]], lag: float | None) -> None:
    """Nothing waits: no lag, however long ago the last transaction was. What waits has come since nothing did."""
    statistics = read(*({**ROW, **STANDBY, **row} for row in rows))
    assert statistics.values.get("replay_lag") == lag
    if lag is None:
        assert "not replayed any transaction yet" in statistics.unavailable["replay_lag"]


def test_a_promotion_is_seen() -> None:
    """The next row is one of a primary, whose counters go on."""
    statistics = read({**ROW, **STANDBY}, LATER)
    assert statistics.unavailable == PRIMARY
    assert statistics.values["tuple_rate"] == 400.0
