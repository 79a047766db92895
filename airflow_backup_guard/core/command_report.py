"""What a guarded command's receipt says, for people."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import timedelta

from airflow_backup_guard.core.command import CommandReceipt
from airflow_backup_guard.core.report import impact_lines
from airflow_backup_guard.core.units import Size, whole_seconds

_LONGEST = 200


def command_title(receipt: CommandReceipt) -> str:
    """``pg_dump ended well``: one line that says it all."""
    program = receipt.command[0]
    if receipt.exit_status == 0:
        return f"{program} ended well, after {_seconds(receipt.seconds)}."
    if receipt.exit_status is None:
        return f"{program} did not end by itself: {receipt.outcome}"
    return f"{program} failed with status {receipt.exit_status}, after {_seconds(receipt.seconds)}."


def receipt_lines(receipt: CommandReceipt) -> Iterator[tuple[str, str]]:
    """Pairs of a name and what there is to say."""
    text = shlex.join(receipt.command)
    yield "command", text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    if receipt.paces_stdout:
        yield "output", f"{Size(receipt.output_size)}"
    else:
        stood = receipt.seconds_stopped
        share = stood / receipt.seconds if receipt.seconds else 0.0
        yield "held", f"stood still for {stood:.1f} s of {receipt.seconds:.1f} s ({share:.0%})"
    if receipt.stored is not None:
        yield "stored", f"{Size(receipt.stored.size)} at {receipt.stored.key}"
    if receipt.impact is not None:
        yield from impact_lines(receipt.impact)
    for warning in receipt.warnings:
        yield "warning", warning


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else whole_seconds(timedelta(seconds=seconds))
