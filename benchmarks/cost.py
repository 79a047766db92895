"""Cost: CPU seconds per GB of database, and peak memory of the whole process tree.

CPU counts both the tool and the server that sends to it, as pgBackRest reads the files itself and the others do not.
Memory is the proportional set size of all processes of the tool at once, sampled.
"""

from __future__ import annotations

from benchmarks import peers
from benchmarks.cluster import filled_cluster
from benchmarks.raw_copy import local_variants, measure
from benchmarks.report import Rounds, chosen, parser

COLUMNS = {
    "CPU s/GB": ("cpu_per_gb", "{:.2f}"),
    "of the tool": ("client_cpu_per_gb", "{:.2f}"),
    "of the server": ("server_cpu_per_gb", "{:.2f}"),
    "peak memory, MB": ("peak_memory_mb", "{:.0f}"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    options = parser(__doc__, rounds=5).parse_args(arguments)
    slow = {"max_rate": "50MB/s", "min_rate": "50MB/s"}
    variants = {
        **local_variants(options),
        "guard at 50 MB/s": peers.guarded(options, baseline_seconds=0.0, **slow),
    }
    rounds = Rounds("cost", options)
    with filled_cluster(options) as cluster:
        rounds.extra = {"major": cluster.server.major, "database_bytes": cluster.size()}
        names = chosen(list(variants), options.variants)
        rounds.run(names, lambda name: measure(cluster, variants[name], memory=True))
    rounds.finish("Cost", COLUMNS)


if __name__ == "__main__":
    main()
