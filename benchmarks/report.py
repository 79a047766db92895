"""Options that every benchmark takes, statistics over rounds, and results as a table and as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_backup_guard import __version__

RESULTS = Path(__file__).resolve().parent / "results"
_BUSY = 0.15


class Skipped(Exception):
    """A peer, or all of a benchmark, that cannot run here; the message says why."""


def parser(about: str | None, *, scale: int = 50, seconds: float = 60.0, rounds: int = 5) -> argparse.ArgumentParser:
    """The options of all benchmarks; each adds its own."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help=f"how often all variants are measured ({rounds})")
    made.add_argument(
        "--scale", type=int, default=scale, help=f"of the data; 1 is 15 MB of pgbench and as much noise ({scale})"
    )
    made.add_argument("--seconds", type=float, default=seconds, help=f"at most so long per measurement ({seconds:g})")
    made.add_argument("--variants", help="only these, separated by commas; see the table of a short run for the names")
    made.add_argument("--major", type=int, help="of PostgreSQL; by default 15 where it is, as all peers know it")
    made.add_argument(
        "--cluster", type=Path, metavar="DIR", help="keep the filled cluster there, and take it if it is there already"
    )
    made.add_argument(
        "--disk",
        choices=("own", "modelled"),
        default="own",
        help="of the database: the machine's, or a modelled one that is the same at every run and bounds all (own)",
    )
    made.add_argument(
        "--repository",
        type=Path,
        metavar="DIR",
        help="store backups there; a tmpfs such as /dev/shm leaves the database's disk to the database",
    )
    made.add_argument(
        "--patience",
        type=int,
        default=0,
        metavar="N",
        help="wait for a quiet machine, and measure up to N times more what others disturbed (0)",
    )
    made.add_argument(
        "--plan", type=json.loads, default={}, metavar="JSON", help='of the guard, such as {"max_rate": "50MB/s"}'
    )
    return made


def chosen(names: Sequence[str], variants: str | None) -> list[str]:
    """The variants to measure, in their usual order."""
    wanted = variants.split(",") if variants else list(names)
    if unknown := set(wanted) - set(names):
        raise SystemExit(f"No such variant: {', '.join(sorted(unknown))}. There are: {', '.join(names)}.")
    return [name for name in names if name in wanted]


def say(text: str) -> None:
    """Progress, apart from the results."""
    print(f"  {text}", file=sys.stderr, flush=True)


def quantile(values: Sequence[float], share: float) -> float:
    """Nearest rank; NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def weighted_quantile(groups: Sequence[tuple[Sequence[float], float]], share: float) -> float:
    """Of values whose weight is that of their group; NaN of nothing."""
    ordered = sorted((value, weight) for values, weight in groups if weight > 0 for value in values)
    left = share * sum(weight for _, weight in ordered)
    for value, weight in ordered:
        left -= weight
        if left <= 0:
            return value
    return ordered[-1][0] if ordered else math.nan


def spread(values: Iterable[float | None], show: str = "{:.2f}") -> str:
    """Median with min and max, such as ``1.04 (0.98 to 1.21)``; ``-`` where nothing was measured."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return "-"
    median = show.format(statistics.median(known))
    return f"{median} ({show.format(min(known))} to {show.format(max(known))})" if len(known) > 1 else median


class Interference:
    """How much of the machine others use from now on: what is busy, less what this process and its descendants use.

    The kernel's own threads count as others. NaN where /proc does not say.
    """

    def __init__(self) -> None:
        self._before = self._ticks()

    def share(self) -> float:
        """0 to 1, so far."""
        after = self._ticks()
        if self._before is None or after is None:
            return math.nan
        everything, idle, own = (now - then for now, then in zip(after, self._before, strict=True))
        return max(0.0, everything - idle - own) / max(1, everything)

    @staticmethod
    def _ticks() -> tuple[int, int, int] | None:
        try:
            values = [int(value) for value in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        except OSError:
            return None
        return sum(values), values[3] + values[4], tree_ticks(os.getpid())


def tree_ticks(root: int) -> int:
    """CPU ticks of a process and all that descend from it, living and ended."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208  # twice as fast, several times a second
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = int(fields[1])
                ticks[int(entry)] = sum(map(int, fields[11:15]))
    found, seen = 0, [root]
    while seen:
        pid = seen.pop()
        found += ticks.get(pid, 0)
        seen += [child for child, parent in parents.items() if parent == pid]
    return found


def wait_until_quiet(seconds: float) -> None:
    """Until others use little of the machine for two seconds, or this time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        watched = Interference()
        time.sleep(2)
        if not watched.share() > _BUSY:
            return


class Rounds:
    """The measurements so far: one mapping of numbers per variant and round, with ``others``, the share of the machine
    that was used by others meanwhile."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name = name
        self.options = options
        self.began = datetime.now(timezone.utc)
        self.skipped: dict[str, str] = {}
        self.measured: dict[str, list[dict[str, Any]]] = {}
        self.extra: dict[str, Any] = {}

    def run(self, names: Sequence[str], measure: Callable[[str], Mapping[str, Any]]) -> None:
        """All variants in turn, and that ``--rounds`` times; one that raises :class:`Skipped` is not tried again.

        The first comes first in each round, as others may be held against it. The others take turns in who comes next,
        so that what one leaves behind does not always meet the same.
        """
        first, others = names[0], list(names[1:])
        for number in range(1, self.options.rounds + 1):
            turn = (number - 1) % len(others) if others else 0
            for name in [first, *others[turn:], *others[:turn]]:
                if name in self.skipped:
                    continue
                try:
                    result = self._undisturbed(name, measure)
                except Skipped as reason:
                    self.skipped[name] = str(reason)
                    say(f"{name} is skipped: {reason}")
                    continue
                self.measured.setdefault(name, []).append(result)
                shown = ", ".join(
                    f"{key} {value:.3g}" for key, value in result.items() if isinstance(value, (int, float))
                )
                say(f"{self.name} round {number}, {name}: {shown}")

    def _undisturbed(self, name: str, measure: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
        tries: list[dict[str, Any]] = []
        while True:
            if self.options.patience:
                wait_until_quiet(20)
            watched = Interference()
            result = {**measure(name), "others": watched.share()}
            tries.append(result)
            if not result["others"] > _BUSY or len(tries) > self.options.patience:
                return min(tries, key=lambda one: float(one["others"]))
            say(f"{name}: others used {result['others']:.0%} of the machine; once more")

    def column(self, variant: str, key: str) -> list[float | None]:
        """One number of one variant, round by round."""
        return [result.get(key) for result in self.measured.get(variant, [])]

    def finish(self, title: str, columns: Mapping[str, tuple[str, str]]) -> None:
        """Print the table (heading → key and format), name what was skipped, and write the JSON."""
        rows = [
            [variant, *(spread(self.column(variant, key), show) for key, show in columns.values())]
            for variant in self.measured
        ]
        print(f"\n{title}: median (min to max) of {self.options.rounds} rounds\n")
        print(table(["", *columns], rows))
        for name, reason in self.skipped.items():
            print(f"skipped: {name}: {reason}")
        others = [one["others"] for results in self.measured.values() for one in results]
        print(f"used by others meanwhile: {spread(others, '{:.0%}')} of the machine")
        if any(share > _BUSY for share in others):
            print("NOTE: that disturbs the figures; measure again when it is quiet, or with --patience.")
        print(f"written: {save(self)}", flush=True)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that can be read as it is."""
    widths = [max(len(row[index]) for row in [heading, *rows]) for index in range(len(heading))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(heading), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def save(rounds: Rounds) -> str:
    """Write benchmarks/results/NAME.json; returns its name as seen from the folder of the project."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{rounds.name}.json"
    document = {
        "benchmark": rounds.name,
        "began_at": rounds.began.isoformat(timespec="seconds"),
        "ended_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": {
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": platform.system(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
        },
        "options": {
            key: bool(value) if key in ("cluster", "repository") else value
            for key, value in vars(rounds.options).items()
        },
        **rounds.extra,
        "skipped": rounds.skipped,
        "rounds": rounds.measured,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path.relative_to(RESULTS.parent.parent).as_posix()
