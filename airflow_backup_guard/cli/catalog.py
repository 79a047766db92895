"""``backup-guard list`` and ``backup-guard show``: what there is in a repository."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Column, FittingTable, duration, lines
from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.cli.picture import write_picture
from airflow_backup_guard.cli.record import summary, version
from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.picture import telemetry_svg
from airflow_backup_guard.core.report import record_lines
from airflow_backup_guard.core.units import Rate, Size
from airflow_backup_guard.core.verification import Verification
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.errors import BackupDamaged, ObjectMissing
from airflow_backup_guard.repository.open import open_repository
from airflow_backup_guard.repository.read import read_whole

_NOT_VERIFIED = "not yet"


def list_backups(arguments: argparse.Namespace) -> Answer:
    """All backups, and whether each was verified."""
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    name = settings.plan_name(arguments, plan)
    found: list[tuple[BackupRecord, Verification | None]] = []
    unreadable: list[BackupDamaged] = []
    for plan_name, backup_id in catalog.ids(repository, name):
        key = backup.record_key(plan_name, backup_id)
        try:
            record = backup.load(BackupRecord, read_whole(repository, key), key)
        except ObjectMissing:
            continue  # somebody removed it just now
        except BackupDamaged as error:
            unreadable.append(error)
            continue
        try:
            verification = catalog.last_verification(repository, record)
        except BackupDamaged as error:
            unreadable.append(error)
            verification = None
        found.append((record, verification))
    document = {
        "repository": repository.url,
        "backups": [_entry(record, verification) for record, verification in found],
        "unreadable": [{"message": error.message, "remedy": error.remedy} for error in unreadable],
    }
    of_plan = f" of plan {name}" if name else ""
    text: list[RenderableType] = [_table(found) if found else f"{repository.url} has no backup{of_plan}."]
    if unreadable:
        text += [
            "",
            "Unreadable:",
            lines([Text.assemble(error.message, (f"\n{error.remedy}", "dim"))] for error in unreadable),
        ]
    return Answer(document, text, not unreadable)


def show(arguments: argparse.Namespace) -> Answer:
    """Everything about one backup."""
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    record = catalog.find(repository, arguments.backup_id, settings.plan_name(arguments, plan))
    verification = catalog.last_verification(repository, record)
    document = {
        **summary(record, parts=arguments.parts),
        "verification": backup.dump_plain(verification) if verification else None,
    }
    text: list[RenderableType] = [
        f"Backup {record.backup_id} of plan {record.plan_name}, in {repository.url}",
        "",
        lines([*_facts(record, verification)]),
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
        text += ["", write_picture(arguments.picture, telemetry_svg(telemetry, title))]
    if arguments.parts:
        prefix = backup.parts_prefix(record.plan_name, record.backup_id)
        text += ["", f"Parts, under {prefix}", _parts(record, prefix)]
    return Answer(document, text)


def _entry(record: BackupRecord, verification: Verification | None) -> dict[str, Any]:
    return {
        "backup_id": record.backup_id,
        "plan_name": record.plan_name,
        "taken_at": record.snapshot.taken_at.isoformat(),
        "database_size": record.database_size,
        "stored_size": record.stored_size,
        "seconds": record.seconds,
        "server_version": record.snapshot.cluster.server_version,
        "encrypted": bool(record.snapshot.plan["recipients"]),
        "verdict": verification.verdict.value if verification else None,
        "verified_at": verification.verified_at.isoformat() if verification else None,
    }


def _table(found: list[tuple[BackupRecord, Verification | None]]) -> FittingTable:
    records = [record for record, _ in found]
    verdicts = [verification.verdict.value if verification else _NOT_VERIFIED for _, verification in found]
    return FittingTable(
        [
            Column("BACKUP", [record.backup_id for record in records]),
            Column("PLAN", [record.plan_name for record in records], rank=2),
            # The id says it, too.
            Column("TAKEN AT (UTC)", [f"{record.snapshot.taken_at:%Y-%m-%d %H:%M}" for record in records], rank=6),
            Column("DATABASE", [str(Size(record.database_size)) for record in records], rank=1, right=True),
            Column("STORED", [str(Size(record.stored_size)) for record in records], rank=3, right=True),
            Column("DURATION", [duration(record.seconds) for record in records], rank=4, right=True),
            Column("POSTGRESQL", [version(record.snapshot.cluster) for record in records], rank=5),
            Column("VERIFIED", verdicts),
        ]
    )


def _facts(record: BackupRecord, verification: Verification | None) -> Iterator[tuple[str, str]]:
    snapshot, cluster = record.snapshot, record.snapshot.cluster
    yield "taken at", f"{snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC, by {record.written_by}"
    yield "verification", _verified(verification)
    for problem in verification.problems if verification else ():
        yield "", problem
    yield "contains", f"every transaction committed before {snapshot.lsn}"
    yield "cluster", f"PostgreSQL {version(cluster)}, system {cluster.system_identifier}, timeline {cluster.timeline}"
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
        return "; ".join(f"{key.replace('_', ' ')} {_plain(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, str) and value.endswith("B/s"):
        return str(Rate.parse(value))
    if isinstance(value, str) and re.fullmatch(r"\d+B", value):
        return str(Size.parse(value))
    return str(value) or "none"


def _on(value: bool) -> str:
    return "on" if value else "off"
