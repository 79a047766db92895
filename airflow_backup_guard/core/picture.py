"""A picture of one copy, from its telemetry: what commits, or reads of a standby, felt, above how fast it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, floor, log10
from typing import Any

from airflow_backup_guard.core.svg import svg

_WIDTH, _LEFT, _RIGHT = 860, 64, 16
_TOP, _PANEL, _GAP = 48, 150, 40
_HEIGHT = _TOP + 2 * _PANEL + _GAP + 44
_COLUMNS = 400  # a line for each second of a night would be megabytes, and look the same
_STYLE = (
    ".grid{stroke:#ddd}.latency{fill:none;stroke:#b3261e;stroke-width:1.4}"
    ".rate{fill:#2563eb;fill-opacity:.25;stroke:#2563eb;stroke-width:1.2}"
    ".allowed{fill:none;stroke:#333;stroke-width:1;stroke-dasharray:4 3}.paused{fill:#b3261e;fill-opacity:.12}"
)


@dataclass(frozen=True)
class _Point:
    """Means over one stretch of time: seconds since the first line, seconds of latency, bytes per second."""

    at: float
    latency: float | None
    rate: float
    allowed: float
    paused: bool


def telemetry_svg(lines: Sequence[Mapping[str, Any]], title: str) -> str:
    """SVG of a copy's telemetry, oldest line first; at least two lines."""
    of_standby = any(line.get("read_latency") is not None for line in lines)
    points = _points(lines, "read_latency" if of_standby else "commit_latency")
    span = max(points[-1].at, 1.0)
    latencies = [1000 * point.latency for point in points if point.latency is not None]
    # One commit that hung for seconds would flatten all the others.
    top_latency = _round_up(max(sorted(latencies)[ceil(0.98 * len(latencies)) - 1] * 1.2, 1.0)) if latencies else 1.0
    # What was read is rounded to whole messages, and a hair above a round rate is not to double the height.
    top_rate = _round_up(max(max(point.rate * 0.98, point.allowed) for point in points) / 1e6)

    def x(at: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * at / span, 1)

    upper, lower = _TOP, _TOP + _PANEL + _GAP
    latency_y, rate_y = _scale(upper, top_latency), _scale(lower, top_rate)
    parts: list[str] = []
    for start, end in _pauses(points):
        width = max(x(end) - x(start), 1.0)
        parts.append(
            f'<rect class="paused" x="{x(start)}" y="{upper}" width="{width:.1f}" height="{lower + _PANEL - upper}"/>'
        )
    parts += _axis(upper, top_latency, f"{'read' if of_standby else 'commit'} latency, ms")
    parts += _axis(lower, top_rate, "MB/s: read (blue), allowed (dashed); paused (red ground)")
    parts += _times(span, x, lower + _PANEL)
    measured = [(x(point.at), latency_y(1000 * point.latency)) for point in points if point.latency is not None]
    parts.append(f'<polyline class="latency" points="{_path(measured)}"/>')
    read = [(x(point.at), rate_y(point.rate / 1e6)) for point in points]
    ground = [(read[-1][0], rate_y(0)), (read[0][0], rate_y(0))]
    parts.append(f'<polygon class="rate" points="{_path([*read, *ground])}"/>')
    allowed = [(x(point.at), rate_y(point.allowed / 1e6)) for point in points]
    parts.append(f'<polyline class="allowed" points="{_path(allowed)}"/>')
    return svg(title, _WIDTH, _HEIGHT, _LEFT, _STYLE, parts)


def _points(lines: Sequence[Mapping[str, Any]], latency: str) -> list[_Point]:
    times = [datetime.fromisoformat(line["time"]).timestamp() for line in lines]
    every = max((times[-1] - times[0]) / _COLUMNS, 1.0)
    points = []
    start = 0
    for index in range(1, len(lines)):
        if times[index] - times[start] < every and index < len(lines) - 1:
            continue
        some = lines[start:index]
        seconds = max(times[index] - times[start], 0.001)
        latencies = [line[latency] for line in some if line.get(latency) is not None]
        points.append(
            _Point(
                at=times[start] - times[0],
                latency=sum(latencies) / len(latencies) if latencies else None,
                rate=(lines[index]["bytes_read"] - lines[start]["bytes_read"]) / seconds,
                allowed=sum(line["rate"] for line in some) / len(some) if some[0]["phase"] == "during" else 0.0,
                paused=any(line["state"] == "paused" for line in some),
            )
        )
        start = index
    return points


def _pauses(points: Sequence[_Point]) -> Iterable[tuple[float, float]]:
    since: float | None = None
    for point in points:
        if point.paused and since is None:
            since = point.at
        if not point.paused and since is not None:
            yield since, point.at
            since = None
    if since is not None:
        yield since, points[-1].at


def _scale(top: float, highest: float) -> Callable[[float], float]:
    return lambda value: round(top + _PANEL - _PANEL * min(value / highest, 1.0), 1)


def _axis(top: float, highest: float, title: str) -> list[str]:
    parts = [f'<text x="{_LEFT}" y="{top - 8}">{title}</text>']
    for quarter in range(5):
        y = top + _PANEL - _PANEL * quarter / 4
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{highest * quarter / 4:.3g}</text>')
    return parts


def _times(span: float, x: Callable[[float], float], bottom: float) -> list[str]:
    unit, name = (1.0, "s") if span < 240 else (60.0, "min") if span < 14400 else (3600.0, "h")
    step = _round_up(span / unit / 8)
    ticks = [step * number for number in range(floor(span / unit / step) + 1)]
    return [
        f'<text x="{x(tick * unit)}" y="{bottom + 20}" text-anchor="middle">{tick:g} {name}</text>' for tick in ticks
    ]


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _round_up(value: float) -> float:
    power = 10.0 ** floor(log10(max(value, 1e-9)))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * (1 - 1e-9))
