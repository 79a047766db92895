"""The first step of a backup: check, and fix what it must contain."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import Attempt, Snapshot
from airflow_backup_guard.core.budget import forecast
from airflow_backup_guard.core.calendar import Because
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.units import Size, format_duration
from airflow_backup_guard.core.watchdog import Policy
from airflow_backup_guard.engine.ical import with_sources_read
from airflow_backup_guard.errors import BackupGuardError, PreflightFailed, PreflightNotYet
from airflow_backup_guard.postgres.check import Content, Preflight, preflight
from airflow_backup_guard.postgres.check_load import check_load_connection
from airflow_backup_guard.postgres.check_watchdog import check_may_end
from airflow_backup_guard.repository.age import check_recipients
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.once import put_once


@dataclass(frozen=True)
class Readiness:
    """Everything that was asked before a backup, of the database and of the repository."""

    database: Preflight
    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[Check]:
        """What stands in the way; a question without an answer does, too."""
        return [check for check in self.checks if check.status in (CheckStatus.FAILED, CheckStatus.UNKNOWN)]


def check(plan: BackupPlan, dsn: str, repository: Repository, *, load_dsn: str | None = None) -> Readiness:
    """Ask calendar, database and repository whether a backup may begin; changes nothing in any of them.

    A window that is closed now is in nobody's way if it will open: it is told when. ``load_dsn`` leads to the plan's
    load connection, if it has one.
    """
    now = datetime.now(timezone.utc)
    plan = with_sources_read(plan, now)
    window = _window_check(plan, now, may_wait=True)
    readiness = _check_all_but_the_window(plan, dsn, repository, load_dsn)
    return Readiness(readiness.database, (window, *readiness.checks))


def take_snapshot(
    plan: BackupPlan, dsn: str, repository: Repository, *, outside_window: bool = False, load_dsn: str | None = None
) -> Snapshot:
    """Check, then fix what the backup must contain, and open its attempt in the repository.

    Outside of the plan's windows not even the database is asked, unless with ``outside_window``. Raises
    :class:`PreflightFailed`, or :class:`PreflightNotYet` if waiting is all it takes.
    """
    plan = with_sources_read(plan, datetime.now(timezone.utc))
    if not outside_window:
        refuse_outside_window(plan)
    readiness = _check_all_but_the_window(plan, dsn, repository, load_dsn)
    if readiness.failed:
        raise _error(readiness.failed)
    cluster, content = readiness.database.cluster, readiness.database.content
    assert cluster is not None and content is not None, "no check failed, so all was found out"  # noqa: S101
    now = datetime.now(timezone.utc)
    snapshot = Snapshot(
        backup_id=backup.new_backup_id(now, secrets.randbits(16)),
        plan=plan.to_dict(),
        cluster=cluster,
        lsn=content.lsn,
        taken_at=now,
        size=content.size or 0,
        databases=content.databases,
        tablespaces=content.tablespaces,
        warnings=tuple(str(c) for c in readiness.checks if c.status is CheckStatus.WARNING),
        standby=content.standby,
    )
    attempt = backup.dump(Attempt(backup.FORMAT, snapshot))
    put_once(repository, backup.attempt_key(plan.name, snapshot.backup_id), attempt)
    return snapshot


def refuse_outside_window(plan: BackupPlan) -> None:
    """Raise :class:`PreflightNotYet` unless it is inside of the plan's windows; its sources must have been read."""
    window = _window_check(plan, datetime.now(timezone.utc))
    if window.status is CheckStatus.FAILED:
        raise _error([window])


def _check_all_but_the_window(plan: BackupPlan, dsn: str, repository: Repository, load_dsn: str | None) -> Readiness:
    database = preflight(dsn)
    size = database.content.size if database.content else None
    own = [*_repository_checks(plan, repository, size), *_encryption_checks(plan)]
    if load_dsn is not None:
        own.append(check_load_connection(load_dsn, database.cluster))
    if plan.watchdog.policy is Policy.TERMINATE and database.cluster is not None:
        own.append(check_may_end(dsn))
    if database.content is not None:
        own.append(_forecast_check(plan, database.content))
    return Readiness(database, (*database.checks, *own))


def _forecast_check(plan: BackupPlan, content: Content) -> Check:
    if content.size is None:
        return Check("forecast", CheckStatus.WARNING, "How long it takes is unknown, as the size is.")
    expected = forecast(plan, datetime.now(timezone.utc), content.size, content.wal_rate)
    if expected.fits:
        return Check("forecast", CheckStatus.OK, str(expected))
    remedy = f"At the window's end the plan says: {plan.at_window_end.value}. Raise max_rate, or start earlier."
    return Check("forecast", CheckStatus.WARNING, f"{expected}.", remedy)


def _window_check(plan: BackupPlan, now: datetime, *, may_wait: bool = False) -> Check:
    """Whether the calendar is open or, with ``may_wait``, is known to open one day."""
    name, calendar = "off-peak window", plan.calendar
    closed, start = calendar.why_closed(now), calendar.next_start(now)
    if not closed:
        return Check(name, CheckStatus.OK, f"it is inside of {calendar}, {calendar.tz}")
    reasons = "; ".join(reason.text for reason in closed)
    if start is None:
        remedy = "No window opens within two years."
        return Check(name, CheckStatus.FAILED, f"Closed: {reasons}.", remedy, transient=True)
    if may_wait and not any(reason.because is Because.UNKNOWN for reason in closed):
        wait = format_duration(timedelta(minutes=max(1, round((start.timestamp() - now.timestamp()) / 60))))
        detail = f"opens {start:%a %Y-%m-%d %H:%M %Z}, in {wait}; closed now: {reasons}"
        return Check(name, CheckStatus.OK, detail)
    remedy = f"The next window opens {start:%a %Y-%m-%d %H:%M %Z}."
    return Check(name, CheckStatus.FAILED, f"Closed: {reasons}.", remedy, transient=True)


def _repository_checks(plan: BackupPlan, repository: Repository, size: int | None) -> list[Check]:
    # A name of its own for every try, so that two checks at once do not meet.
    key = f"checks/{plan.name}/{secrets.token_hex(8)}"
    try:
        put_once(repository, key, b"Written by a preflight check.\n")
        repository.delete(key)
        free = repository.free_bytes()
    except BackupGuardError as error:
        detail, remedy = error.message, error.remedy
        return [Check("repository", CheckStatus.FAILED, detail, remedy, transient=error.retryable)]
    return [Check("repository", CheckStatus.OK, f"{repository.url} can be written to"), *_space(free, size)]


def _encryption_checks(plan: BackupPlan) -> list[Check]:
    if not plan.recipients:
        return []
    try:
        check_recipients(plan.recipients)
    except BackupGuardError as error:
        return [Check("encryption", CheckStatus.FAILED, error.message, error.remedy)]
    return [Check("encryption", CheckStatus.OK, f"to {len(plan.recipients)} recipients")]


def _space(free: int | None, size: int | None) -> list[Check]:
    if free is None or size is None:
        return []
    # Real data compresses to about half of its size; what does not even fit compressed ten to one never will.
    if free < size / 10:
        status, remedy = CheckStatus.FAILED, "Free space, expire old backups, or use another repository."
    elif free < size:
        status, remedy = CheckStatus.WARNING, "It fits only if the data compresses well."
    else:
        status, remedy = CheckStatus.OK, ""
    detail = f"{Size(free)} free for a database of {Size(size)}" + ("." if remedy else "")
    return [Check("repository space", status, detail, remedy)]


def _error(failed: list[Check]) -> PreflightFailed:
    kind = PreflightNotYet if all(check.transient for check in failed) else PreflightFailed
    return kind(
        "; ".join(f"{check.name}: {check.detail}" for check in failed), remedy=" ".join(c.remedy for c in failed)
    )
