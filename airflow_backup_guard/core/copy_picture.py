"""One copy as columns over time, for a chart: from its stored telemetry, and from what its task keeps while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_backup_guard.core.pace import PaceState

_MOST_POINTS = 600  # more than a screen has columns for


@dataclass(frozen=True)
class Point:
    """One moment, in seconds since 1970: ``latency`` in seconds, of commits, or on a standby of reads; the rest in
    bytes per second. What was not measured is None."""

    time: float
    latency: float | None
    wal_rate: float | None
    rate: float | None
    allowed: float


@dataclass(frozen=True)
class Stretch:
    """A pause, in seconds since 1970; ``until`` is None while it lasts."""

    since: float
    until: float | None
    cause: str


@dataclass(frozen=True)
class CopyPicture:
    """Points and pauses, each in order of time."""

    points: tuple[Point, ...] = ()
    pauses: tuple[Stretch, ...] = ()

    def followed_by(self, newer: CopyPicture) -> CopyPicture:
        """Both as one: of the newer one, what is after the end of this."""
        if not self.points:
            return newer
        end = self.points[-1].time
        points = tuple(point for point in newer.points if point.time > end)
        pauses = [pause for pause in newer.pauses if pause.until is None or pause.until > end]
        older = list(self.pauses)
        if older and pauses and older[-1].until == end and pauses[0].since <= end:
            # It lasted on: one pause, of which each knows an end.
            older[-1:] = [replace(older[-1], until=pauses.pop(0).until)]
        return CopyPicture((*self.points, *points), (*older, *(pause for pause in pauses if pause.since > end)))

    def after(self, time: float) -> CopyPicture:
        """The points after a moment, and the pauses that are not over then."""
        points = tuple(point for point in self.points if point.time > time)
        return CopyPicture(points, tuple(pause for pause in self.pauses if pause.until is None or pause.until > time))

    def columns(self) -> dict[str, list[float | None]]:
        """``time``, ``latency``, ``wal_rate``, ``rate`` and ``allowed``, each of one length; of a long copy, for each
        of some 600 steps the highest latency, and the means of the others."""
        steps = _steps(self.points)
        return {
            "time": [step[0].time for step in steps],
            "latency": [_of(step, "latency", max) for step in steps],
            **{name: [_of(step, name, _mean) for step in steps] for name in ("wal_rate", "rate", "allowed")},
        }


def of_telemetry(lines: Sequence[Mapping[str, Any]]) -> CopyPicture:
    """The picture of telemetry lines, the oldest first."""
    points: list[Point] = []
    pauses: list[Stretch] = []
    last_time, last_read = 0.0, 0
    began: tuple[float, str] | None = None
    for line in lines:
        time = datetime.fromisoformat(line["time"]).timestamp()
        rate = (line["bytes_read"] - last_read) / max(time - last_time, 0.001) if points else None
        last_time, last_read = time, line["bytes_read"]
        latency = line.get("read_latency")
        points.append(
            Point(
                time,
                line.get("commit_latency") if latency is None else latency,
                line.get("wal_rate"),
                rate,
                line["rate"] if line["phase"] == "during" else 0.0,
            )
        )
        paused = line["state"] == PaceState.PAUSED.value
        if paused and began is None:
            began = (time, line["reason"])
        elif not paused and began is not None:
            pauses.append(Stretch(began[0], time, began[1]))
            began = None
    if began is not None:
        pauses.append(Stretch(began[0], last_time, began[1]))
    return CopyPicture(tuple(points), tuple(pauses))


def of_live(state: Mapping[str, Any]) -> CopyPicture:
    """The picture of what a task keeps, as :class:`~airflow_backup_guard.operators.live.LiveView` writes it."""
    points = [
        Point(time, latency, rest[0] if rest else None, rate, allowed)
        for time, rate, allowed, latency, _, *rest in state.get("recent", ())
    ]
    pauses = [Stretch(since, until, cause) for since, until, cause in state.get("pauses", ())]
    return CopyPicture(tuple(points), tuple(pauses))


def _steps(points: Sequence[Point]) -> list[Sequence[Point]]:
    size = -(-len(points) // _MOST_POINTS) or 1
    return [points[start : start + size] for start in range(0, len(points), size)]


def _of(step: Sequence[Point], name: str, take: Any) -> float | None:
    values = [value for value in (getattr(point, name) for point in step) if value is not None]
    return round(take(values), 6) if values else None


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
