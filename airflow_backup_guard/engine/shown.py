"""What a repository has of one copy or guarded command, running or over, for those who look on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import Attempt, BackupRecord
from airflow_backup_guard.core.command import CommandReceipt, command_prefix, receipt_key
from airflow_backup_guard.core.command_report import command_title, receipt_lines
from airflow_backup_guard.core.report import record_lines
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.errors import BackupGuardError, ObjectMissing
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_lines, read_whole

_READERS = 4


@dataclass(frozen=True)
class Kept:
    """``receipt`` is pairs of a name and what there is to say, ``outcome`` how it ended without one, ``telemetry`` its
    lines, the oldest first, and ``notes`` why something of it cannot be shown."""

    outcome: str = ""
    receipt: tuple[tuple[str, str], ...] = ()
    telemetry: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def kept_of_copy(repository: Repository, plan_name: str, backup_id: str) -> Kept:
    """Of a copy. Raises what the repository raises; a record that cannot be read is a note."""
    receipt: tuple[tuple[str, str], ...] = ()
    outcome = ""
    notes: list[str] = []
    try:
        receipt = tuple(_of_record(repository, catalog.record_of(repository, plan_name, backup_id)))
    except ObjectMissing:
        outcome = _outcome(repository, plan_name, backup_id)
    except BackupGuardError as error:
        notes.append(str(error))
    lines = _telemetry(repository, backup.parts_prefix(plan_name, backup_id), notes)
    return Kept(outcome, receipt, tuple(lines), tuple(notes))


def kept_of_command(repository: Repository, plan_name: str, command_id: str) -> Kept:
    """Of a guarded command."""
    notes: list[str] = []
    lines = _telemetry(repository, command_prefix(plan_name, command_id), notes)
    try:
        key = receipt_key(plan_name, command_id)
        receipt = backup.load(CommandReceipt, read_whole(repository, key), key)
    except ObjectMissing:
        return Kept(telemetry=tuple(lines), notes=tuple(notes))
    except BackupGuardError as error:
        return Kept(telemetry=tuple(lines), notes=(*notes, str(error)))
    told = tuple(receipt_lines(receipt)) if receipt.ended_at else ()
    return Kept(command_title(receipt) if receipt.ended_at else "", told, tuple(lines), tuple(notes))


def _of_record(repository: Repository, record: BackupRecord) -> Iterator[tuple[str, str]]:
    yield from record_lines(record)
    try:
        verification = catalog.last_verification(repository, record)
    except BackupGuardError as error:
        yield "verified", str(error)
        return
    if verification is None:
        yield "verified", "not yet"
    else:
        yield "verified", f"{verification.verdict.value}, {verification.verified_at:%Y-%m-%d %H:%M:%S} UTC"


def _outcome(repository: Repository, plan_name: str, backup_id: str) -> str:
    key = backup.attempt_key(plan_name, backup_id)
    try:
        return backup.load(Attempt, read_whole(repository, key), key).outcome or ""
    except ObjectMissing:
        return "The repository has nothing of it any more."
    except BackupGuardError as error:
        return str(error)


def _telemetry(repository: Repository, prefix: str, notes: list[str]) -> list[dict[str, Any]]:
    keys = sorted(info.key for info in repository.list(prefix) if "/telemetry/" in info.key)
    if any(key.endswith(".age") for key in keys):
        notes.append("The backup is encrypted, its telemetry with it: only what its task keeps can be shown here.")
        return []
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(lambda key: _piece(repository, key), keys))
    notes += [piece for piece in found if isinstance(piece, str)]
    return [line for piece in found if not isinstance(piece, str) for line in piece]


def _piece(repository: Repository, key: str) -> list[dict[str, Any]] | str:
    try:
        return read_lines(repository, key)
    except ObjectMissing:
        return []  # removed just now, with its backup
    except BackupGuardError as error:
        return f"{key} cannot be read: {error}"
