"""``backup-guard tune``: watch a database, and propose limits."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

from rich.console import RenderableType

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Command, duration, lines
from airflow_backup_guard.cli.progress import note_progress
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.core.signals import signal_named
from airflow_backup_guard.core.tuning import Observations, Proposal, toml
from airflow_backup_guard.core.units import parse_duration
from airflow_backup_guard.engine.sampling import sampled
from airflow_backup_guard.errors import SourceUnavailable


def run(arguments: argparse.Namespace) -> Answer:
    """Watch for as long as was asked; Ctrl-C ends that early."""
    dsn = settings.dsn(arguments)
    seconds = parse_duration(arguments.watch, "--for") / timedelta(seconds=1)
    ending = "Proposing limits from what was seen; a second signal ends this at once."
    with stop_on_signals(ending) as stop, note_progress("watching", seconds) as note:
        proposal = asyncio.run(_observe(sampled(dsn, seconds, stop), note)).propose()
    if not proposal.seen:
        reason = next(iter(proposal.missing.values()), "it was stopped before the first sample")
        raise SourceUnavailable(f"Nothing could be measured: {reason}.", remedy="See backup-guard check.")
    return Answer(proposal.to_dict(), list(_text(proposal)))


async def _observe(samples: AsyncIterator[LoadSample], note: Callable[[str], None]) -> Observations:
    observations = Observations()
    async for sample in samples:
        observations.add(sample)
        note(_glance(sample))
    return observations


def _glance(sample: LoadSample) -> str:
    shown = [signal_named(name) for name in ("commit_latency", "read_latency", "wal_rate") if name in sample.values]
    return ", ".join(f"{signal.title} {signal.show(sample.values[signal.name])}" for signal in shown) or sample.missing


def _text(proposal: Proposal) -> Iterator[RenderableType]:
    yield f"Seen in {duration(proposal.samples)}: the median, what 99 of 100 samples stay within, and the highest."
    yield ""
    rows = []
    for seen in proposal.seen:
        signal = signal_named(seen.signal)
        rows.append([signal.title, signal.show(seen.p50), signal.show(seen.p99), signal.show(seen.highest)])
    yield lines([["", "median", "99 %", "highest"], *rows])
    if proposal.missing:
        yield ""
        yield "Not seen:"
        yield lines([[signal_named(name).title, reason] for name, reason in proposal.missing.items()])
    yield ""
    yield "Limits that this database does not reach by itself (slow down above the first, pause above the second):"
    yield ""
    yield Command(toml(proposal.limits))
    if proposal.is_guess:
        yield ""
        yield "It was watched for less than ten minutes: a guess. Watch it over its busiest hour (--for 1h)."
