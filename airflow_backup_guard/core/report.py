"""The report of one run: what the gates saw, what was copied, what the application felt, and whether it is good."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow_backup_guard.core.backup import BackupRecord, Impact, Latency
from airflow_backup_guard.core.units import Rate, Size, whole_seconds
from airflow_backup_guard.core.verification import Verification


@dataclass(frozen=True)
class BackupReport:
    """Everything that is known about one run; ``problem`` is why there is no backup, if there is none."""

    plan_name: str
    record: BackupRecord | None = None
    verification: Verification | None = None
    gates: Sequence[dict[str, Any]] = ()
    problem: str = ""

    @property
    def good(self) -> bool:
        """True when there is a backup, and nothing that was asked about it says otherwise."""
        return self.record is not None and self.verification is not None and self.verification.verdict.trusted

    @property
    def title(self) -> str:
        """One line that says it all."""
        if self.record is None:
            return f"No backup of {self.plan_name}"
        verdict = self.verification.verdict.value if self.verification else "not verified"
        return f"Backup of {self.plan_name} {verdict}: {self.record.backup_id}"

    def __str__(self) -> str:
        return "\n".join([self.title, "", *(f"{name:<20} {value}" for name, value in self.lines())]).rstrip()

    def lines(self) -> Iterator[tuple[str, str]]:
        """Pairs of a name and what there is to say."""
        for gate in self.gates:
            yield f"gate {gate['gate']}", gate["text"]
        if self.problem:
            yield "problem", self.problem
        if self.record is not None:
            yield from record_lines(self.record)
        if self.verification is not None:
            v = self.verification
            yield "verified", f"{v.verdict.value}: {Size(v.bytes_read)} read back, {v.files} files in {v.seconds:.1f} s"
            for problem in v.problems:
                yield "", problem


def record_lines(record: BackupRecord) -> Iterator[tuple[str, str]]:
    """What one backup's record says."""
    yield "database", f"{Size(record.database_size)}, PostgreSQL {record.snapshot.cluster.major}"
    yield "stored", f"{Size(record.stored_size)} in {len(record.parts)} objects"
    whole, checkpoint = (timedelta(seconds=seconds) for seconds in (record.seconds, record.checkpoint_seconds))
    yield "duration", f"{whole_seconds(whole, least=1)}, {whole_seconds(checkpoint, least=1)} of it for a checkpoint"
    yield "rate", f"{Rate(record.rate)}"
    yield from impact_lines(record.impact, of_standby=record.snapshot.standby)
    yield "WAL", f"{record.start_lsn} to {record.end_lsn} on timeline {record.timeline}"
    for warning in record.snapshot.warnings:
        yield "warning", warning


def impact_lines(impact: Impact, *, of_standby: bool = False) -> Iterator[tuple[str, str]]:
    """What the application felt, and what was done about it."""
    yield "throttled", f"{impact.seconds_throttled:.1f} s slowed down, {impact.seconds_paused:.1f} s paused"
    for pause in impact.pauses:
        yield "", f"paused {pause.seconds:.1f} s at {pause.began_at:%H:%M:%S} UTC: {pause.reason}"
    if impact.seconds_at:
        levels = ", ".join(f"{level} {seconds:.0f} s" for level, seconds in impact.seconds_at.items())
        yield "load", levels
    timed = "reads" if of_standby else "commits"
    for name, latency in (("before", impact.before), ("during", impact.during), ("after", impact.after)):
        yield f"{timed} {name}", _latency(latency)
    if impact.tax is not None:
        yield "tax", f"{timed} took {impact.tax:.2f} times as long at p95 as before"


def _latency(latency: Latency) -> str:
    if latency.p50 is None or latency.p95 is None or latency.p99 is None:
        return "not measured"
    p50, p95, p99 = (1000 * value for value in (latency.p50, latency.p95, latency.p99))
    return f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms ({latency.samples} samples)"
