"""What a guard takes off the harm of a tool that knows nothing of it: pgBackRest and pg_dump, with and without one.

The tools, the load and the tax are those of application_tax, and all variants are measured in turn. pgBackRest's
processes are stopped and continued, and the output of pg_dump is passed on at a rate. "nice pgBackRest" tells how much
of the difference comes from the niceness that the guard gives to the command. A backup that takes longer than
--seconds is stopped there: compare taxes first, and then how long the guarded one takes with more --seconds.

The goal: the guarded run has a lower tax than the one without a guard.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks import peers
from benchmarks.application_tax import NOTHING, measure
from benchmarks.cluster import Cluster, capacity, filled_cluster
from benchmarks.report import Rounds, chosen, parser, say

COLUMNS = {
    "p99 ÷ without": ("p99_tax", "{:.2f}"),
    "p95 ÷ without": ("p95_tax", "{:.2f}"),
    "p50 ÷ without": ("p50_tax", "{:.2f}"),
    "p99 during, ms": ("p99_ms", "{:.1f}"),
    "backup, s": ("copy_seconds", "{:.0f}"),
    "ended by itself": ("share", "{:.0f}"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    made = parser(__doc__, seconds=30)
    made.add_argument("--load", type=float, default=60, help="per cent of the time that the database is busy (60)")
    made.add_argument("--tps", type=float, help="at 100 per cent, from an earlier run; by default it is measured")
    made.add_argument("--quiet", type=float, default=15, help="seconds without a backup before each (15)")
    options = made.parse_args(arguments)
    pgbackrest = peers.pgbackrest()
    variants: dict[str, peers.Peer | None] = {
        NOTHING: None,
        "pgBackRest": pgbackrest,
        "nice pgBackRest": _nice(pgbackrest),
        "guarded pgBackRest": peers.guarded_command(options, pgbackrest),
        "pg_dump": peers.pg_dump,
        "guarded pg_dump": peers.guarded_command(options, peers.pg_dump_to_stdout, store="bench.dump"),
    }
    names = chosen(list(variants), options.variants)
    rounds = Rounds("guarded_command", options)
    with filled_cluster(options, apart=True) as cluster:
        tps = options.tps or capacity(cluster, min(10, options.seconds))
        rounds.extra = {"major": cluster.server.major, "database_bytes": cluster.size(), "capacity_tps": tps}
        say(f"capacity: {tps:.0f} transactions/s (--tps {tps:.0f} next time); load: {tps * options.load / 100:.0f}/s")
        rounds.run(names, lambda name: measure(cluster, variants[name], tps * options.load / 100, options))
    rounds.finish(f"Guarded commands at {options.load:g} % load", COLUMNS)


def _nice(peer: peers.Peer) -> peers.Peer:
    def prepare(cluster: Cluster, target: Path) -> peers.Task:
        task = peer(cluster, target)
        return replace(task, command=["nice", "-n", "10", *task.command])

    return prepare


if __name__ == "__main__":
    main()
