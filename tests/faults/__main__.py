"""``make faults``: injects faults, holds the rule of :mod:`tests.faults.rig` against each, and counts."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from airflow_backup_guard.postgres.account import account_for, private_folder
from tests.faults import suite
from tests.faults.rig import Judgement, Outcome, Rig
from tests.faults.stores import Buckets, Folders, Store


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of every choice that is made by chance (default: 1)")
    parser.add_argument("--count", type=int, help="so many faults, chosen by chance (default: all)")
    parser.add_argument("--only", default="", help="only faults whose description contains this")
    parser.add_argument("--restores", type=float, default=0.1, help="share of backups that a server is started on")
    parser.add_argument("--list", action="store_true", help="show the faults, and inject none")
    arguments = parser.parse_args()
    for name in ("airflow_backup_guard", "psycopg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they warn of is judged
    began = time.monotonic()
    judged: list[Judgement] = []
    with ExitStack() as stack:
        folder = private_folder(account_for(Path("/")), "faults")
        stack.callback(shutil.rmtree, folder)
        rig = stack.enter_context(Rig(folder, arguments.seed))
        stores: list[Store] = [stack.enter_context(Folders(folder)), stack.enter_context(Buckets())]
        for fault in suite.chosen(rig, stores, arguments.seed, arguments.count, arguments.only):
            if arguments.list:
                print(fault)
                continue
            judgement = fault.inject(rig, restored=rig.random.random() < arguments.restores)
            judged.append(judgement)
            print(_line(judgement), flush=True)
    print(summary(judged, time.monotonic() - began))
    return 1 if any(one.broken for one in judged) else 0


def _line(one: Judgement) -> str:
    text = f"{one.seconds:5.1f} s  {'BROKEN' if one.broken else one.outcome.value:16} {one.fault}"
    said = [f"    {type(one.error).__name__}: {one.error}"] if one.error and one.broken else []
    return "\n".join([text, *said, *(f"    {broken}" for broken in one.broken)])


def summary(judged: list[Judgement], seconds: float) -> str:
    """What was counted."""
    outcomes = Counter(one.outcome for one in judged)
    unreached = outcomes.pop(Outcome.UNREACHED, 0)
    broken = [len(one.broken) for one in judged if one.broken]
    longest = max((one.left_seconds for one in judged), default=0)
    return "\n".join(
        [
            f"faults injected          {len(judged) - unreached}",
            *(f"  {outcome.value:22} {outcomes[outcome]}" for outcome in Outcome if outcome is not Outcome.UNREACHED),
            f"never came up            {unreached}",
            f"retries that succeeded   {sum(one.retries for one in judged)}",
            f"backups verified         {sum(one.verified for one in judged)}",
            f"restores started         {sum(one.restores for one in judged)}",
            f"longest in the database  {longest:.2f} s after a step had ended",
            f"rules broken             {sum(broken)}, by {len(broken)} faults",
            f"seconds                  {seconds:.0f}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
