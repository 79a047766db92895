"""Duration against tax under a load that changes: quiet, peak, quiet.

A static rate is chosen once, for a load that nobody knows yet; the guard follows the load. Each backup begins
--lead seconds before a peak of --peak seconds. Its tax is the p99 of all transactions during the copy ÷ the p99 of
the same mixture of quiet and peak seconds without a backup, measured in the same round.

What is measured first after the filling meets a database that is not warm yet. So a peak without a backup comes before
the first of several rounds, and is not counted.

A backup that takes longer than --seconds is stopped there, and its duration is what it would have been at the
rate of its last ten seconds.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks import peers
from benchmarks.cluster import Cluster, Load, Transactions, capacity, filled_cluster, settle
from benchmarks.job import failure_skips, run_job
from benchmarks.report import Rounds, chosen, parser, quantile, say, weighted_quantile

NOTHING = "no backup"
GUARDED = "guarded"
COLUMNS = {
    "copy, s": ("whole_seconds", "{:.0f}"),
    "p99 ÷ without": ("p99_tax", "{:.2f}"),
    "p95 ÷ without": ("p95_tax", "{:.2f}"),
    "in the peak, p99 ÷ without": ("peak_p99_tax", "{:.2f}"),
    "share read": ("share", "{:.0%}"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    made = parser(__doc__)
    made.add_argument(
        "--low", type=float, default=20, help="per cent of the time that the database is busy when quiet (20)"
    )
    made.add_argument("--high", type=float, default=80, help="load of the peak (80)")
    made.add_argument("--lead", type=float, default=4, help="seconds of quiet before the peak (4)")
    made.add_argument("--peak", type=float, default=20, help="seconds of peak (20)")
    made.add_argument("--rates", default="10,20,40,80,160", help="static ones in MB/s (10,20,40,80,160)")
    made.add_argument("--tps", type=float, help="at 100 per cent, from an earlier run; by default it is measured")
    options = made.parse_args(arguments)
    rates = [float(rate) for rate in options.rates.split(",")]
    variants: dict[str, peers.Peer] = {
        GUARDED: peers.guarded(options, max_rate="1GiB/s"),
        **{f"{rate:g} MB/s": peers.pg_basebackup(max_rate=str(round(rate * 1e6 / 1024))) for rate in rates},
        "full speed": peers.pg_basebackup(),
    }
    names = [NOTHING, *chosen(list(variants), options.variants)]
    rounds = Rounds("pareto", options)
    with filled_cluster(options, apart=True) as cluster:
        tps = options.tps or capacity(cluster, min(10, options.seconds))
        say(f"capacity: {tps:.0f} transactions/s (--tps {tps:.0f} next time)")
        rounds.extra = {"major": cluster.server.major, "database_bytes": cluster.size(), "capacity_tps": tps}
        bench = _Pareto(cluster, tps, options)
        if options.rounds > 1:
            say("warming up, not counted")
            bench.measure(None)
        rounds.run(names, lambda name: bench.measure(variants.get(name)))
    rounds.finish(f"Pareto: {options.low:g} %, {options.high:g} %, {options.low:g} % load", COLUMNS)
    for line in verdict(rounds):
        print(line)


class _Pareto:
    def __init__(self, cluster: Cluster, tps: float, options: argparse.Namespace) -> None:
        self._cluster = cluster
        self._tps = tps / 100
        self._options = options
        self._quiet: list[float] = []
        self._peak: list[float] = []

    def measure(self, peer: peers.Peer | None) -> Mapping[str, Any]:
        """One variant, once; without a peer, the reference for the others of this round."""
        options = self._options
        with self._cluster.target() as target, failure_skips():
            task = peer(self._cluster, target) if peer else None
            with Load(self._cluster, self._tps * options.low) as low, _Peak(self._cluster, self._tps, options) as peak:
                settle(min(4, options.seconds))
                if task is None:
                    self._cluster.server.sql("CHECKPOINT")
                    peak.begin()
                    begin = time.time()
                    # As much quiet as peak, so that both are known as well.
                    settle(options.lead + 2 * options.peak)
                    end = time.time()
                else:
                    done = run_job(self._cluster, task, seconds=options.seconds, on_begin=peak.begin)
                    begin, end = done.begin, done.end
                settle(min(2, options.seconds))
        quiet, high = _by_phase([low.transactions(), *peak.transactions()], begin, end, peak.span)
        if task is None:
            self._quiet, self._peak = quiet, high
            return {"p99_quiet_ms": quantile(quiet, 0.99) * 1000, "p99_peak_ms": quantile(high, 0.99) * 1000}
        peak_from, peak_to = peak.span
        peak_seconds = max(0.0, min(end, peak_to) - max(begin, peak_from))
        quiet_seconds = end - begin - peak_seconds
        return {
            "whole_seconds": done.whole_seconds,
            "copy_seconds": end - begin,
            "share": done.share,
            "p99_tax": self._tax(0.99, [*quiet, *high], quiet_seconds, peak_seconds),
            "p95_tax": self._tax(0.95, [*quiet, *high], quiet_seconds, peak_seconds),
            "peak_p99_tax": quantile(high, 0.99) / quantile(self._peak, 0.99) if peak_seconds > 1 else None,
            "track": [[round(at - begin, 2), size] for at, size in done.track],
        }

    def _tax(self, share: float, found: Sequence[float], quiet_seconds: float, peak_seconds: float) -> float:
        options = self._options
        reference = [
            (self._quiet, quiet_seconds / (options.lead + options.peak)),
            (self._peak, peak_seconds / options.peak),
        ]
        return quantile(found, share) / weighted_quantile(reference, share)


def _by_phase(
    logs: Sequence[Transactions], begin: float, end: float, span: tuple[float, float]
) -> tuple[list[float], list[float]]:
    quiet, high = [], []
    for log in logs:
        quiet += log.between(begin, min(end, span[0])) + log.between(max(begin, span[1]), end)
        high += log.between(max(begin, span[0]), min(end, span[1]))
    return quiet, high


class _Peak:
    """The additional load: from ``--lead`` seconds after :meth:`begin`, for ``--peak`` seconds or to the exit."""

    def __init__(self, cluster: Cluster, tps: float, options: argparse.Namespace) -> None:
        self._cluster = cluster
        self._tps = tps * (options.high - options.low)
        self._options = options
        self._begun = threading.Event()
        self._ending = threading.Event()
        self._loads: list[Load] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        never = float("inf")
        self.span = (never, never)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._begun.set()
        self._thread.join()

    def begin(self) -> None:
        """The copy begins now."""
        self._begun.set()

    def transactions(self) -> list[Transactions]:
        """What the peak's own clients saw; after the exit."""
        return [load.transactions() for load in self._loads]

    def _run(self) -> None:
        self._begun.wait()
        if self._ending.wait(self._options.lead):
            return
        with ExitStack() as stack:
            began = time.time()
            self.span = (began, began + self._options.peak)
            self._loads.append(stack.enter_context(Load(self._cluster, self._tps)))
            self._ending.wait(self._options.peak)


def verdict(rounds: Rounds) -> list[str]:
    """Which static rates beat the guard in both, and how much faster it is than those that are as gentle."""

    def median(name: str, key: str) -> float:
        return statistics.median(value for value in rounds.column(name, key) if value is not None)

    if GUARDED not in rounds.measured:
        return []
    seconds, tax = median(GUARDED, "whole_seconds"), median(GUARDED, "p99_tax")
    others = {
        name: (median(name, "whole_seconds"), median(name, "p99_tax"))
        for name in rounds.measured
        if name not in (GUARDED, NOTHING)
    }
    better = [name for name, found in others.items() if found[0] < seconds and found[1] < tax]
    gentle = [found[0] for found in others.values() if found[1] <= tax]
    lines = [f"faster and gentler than the guard: {', '.join(better) or 'none'}"]
    if gentle:
        lines.append(f"the guard is {min(gentle) / seconds:.2f} × as fast as the best static rate of no more tax")
    elif others:
        lines.append("no static rate that was measured has as little tax as the guard")
    return lines


if __name__ == "__main__":
    main()
