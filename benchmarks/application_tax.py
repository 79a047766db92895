"""Application tax: how much slower transactions are during a backup than just before it.

Each variant has a time of its own without a backup before it (--quiet), under the same load. The variant
"no backup" measures nothing but noise: a tax within its spread is no tax. Latency counts from when a
transaction was due, so a transaction that waits behind others is slow, too.

The database and its clients have one half of the processors, and tools that stream the other one, as on a machine of
their own. pgBackRest reads the files, and so runs beside the database.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from benchmarks import peers
from benchmarks.cluster import Cluster, Load, capacity, filled_cluster, settle
from benchmarks.job import failure_skips, run_job
from benchmarks.report import Rounds, chosen, parser, quantile, say

NOTHING = "no backup"
# The queue that a fast checkpoint leaves is no part of what is compared.
_AFTERMATH_SECONDS = 2.0
COLUMNS = {
    "p99 ÷ without": ("p99_tax", "{:.2f}"),
    "p95 ÷ without": ("p95_tax", "{:.2f}"),
    "p99 during, ms": ("p99_ms", "{:.1f}"),
    "copy, s": ("whole_seconds", "{:.0f}"),
    "share read": ("share", "{:.0%}"),
    "cores that the tool used": ("cores", "{:.2f}"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    made = parser(__doc__, seconds=30)
    made.add_argument("--load", type=float, default=60, help="per cent of the time that the database is busy (60)")
    made.add_argument("--tps", type=float, help="at 100 per cent, from an earlier run; by default it is measured")
    made.add_argument("--together", action="store_true", help="all tools share the database's processors")
    made.add_argument("--quiet", type=float, default=15, help="seconds without a backup before each (15)")
    made.add_argument("--max-rate", default="20M", help="of the static variant, as pg_basebackup has it (20M)")
    options = made.parse_args(arguments)
    variants: dict[str, peers.Peer | None] = {
        NOTHING: None,
        "guarded": peers.guarded(options),
        f"pg_basebackup {options.max_rate}B/s": peers.pg_basebackup(max_rate=options.max_rate),
        **peers.full_speed(options),
    }
    names = chosen(list(variants), options.variants)
    rounds = Rounds("application_tax", options)
    with filled_cluster(options, apart=not options.together) as cluster:
        tps = options.tps or capacity(cluster, min(10, options.seconds))
        rounds.extra = {"major": cluster.server.major, "database_bytes": cluster.size(), "capacity_tps": tps}
        say(f"capacity: {tps:.0f} transactions/s (--tps {tps:.0f} next time); load: {tps * options.load / 100:.0f}/s")
        rounds.run(names, lambda name: measure(cluster, variants[name], tps * options.load / 100, options))
    rounds.finish(f"Application tax at {options.load:g} % load", COLUMNS)


def measure(cluster: Cluster, peer: peers.Peer | None, tps: float, options: argparse.Namespace) -> Mapping[str, Any]:
    """One variant, once."""
    aftermath = min(_AFTERMATH_SECONDS, options.quiet / 2)
    with cluster.target() as target, failure_skips():
        task = peer(cluster, target) if peer else None
        with Load(cluster, tps) as load:
            # Cold caches make a queue at first; it is to be gone.
            settle(min(4, options.seconds))
            cluster.server.sql("CHECKPOINT")
            quiet_from = time.time() + aftermath
            settle(aftermath + options.quiet)
            quiet_to = time.time()
            if task is None:
                cluster.server.sql("CHECKPOINT")
                begin = time.time()
                settle(aftermath + options.seconds)
                end, share, whole, cores = time.time(), 0.0, None, None
            else:
                done = run_job(cluster, task, seconds=options.seconds)
                begin, end, share, whole = done.begin, done.end, done.share, done.whole_seconds
                if (span := task.span()) is not None:
                    begin, end = max(begin, span[0]), span[1]
                cores = done.cpu_seconds / done.wall
            # Transactions that the backup delayed are to be in the log.
            settle(min(2, options.seconds))
    found = load.transactions()
    from_when = begin + min(aftermath, (end - begin) / 2)
    without, during = found.between(quiet_from, quiet_to), found.between(from_when, end)
    return {
        "p99_tax": quantile(during, 0.99) / quantile(without, 0.99),
        "p95_tax": quantile(during, 0.95) / quantile(without, 0.95),
        "p99_ms": quantile(during, 0.99) * 1000,
        "p99_without_ms": quantile(without, 0.99) * 1000,
        "p50_tax": quantile(during, 0.5) / quantile(without, 0.5),
        "share": share,
        "cores": cores,
        "copy_seconds": end - begin,
        "whole_seconds": whole,
        "transactions": len(during),
    }


if __name__ == "__main__":
    main()
