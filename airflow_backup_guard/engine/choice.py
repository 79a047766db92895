"""Which backup is meant: by its id, the newest, or the newest from before a moment. No damaged one is taken unasked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.errors import BackupDamaged, BackupMissing, InvalidPlan
from airflow_backup_guard.repository.base import Repository

LATEST = "latest"


@dataclass(frozen=True)
class Choice:
    """A backup, and in ``warnings`` what there is to know of it and of newer ones that were passed over."""

    record: BackupRecord
    warnings: tuple[str, ...] = ()


def choose(
    repository: Repository, backup_id: str = LATEST, plan_name: str | None = None, *, before: datetime | None = None
) -> Choice:
    """The backup by this id, or the newest one (``"latest"``) that was done by ``before``, which has a time zone.

    A backup restores to the moment at which it ended. One that was never read back is taken all the same, as a restore
    checks every byte, and a newer one loses less; one that is known to be damaged, or whose record cannot be read,
    is passed over, unless its id is given. Raises :class:`BackupMissing`.
    """
    if backup_id != LATEST:
        record = catalog.find(repository, backup_id, plan_name)
        return Choice(record, tuple(_warnings(repository, record)))
    _refuse_several_plans(repository, plan_name)
    passed: list[str] = []
    for plan, candidate in reversed(list(catalog.ids(repository, plan_name))):
        try:
            record = catalog.find(repository, candidate, plan)
        except BackupDamaged as error:
            passed.append(f"passed over: {error.message}")
            continue
        if before is not None and record.ended_at > before:
            continue
        warnings = list(_warnings(repository, record))
        if _is_damaged(repository, record):
            passed += [f"passed over: {warning}" for warning in warnings]
            continue
        return Choice(record, (*passed, *warnings))
    when = f" that was done by {_utc(before)}" if before is not None else ""
    seen = f" Not counting {'; '.join(passed)}" if passed else ""
    raise BackupMissing(
        f"{repository.url} has no backup{when}.{seen}",
        remedy="See backup-guard list. A damaged backup is restored only by its id.",
    )


def parse_moment(text: str | datetime, field: str) -> datetime:
    """Read ``2026-11-23 12:00+01:00``, or a datetime with a zone; raises :class:`InvalidPlan` without one."""
    allowed = 'a date, a time and its zone, such as "2026-11-23 12:00+01:00" or "2026-11-23T11:00:00Z"'
    moment = text
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.strip().replace("Z", "+00:00"))
        except ValueError:
            raise InvalidPlan(field, text, allowed) from None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidPlan(field, str(text), allowed)
    return moment


def _warnings(repository: Repository, record: BackupRecord) -> Iterator[str]:
    try:
        verification = catalog.last_verification(repository, record)
    except BackupDamaged as error:
        yield f"whether {record.backup_id} was ever read back is not known: {error.message}"
        return
    if verification is None:
        yield f"backup {record.backup_id} was never verified"
    elif not verification.verdict.trusted:
        when = _utc(verification.verified_at)
        yield f"backup {record.backup_id} was found to be {verification.verdict.value} on {when}"


def _is_damaged(repository: Repository, record: BackupRecord) -> bool:
    try:
        verification = catalog.last_verification(repository, record)
    except BackupDamaged:
        return False  # that says nothing of the backup, and the restore looks at every byte
    return verification is not None and verification.verdict is Verdict.DAMAGED


def _refuse_several_plans(repository: Repository, plan_name: str | None) -> None:
    if plan_name is None and len({plan for plan, _ in catalog.ids(repository, None)}) > 1:
        catalog.find(repository, LATEST)  # says so


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
