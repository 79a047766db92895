"""Which lines a copy's telemetry has, and the picture that is made of them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.load import Assessment, LoadLimits, LoadSample, assess
from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.core.picture import telemetry_svg
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.engine.telemetry import Telemetry

NOON = datetime(2024, 6, 1, 12, tzinfo=timezone.utc)
PACE = Pace.start(Rate(1_000_000), Rate(10_000_000))


def load(commit_latency: float = 0.002) -> Assessment:
    """What a sample means."""
    return assess(LoadSample(NOON, {"commit_latency": commit_latency}), LoadLimits())


def lines(telemetry: Telemetry) -> list[dict[str, Any]]:
    """What was not taken yet."""
    return [json.loads(line) for line in telemetry.take().splitlines()]


def test_a_line_a_second_and_no_change_is_left_out() -> None:
    """Ten samples a second make a line; one that is critical makes its own at once."""
    telemetry = Telemetry()
    for tenth in range(20):
        telemetry.add(NOON + timedelta(seconds=tenth / 10), "during", load(), PACE, tenth, 7)
    telemetry.add(NOON + timedelta(seconds=1.95), "during", load(5), PACE, 20, 7)
    found = lines(telemetry)
    assert [line["bytes_read"] for line in found] == [0, 10, 20]
    assert found[-1]["level"] == "critical"
    assert found[-1]["wal_retained"] == 7
    assert found[-1]["commit_latency"] == 5
    assert lines(telemetry) == []


def test_a_piece_is_due_after_ten_minutes() -> None:
    """Then somebody takes it, and it begins anew."""
    telemetry = Telemetry()
    for second in range(599):
        telemetry.add(NOON + timedelta(seconds=second), "during", load(), PACE, second, 0)
    assert not telemetry.is_due
    telemetry.add(NOON + timedelta(seconds=600), "during", load(), PACE, 600, 0)
    assert telemetry.is_due
    assert len(lines(telemetry)) == 600
    assert not telemetry.is_due


LINES = st.lists(
    st.fixed_dictionaries(
        {
            "step": st.floats(0, 3),
            "rate": st.integers(32_000, 2**30),
            "read": st.integers(0, 2**32),
            "state": st.sampled_from([state.value for state in PaceState]),
            "phase": st.sampled_from(["before", "during", "after"]),
            "commit_latency": st.none() | st.floats(0, 100),
        }
    ),
    min_size=2,
    max_size=900,
)


@given(LINES, st.text(st.characters(codec="utf-8", exclude_categories=["C"])))
def test_a_picture_can_be_made_of_any_copy(values: list[dict[str, Any]], title: str) -> None:
    """It is whole SVG, of bounded size, with the title as text, whatever is in that."""
    now, read, found = NOON, 0, []
    for line in values:
        now, read = now + timedelta(seconds=line["step"]), read + line["read"]
        found.append({**line, "time": now.isoformat(), "bytes_read": read})
    svg = telemetry_svg(found, title)
    root = ElementTree.fromstring(svg)  # our own
    assert len(svg) < 60_000 + 10 * len(title)
    named = root.find("{http://www.w3.org/2000/svg}title")
    assert named is not None
    assert (named.text or "") == title
