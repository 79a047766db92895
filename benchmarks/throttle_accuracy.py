"""Throttle accuracy: bytes read ÷ bytes allowed, over any second.

First the throttle by itself, with a reader that takes messages of 32 KiB as BASE_BACKUP sends them: at low
rates one message is a good part of what a second allows, hence the column without one message. Then whole copies
between equal floor and ceiling, as the server counts what it sends; that includes what fills its socket.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_backup_guard.core.pace import Pace
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.throttle import Throttle
from benchmarks import peers
from benchmarks.cluster import Cluster, filled_cluster
from benchmarks.job import run_job
from benchmarks.report import Rounds, Skipped, chosen, parser

RATES = ("100kB/s", "1MB/s", "10MB/s", "50MB/s", "100MB/s", "200MB/s", "500MB/s")
COPIED = ("1MB/s", "10MB/s", "50MB/s")
COLUMNS = {
    "whole time": ("mean", "{:.4f}"),
    "least second": ("least", "{:.3f}"),
    "most second": ("most", "{:.3f}"),
    "most, less one message": ("most_less_one", "{:.3f}"),
}
_MESSAGE_BYTES = 32 * 1024
_STEP_SECONDS = 0.02


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    options = parser(__doc__, seconds=10).parse_args(arguments)
    names = chosen([*RATES, *(f"copy at {rate}" for rate in COPIED)], options.variants)
    rounds = Rounds("throttle_accuracy", options)
    if not any(name.startswith("copy") for name in names):
        rounds.run(names, lambda name: _throttle(Rate.parse(name), options.seconds))
    else:
        with filled_cluster(options) as cluster:
            rounds.extra = {"major": cluster.server.major}
            rounds.run(names, lambda name: _measure(name, cluster, options))
    rounds.finish("Throttle accuracy, read ÷ allowed", COLUMNS)


def _measure(name: str, cluster: Cluster, options: argparse.Namespace) -> Mapping[str, Any]:
    rate = name.removeprefix("copy at ")
    return _throttle(Rate.parse(rate), options.seconds) if rate == name else _copy(cluster, rate, options)


def _throttle(rate: Rate, seconds: float) -> Mapping[str, Any]:
    throttle = Throttle(Pace.start(rate, rate), Stop())
    track = [(time.monotonic(), 0)]
    while track[-1][0] < track[0][0] + seconds:
        throttle.spend(_MESSAGE_BYTES)
        track.append((time.monotonic(), track[-1][1] + _MESSAGE_BYTES))
    return _accuracy(track, rate, _MESSAGE_BYTES)


def _copy(cluster: Cluster, rate: str, options: argparse.Namespace) -> Mapping[str, Any]:
    with cluster.target() as target:
        task = peers.guarded(options, baseline_seconds=0.2, max_rate=rate, min_rate=rate)(cluster, target)
        done = run_job(cluster, task, seconds=options.seconds, poll_seconds=_STEP_SECONDS)
    # The first bytes fill the buffers on the way, and are no measure of the throttle.
    begin = done.begin + min(1, options.seconds / 2)
    return _accuracy([entry for entry in done.track if entry[0] > begin], Rate.parse(rate), 0)


def _accuracy(track: Sequence[tuple[float, int]], rate: float, message: int) -> Mapping[str, Any]:
    if len(track) < 2:
        raise Skipped("too short to say; a higher --seconds or --scale?")
    seconds = [read / rate for read in _read_in_each_second(track)]
    (begin, first), (end, last) = track[0], track[-1]
    return {
        "mean": (last - first) / (end - begin) / rate,
        "least": min(seconds, default=None),
        "most": max(seconds, default=None),
        "most_less_one": max(seconds) - message / rate if seconds and message else None,
    }


def _read_in_each_second(track: Sequence[tuple[float, int]]) -> list[int]:
    """Bytes read in the second from each of many moments on; ``track`` is (time, bytes so far)."""
    found = []
    low = high = 0
    at = track[0][0]
    while at + 1 <= track[-1][0]:
        while track[low + 1][0] <= at:
            low += 1
        while high + 1 < len(track) and track[high + 1][0] <= at + 1:
            high += 1
        found.append(track[high][1] - track[low][1])
        at += _STEP_SECONDS
    return found


if __name__ == "__main__":
    main()
