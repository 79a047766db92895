"""``backup-guard list`` and ``backup-guard show``: what there is in a repository."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Column, FittingTable, age, duration, lines
from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.cli.record import summary, version
from airflow_backup_guard.cli.rows import level_rows
from airflow_backup_guard.cli.written import write_file
from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.catalog import BackupSummary
from airflow_backup_guard.core.drill import DrillResult
from airflow_backup_guard.core.holds import Hold
from airflow_backup_guard.core.picture import telemetry_svg
from airflow_backup_guard.core.report import record_lines
from airflow_backup_guard.core.units import Rate, Size
from airflow_backup_guard.core.verification import Verification
from airflow_backup_guard.engine import catalog, listing
from airflow_backup_guard.repository.open import open_repository

_NOT_VERIFIED = "not yet"


def list_backups(arguments: argparse.Namespace) -> Answer:
    """All backups, and whether each was verified."""
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    name = settings.plan_name(arguments, plan)
    found = listing.list_backups(repository, name)
    document = {
        "repository": repository.url,
        "backups": [_entry(summary) for summary in found.backups],
        "unreadable": [{"message": one.message, "remedy": one.remedy} for one in found.unreadable],
    }
    of_plan = f" of plan {name}" if name else ""
    text: list[RenderableType] = [
        _table(found.backups) if found.backups else f"{repository.url} has no backup{of_plan}."
    ]
    if found.unreadable:
        text += [
            "",
            "Unreadable:",
            lines([Text.assemble(one.message, (f"\n{one.remedy}", "dim"))] for one in found.unreadable),
        ]
    return Answer(document, text, not found.unreadable)


def show(arguments: argparse.Namespace) -> Answer:
    """Everything about one backup."""
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    record = catalog.find(repository, arguments.backup_id, settings.plan_name(arguments, plan))
    verification = catalog.last_verification(repository, record)
    drill = catalog.last_drill(repository, record)
    hold = listing.read_hold(repository, record.plan_name, record.backup_id)
    document = {
        **summary(record, parts=arguments.parts),
        "verification": backup.dump_plain(verification) if verification else None,
        "drill": backup.dump_plain(drill) if drill else None,
        "hold": backup.dump_plain(hold) if hold else None,
    }
    text: list[RenderableType] = [
        f"Backup {record.backup_id} of plan {record.plan_name}, in {repository.url}",
        "",
        lines([*_facts(record, verification, drill, hold)]),
        "",
        "Copy",
        lines([*record_lines(record)]),
        "",
        "Plan",
        lines([[field.replace("_", " "), _plain(value)] for field, value in record.snapshot.plan.items()]),
    ]
    if arguments.picture is not None:
        telemetry = catalog.telemetry(repository, record, settings.identities(arguments.identity))
        if len(telemetry) < 2:
            raise WrongUse("This backup has no telemetry to make a picture of.", remedy="Leave out --picture.")
        title = f"Backup {record.backup_id} of plan {record.plan_name}"
        text += ["", write_file("--picture", arguments.picture, telemetry_svg(telemetry, title), "picture")]
    if arguments.parts:
        prefix = backup.parts_prefix(record.plan_name, record.backup_id)
        text += ["", f"Parts, under {prefix}", _parts(record, prefix)]
    return Answer(document, text)


def _entry(summary: BackupSummary) -> dict[str, Any]:
    return {
        "backup_id": summary.backup_id,
        "plan_name": summary.plan_name,
        "taken_at": summary.taken_at.isoformat(),
        "database_size": summary.database_size,
        "stored_size": summary.stored_size,
        "seconds": summary.seconds,
        "server_version": summary.server_version,
        "encrypted": summary.encrypted,
        "verdict": summary.verdict.value if summary.verdict else None,
        "verified_at": summary.verified_at.isoformat() if summary.verified_at else None,
        "level": summary.level.value if summary.level else None,
        "read_at": summary.read_at.isoformat() if summary.read_at else None,
        "hold": backup.dump_plain(summary.hold) if summary.hold else None,
    }


def _table(found: Sequence[BackupSummary]) -> FittingTable:
    now = datetime.now(timezone.utc)
    columns = [
        Column("BACKUP", [one.backup_id for one in found]),
        Column("PLAN", [one.plan_name for one in found], rank=2),
        # The id says it, too.
        Column("TAKEN AT (UTC)", [f"{one.taken_at:%Y-%m-%d %H:%M}" for one in found], rank=6),
        Column("DATABASE", [str(Size(one.database_size)) for one in found], rank=1, right=True),
        Column("STORED", [str(Size(one.stored_size)) for one in found], rank=3, right=True),
        Column("DURATION", [duration(one.seconds) for one in found], rank=4, right=True),
        Column("POSTGRESQL", [version(one.server_version) for one in found], rank=5),
        Column("VERIFIED", [one.verdict.value if one.verdict else _NOT_VERIFIED for one in found]),
        Column("LEVEL", [one.level.value if one.level else "none" for one in found], rank=4),
        Column("READ", [f"{age(one.read_at, now)} ago" if one.read_at else "never" for one in found], rank=3),
    ]
    if any(one.hold for one in found):
        columns.append(Column("HELD UNTIL", [_held_until(one.hold) for one in found], rank=1))
    return FittingTable(columns)


def _held_until(hold: Hold | None) -> str:
    if hold is None:
        return ""
    return f"{hold.until:%Y-%m-%d}" if hold.until else "released"


def _facts(
    record: BackupRecord, verification: Verification | None, drill: DrillResult | None, hold: Hold | None
) -> Iterator[tuple[str, str]]:
    snapshot, cluster = record.snapshot, record.snapshot.cluster
    yield "taken at", f"{snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC, by {record.written_by}"
    yield "verification", _verified(verification)
    for row in level_rows(verification) if verification and verification.evidence else ():
        yield "", " ".join(map(str, row))
    for problem in verification.problems if verification else ():
        yield "", problem
    if drill is not None:
        verdict, at = "passed" if drill.passed else "FAILED", f"{drill.ended_at:%Y-%m-%d %H:%M:%S} UTC"
        yield "drill", f"{verdict}, at {at}" + (f", in {duration(drill.rto_seconds)}" if drill.rto_seconds else "")
    if hold is not None:
        yield "hold", str(hold)
    yield "contains", f"every transaction committed before {snapshot.lsn}"
    postgresql = f"PostgreSQL {version(cluster.server_version)}"
    yield "cluster", f"{postgresql}, system {cluster.system_identifier}, timeline {cluster.timeline}"
    yield "", f"WAL segments of {Size(cluster.wal_segment_size)}, data checksums {_on(cluster.data_checksums)}"
    yield from _named("databases", [f"{database.name} {Size(database.size)}" for database in snapshot.databases])
    yield from _named("tablespaces", [f"{t.name} {Size(t.size)} at {t.location}" for t in snapshot.tablespaces])


def _verified(verification: Verification | None) -> str:
    if verification is None:
        return _NOT_VERIFIED
    return f"{verification.verdict.value}, at {verification.verified_at:%Y-%m-%d %H:%M:%S} UTC"


def _named(name: str, values: list[str]) -> Iterator[tuple[str, str]]:
    for number, value in enumerate(values or ["none"]):
        yield "" if number else name, value


def _parts(record: BackupRecord, prefix: str) -> FittingTable:
    parts = sorted(record.parts, key=lambda part: part.key)
    return FittingTable(
        [
            Column("PART", [part.key.removeprefix(prefix) for part in parts]),
            Column("KIND", [part.kind for part in parts], rank=2),
            Column("CONTENT", [str(Size(part.content_size)) for part in parts], rank=1, right=True),
            Column("STORED", [str(Size(part.size)) for part in parts], rank=1, right=True),
            Column("SHA-256", [part.sha256 for part in parts], rank=3),
        ]
    )


def _plain(value: object) -> str:
    if isinstance(value, dict):
        items = [f"{key.replace('_', ' ')} {_plain(item)}" for key, item in value.items() if item is not None]
        return "; ".join(items) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, str) and value.endswith("B/s"):
        return str(Rate.parse(value))
    if isinstance(value, str) and re.fullmatch(r"\d+B", value):
        return str(Size.parse(value))
    return str(value) or "none"


def _on(value: bool) -> str:
    return "on" if value else "off"
