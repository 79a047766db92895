"""The brake: from the onset of critical load to the last byte that is read above the floor, and the bytes overshot.

The onset is sharp: synchronous_standby_names is set to a standby that does not exist, and from then on no commit
ends. Bytes are counted where they are read, by the server's own pg_stat_progress_basebackup, so what fills
buffers on the way counts against us.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from airflow_backup_guard.core.units import Rate
from benchmarks import peers
from benchmarks.cluster import Cluster, filled_cluster
from benchmarks.report import Rounds, Skipped, chosen, parser, quantile, say

COLUMNS = {
    "brake, s": ("brake_seconds", "{:.2f}"),
    "overshot, MB": ("overshot_mb", "{:.1f}"),
    "rate at the onset, MB/s": ("rate_mb", "{:.0f}"),
}
_POLL_SECONDS = 0.02
_WATCHED_SECONDS = 4.0
# What is read in one go when the receive window opens again is part of the trickle, not of the overshoot.
_LUMP_BYTES = 256 * 1024


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    made = parser(__doc__, seconds=40)
    made.add_argument("--max-rate", default="50MB/s", help="the copy's ceiling (50MB/s)")
    made.add_argument("--min-rate", default="1MB/s", help="its floor (1MB/s)")
    options = made.parse_args(arguments)
    rates = {"max_rate": options.max_rate, "min_rate": options.min_rate}
    variants = {
        "limits of 50 and 250 ms": peers.guarded(options, limits={"commit_latency": ["50ms", "250ms"]}, **rates),
        "no limits in the plan": peers.guarded(options, **rates),
    }
    names = chosen(list(variants), options.variants)
    rounds = Rounds("brake", options)
    with filled_cluster(options) as cluster:
        rounds.extra = {"major": cluster.server.major, "database_bytes": cluster.size()}
        rounds.run(names, lambda name: measure(cluster, variants[name], options))
    rounds.finish(f"Brake from {options.max_rate} to {options.min_rate}", COLUMNS)
    for name in rounds.measured:
        seconds = [value for value in rounds.column(name, "brake_seconds") if value is not None]
        print(f"{name}: p95 of the brake is {quantile(seconds, 0.95):.2f} s")


def measure(cluster: Cluster, peer: peers.Peer, options: argparse.Namespace) -> Mapping[str, Any]:
    """One onset in a copy of its own."""
    log = cluster.folder("job") / "err"
    with (
        cluster.target() as target,
        log.open("wb") as errors,
        psycopg.connect(cluster.dsn, autocommit=True) as connection,
    ):
        process = subprocess.Popen(
            peer(cluster, target).command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=Path(__file__).resolve().parent.parent,
            start_new_session=True,
        )
        try:
            ceiling, floor = Rate.parse(options.max_rate), Rate.parse(options.min_rate)
            rate = _run_up(connection, process, 0.8 * ceiling, options.seconds)
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'missing'")
            connection.execute("SELECT pg_reload_conf()")
            onset = time.monotonic()
            track = [(onset, _streamed(connection) or 0)]
            while time.monotonic() < onset + min(_WATCHED_SECONDS, options.seconds):
                time.sleep(_POLL_SECONDS)
                track.append((time.monotonic(), _streamed(connection) or track[-1][1]))
        finally:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    seconds, overshot = _brake(track, floor)
    return {"brake_seconds": seconds, "overshot_mb": overshot / 1e6, "rate_mb": rate / 1e6}


def _run_up(
    connection: psycopg.Connection[Any], process: subprocess.Popen[bytes], wanted: float, longest: float
) -> float:
    """Wait until the copy reads at this rate, or reads at all but not so fast; returns the rate of its last second."""
    track: list[tuple[float, int]] = []
    until = float("inf")
    rate = 0.0
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Skipped(f"the copy ended with status {process.returncode} before it was at speed; a higher --scale?")
        time.sleep(_POLL_SECONDS)
        if streamed := _streamed(connection):
            until = min(until, time.monotonic() + longest)
            track.append((time.monotonic(), streamed))
            track = [entry for entry in track if entry[0] > track[-1][0] - 1]
            seconds = track[-1][0] - track[0][0]
            rate = (track[-1][1] - track[0][1]) / seconds if seconds > 0.8 else 0.0
            if rate > wanted:
                return rate
    say(f"the copy reached {rate / 1e6:.1f} MB/s only, in {longest:g} s")
    return rate


def _streamed(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT backup_streamed FROM pg_stat_progress_basebackup").fetchone()
    return int(row[0] or 0) if row else 0


def _brake(track: Sequence[tuple[float, int]], floor: float) -> tuple[float, float]:
    """Seconds to the last read above the floor, and bytes read by then beyond what the floor allowed."""
    onset, before = track[0]
    excess = [(at - onset, streamed - before - floor * (at - onset)) for at, streamed in track]
    most = max(value for _, value in excess)
    return next(at for at, value in excess if value >= most - _LUMP_BYTES), most


if __name__ == "__main__":
    main()
