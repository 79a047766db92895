"""What a guarded command may be asked to be, and what its receipt says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_backup_guard.core.backup import Impact, Latency, StoredPart, dump, load
from airflow_backup_guard.core.command import (
    CommandReceipt,
    GuardedCommand,
    check_options,
    check_words,
    exit_status_of,
    names_of,
)
from airflow_backup_guard.core.command_report import command_title, receipt_lines
from airflow_backup_guard.core.load import Phase
from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.engine.command import CommandProgress
from airflow_backup_guard.engine.progress import CommandProgressLog
from airflow_backup_guard.errors import InvalidPlan

BEGAN = datetime(2026, 11, 23, 1, tzinfo=timezone.utc)
RECEIPT = CommandReceipt(
    format=1,
    command_id="20261123T010000Z-a98c",
    plan={"name": "shop"},
    command=("pg_dump", "--dbname", "the shop"),
    paces_stdout=False,
    started_at=BEGAN,
    ended_at=BEGAN + timedelta(seconds=40),
    exit_status=0,
    seconds_stopped=10.0,
    impact=Impact(Latency.of([0.001]), Latency.of([0.002]), Latency.of([])),
    warnings=("Killed: sleep (4711).",),
)


@pytest.mark.parametrize("words", ["pg_dump shop", b"x", [], [""], ["a", 1], ["a\0"], None])
def test_a_command_is_a_list_of_words(words: Any) -> None:
    """Text would need a shell, and is refused with the way to have one."""
    with pytest.raises(InvalidPlan, match=r"command.*for a shell"):
        check_words(words)


@pytest.mark.parametrize(
    "options",
    [
        {"nice": 20},
        {"nice": -1},
        {"nice": True},
        {"io_class": "realtime"},
        {"grace": "11min"},
        {"grace": "soon"},
        {"max_stop": "1h"},
    ],
)
def test_an_option_that_is_none_is_refused_by_its_name(options: dict[str, Any]) -> None:
    """Where the DAG is parsed, and where the command is made."""
    with pytest.raises(InvalidPlan, match=next(iter(options))):
        check_options(**{"max_stop": "10s", "grace": "3s", "nice": 10, "io_class": None, **options})


def test_options_are_read() -> None:
    """Durations with their units, and a command made of them is what was asked for."""
    max_stop, grace = check_options("5s", "1s", 0, "idle")
    command = GuardedCommand(("ls",), {}, max_stop=max_stop, grace=grace, nice=0, io_class="idle")
    assert (command.max_stop, command.grace) == (timedelta(seconds=5), timedelta(seconds=1))


def test_a_receipt_is_read_back_as_it_was_written() -> None:
    """Nothing is lost in JSON."""
    part = StoredPart("output", "shop.dump", "commands/shop/x/shop.dump.zst", 10, "ab", 20)
    receipt = replace(RECEIPT, parts=(part,))
    assert load(CommandReceipt, dump(receipt), "it") == receipt
    assert receipt.stored == part


def test_a_receipt_tells_what_became_of_the_command() -> None:
    """Its title says how it ended, and its lines what it was held to and what was felt."""
    assert command_title(RECEIPT) == "pg_dump ended well, after 40.0 s."
    assert command_title(replace(RECEIPT, exit_status=3)) == "pg_dump failed with status 3, after 40.0 s."
    ended = replace(RECEIPT, exit_status=None, outcome="Stopped: SIGTERM.")
    assert command_title(ended) == "pg_dump did not end by itself: Stopped: SIGTERM."
    told = dict(receipt_lines(RECEIPT))
    assert told["command"] == "pg_dump --dbname 'the shop'"
    assert told["held"] == "stood still for 10.0 s of 40.0 s (25%)"
    assert told["tax"].startswith("commits took 2.00 times")
    assert told["warning"] == "Killed: sleep (4711)."
    assert dict(receipt_lines(replace(RECEIPT, paces_stdout=True, output_size=1500)))["output"] == "1.5kB"


def test_exit_statuses_are_those_of_a_shell() -> None:
    """128 + n for signal n."""
    assert (exit_status_of(0), exit_status_of(3), exit_status_of(-9)) == (0, 3, 137)


def test_few_of_many_are_named() -> None:
    """Three, and how many more."""
    assert names_of(["a", "b"]) == "a, b"
    assert names_of("abcde") == "a, b, c and 2 more"


def test_the_log_tells_of_changes_and_every_15_seconds() -> None:
    """Of its share, or of its output, with the reason."""
    now, written = [0.0], []
    log = CommandProgressLog(written.append, lambda: now[0])
    pace = Pace(Rate(10), Rate(1000), Rate(10), PaceState.THROTTLED, "it starts at its floor")
    log(CommandProgress(Phase.BEFORE, pace, 0.01))
    log(CommandProgress(Phase.BEFORE, pace, 0.01))
    log(CommandProgress(Phase.DURING, pace, 0.001, ran=0.5, stood=99.5))
    now[0] = 14.0
    log(CommandProgress(Phase.DURING, pace, 0.01))
    paused = replace(pace, state=PaceState.PAUSED, reason="load")
    log(CommandProgress(Phase.DURING, paused, None, done=1500))
    now[0] = 30.0
    log(CommandProgress(Phase.DURING, paused, None, done=2500))
    assert written == [
        "measuring the load of the database",
        "may run 0.1 % of the time (ran 1s, stood still 1min 40s); throttled: it starts at its floor",
        "1.5kB of output, at up to 10B/s; paused: load",
        "2.5kB of output, at up to 10B/s; paused: load",
    ]
