"""A copy as columns over time: from telemetry, from what its task keeps, and from both."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.copy_picture import CopyPicture, Point, Stretch, of_live, of_telemetry
from airflow_backup_guard.core.gate import levels_since

START = datetime(2026, 6, 1, 2, 0, tzinfo=timezone.utc)


def line(second: float, read: int = 0, **values: Any) -> dict[str, Any]:
    """A line of telemetry."""
    plain = {"phase": "during", "state": "running", "rate": 5_000_000, "reason": "", "bytes_read": read}
    return {"time": (START + timedelta(seconds=second)).isoformat(), **plain, "commit_latency": 0.002, **values}


def at(second: float) -> float:
    """Seconds since 1970."""
    return START.timestamp() + second


def test_telemetry_becomes_points_and_pauses() -> None:
    """Rates are of the bytes between two lines, pauses have the reason that they began for, before the copy nothing is
    allowed, and a standby's reads stand in for commits."""
    picture = of_telemetry(
        [
            line(0, phase="before"),
            line(1, 4_000_000, wal_rate=1000.0),
            line(2, 5_000_000, state="paused", reason="commits are slow"),
            line(3, 5_500_000, state="paused", reason="still"),
            line(4, 6_000_000, commit_latency=None, read_latency=0.004),
            line(5, 6_000_000, state="paused", reason="again"),
        ]
    )
    assert picture.columns() == {
        "time": [at(second) for second in range(6)],
        "latency": [0.002, 0.002, 0.002, 0.002, 0.004, 0.002],
        "wal_rate": [None, 1000.0, None, None, None, None],
        "rate": [None, 4e6, 1e6, 5e5, 5e5, 0.0],
        "allowed": [0.0, 5e6, 5e6, 5e6, 5e6, 5e6],
    }
    assert picture.pauses == (Stretch(at(2), at(4), "commits are slow"), Stretch(at(5), at(5), "again"))


def test_what_a_task_keeps_goes_on_where_its_telemetry_ends() -> None:
    """No moment is twice in the picture; a pause that both know is one; one that lasts has no end."""
    stored = of_telemetry([line(0), line(1), line(2, state="paused", reason="load"), line(3, state="paused")])
    live = of_live(
        {
            "recent": [[at(second), 1.0, 2.0, 0.003, "running", 7.0] for second in (1, 3, 5, 7)],
            "pauses": [[at(2.5), at(5), "load"], [at(7), None, "paused by alice"]],
        }
    )
    both = stored.followed_by(live)
    assert [point.time for point in both.points] == [at(second) for second in (0, 1, 2, 3, 5, 7)]
    assert both.pauses == (Stretch(at(2), at(5), "load"), Stretch(at(7), None, "paused by alice"))
    assert CopyPicture().followed_by(live) == live
    newest = both.after(at(5))
    assert [point.wal_rate for point in newest.points] == [7.0]
    assert newest.pauses == both.pauses[1:]


def test_a_task_of_an_older_release_is_read_too() -> None:
    """What it keeps has no WAL rate and no pauses."""
    picture = of_live({"recent": [[at(1), 1, 2, None, "running"]]})
    assert picture.points == (Point(at(1), None, None, 1, 2),)
    assert of_live({}) == CopyPicture()


@given(st.lists(st.none() | st.floats(0, 10), min_size=1, max_size=3000))
def test_a_long_copy_is_drawn_in_few_points_and_no_spike_is_lost(latencies: list[float | None]) -> None:
    """However long it was, there are 600 points at most, all columns are of one length, and the highest latency is in
    the picture."""
    picture = CopyPicture(tuple(Point(float(n), value, None, 1.0, 1.0) for n, value in enumerate(latencies)))
    columns = picture.columns()
    assert {len(values) for values in columns.values()} == {len(columns["time"])}
    assert 1 <= len(columns["time"]) <= 600
    known = [value for value in latencies if value is not None]
    drawn = [value for value in columns["latency"] if value is not None]
    assert max(drawn, default=None) == (round(max(known), 6) if known else None)


def test_a_gate_knows_since_when_each_signal_is_where_it_is() -> None:
    """A level that stays keeps its time, one that changes has that of the look, and a signal that is gone is gone."""
    later = START + timedelta(minutes=1)
    first = levels_since({}, [{"signal": "a", "level": "normal"}, {"signal": "b", "level": "high"}], START)
    second = levels_since(first, [{"signal": "a", "level": "normal"}, {"signal": "c", "level": "high"}], later)
    third = levels_since(second, [{"signal": "a", "level": "high"}], later)
    assert second == {"a": ["normal", START.isoformat()], "c": ["high", later.isoformat()]}
    assert third == {"a": ["high", later.isoformat()]}
