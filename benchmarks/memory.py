"""Memory over size: the peak of an unthrottled copy of databases of --sizes, which grow from one to the next.

The sizes are not interleaved, as one database grows; memory does not depend on what else the machine does.
"""

from __future__ import annotations

from benchmarks import peers
from benchmarks.cluster import MEGABYTES_PER_SCALE, add_noise, filled_cluster
from benchmarks.raw_copy import measure
from benchmarks.report import Rounds, parser

COLUMNS = {"peak memory, MB": ("peak_memory_mb", "{:.0f}"), "s": ("seconds", "{:.1f}")}


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    made = parser(__doc__, scale=1, rounds=3)
    made.add_argument("--sizes", default="1,5", help="in GB, ascending (1,5)")
    options = made.parse_args(arguments)
    sizes = [float(size) for size in options.sizes.split(",")]
    # Grown beyond its scale, a cluster is of no use to the next run.
    options.cluster = None
    rounds = Rounds("memory", options)
    with filled_cluster(options) as cluster:
        rounds.extra = {"major": cluster.server.major}
        for size in sizes:
            missing = size * 1e9 - cluster.size()
            add_noise(cluster, f"noise_{size:g}".replace(".", "_"), max(0, round(missing / MEGABYTES_PER_SCALE / 1e6)))
            guard = peers.guarded(options, baseline_seconds=0.0, **peers.UNTHROTTLED)
            rounds.run([f"{size:g} GB"], lambda name, guard=guard: measure(cluster, guard, memory=True))  # type: ignore[misc]
    rounds.finish("Memory over size", COLUMNS)


if __name__ == "__main__":
    main()
