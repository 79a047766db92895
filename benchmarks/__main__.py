"""``python -m benchmarks [NAME …] [options]``: the named benchmarks, or all of them, one after the other."""

from __future__ import annotations

import importlib
import sys

from benchmarks.report import Skipped

ALL = (
    "application_tax",
    "guarded_command",
    "pareto",
    "brake",
    "throttle_accuracy",
    "raw_copy",
    "restore",
    "cost",
    "memory",
    "dag_parsing",
    "gates",
    "catalog",
    "fleet_page",
)


def main(arguments: list[str]) -> int:
    """Exit status 0 if all of them ran; options go to each."""
    names = []
    while arguments and not arguments[0].startswith("-"):
        names.append(arguments.pop(0).replace("-", "_"))
    if unknown := set(names) - set(ALL):
        print(f"No such benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(ALL)}.", file=sys.stderr)
        return 2
    for name in names or ALL:
        try:
            importlib.import_module(f"benchmarks.{name}").main(arguments)
        except Skipped as reason:
            print(f"{name} is skipped: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
