"""Records the load of a database into the repository, an entry at a time; packs old entries; reads all back."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone

from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.hours import WEEKS, check_weeks, learn
from airflow_backup_guard.core.hours_report import HoursReport
from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.core.load_history import (
    KEEP_DAYS,
    PACKED,
    LoadEntry,
    day_name,
    day_of,
    entry_key,
    load_prefix,
    packed,
    packed_key,
    summarize,
)
from airflow_backup_guard.core.quiet_hours import AT_LEAST, QUIET_BELOW, advise
from airflow_backup_guard.core.window_drift import standing
from airflow_backup_guard.engine.sampling import sampled
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, InvalidPlan, ObjectExists, ObjectMissing
from airflow_backup_guard.postgres.load_counters import read_counters
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import EncodingWriter, open_decoded
from airflow_backup_guard.repository.read import LARGEST, read_whole

SECONDS = 10.0
"""For how long one entry samples."""

_MOST_SECONDS = 300.0
_MOST_LOOSE = 96
_LISTINGS = 5
_READERS = 8  # fewer than the connections that boto3 keeps
_log = logging.getLogger(__name__)


def record(dsn: str, repository: Repository, plan_name: str, *, seconds: float = SECONDS, stop: Stop) -> LoadEntry:
    """Sample for ``seconds``, store the entry, and tidy up. A database that does not answer is an entry, too.

    Raises what the repository raises, :class:`BackupStopped`, and :class:`InvalidPlan` for more than five minutes.
    """
    if not 0 < seconds <= _MOST_SECONDS:
        raise InvalidPlan("seconds", seconds, f"more than 0, and {_MOST_SECONDS:.0f} at most")
    samples = asyncio.run(_all(sampled(dsn, seconds, stop)))
    try:
        counters, backup = read_counters(dsn)
    except BackupGuardError as error:
        counters, backup = None, None
        _log.warning("What happened since the last entry is not known: %s", error)
    stop.check()
    entry = summarize(samples, datetime.now(timezone.utc), counters, backup)
    store(repository, plan_name, entry)
    try:
        tidy(repository, plan_name, entry.at.date())
    except BackupGuardError as error:
        _log.warning("Old entries of the load could not be packed or removed; the next one tries again: %s", error)
    return entry


def report(
    repository: Repository,
    plan_name: str,
    calendar: OffPeakCalendar | None,
    *,
    tz: str | None = None,
    weeks: int = WEEKS,
    quiet_below: float = QUIET_BELOW,
    at_least: timedelta = AT_LEAST,
    now: datetime | None = None,
) -> HoursReport | None:
    """What is known of a plan's quiet hours, by the clock of ``tz`` or its calendar's; None if none is recorded.

    A calendar that is open always has no windows to hold against the load. Raises :class:`InvalidPlan`.
    """
    has_windows = calendar is not None and not calendar.always_open
    now = now or datetime.now(timezone.utc)
    zone = tz or (calendar.tz if calendar else "UTC")
    check_weeks(weeks)
    entries = read(repository, plan_name, (now - timedelta(weeks=weeks, days=1)).date())
    week = learn(entries, zone, now, weeks)
    if week is None:
        return None
    held = standing(week, calendar, quiet_below) if calendar and has_windows else None
    return HoursReport(plan_name, week, advise(week, quiet_below, at_least), calendar if has_windows else None, held)


def store(repository: Repository, plan_name: str, entry: LoadEntry) -> str:
    """Store one entry, and never in another's place; returns its key."""
    while True:
        key = entry_key(plan_name, entry.at, secrets.randbits(16))
        try:
            repository.put(key, entry.to_line(), if_absent=True)
        except ObjectExists:
            continue
        return key


def read(repository: Repository, plan_name: str, since: date = date(1970, 1, 1)) -> list[LoadEntry]:
    """All entries of a plan from the day ``since`` (UTC) on, by time, each once.

    What cannot be read is left out, and so not known.
    """
    contents: dict[str, bytes | None] = {}
    for _ in range(_LISTINGS):
        # What is packed meanwhile is gone, and in an object that a listing may have passed already: look again.
        listed = _keys(repository, plan_name)
        keys = [key for key in listed if key not in contents and str(day_of(key)) >= day_name(since)]
        if not keys:
            break
        contents.update(_contents(repository, keys))
    entries = []
    for line in packed(content for content in contents.values() if content is not None).splitlines():
        try:
            entries.append(LoadEntry.from_line(line, f"An entry under {load_prefix(plan_name)}"))
        except BackupDamaged as error:
            _log.warning("%s", error)
    return entries


def tidy(repository: Repository, plan_name: str, today: date, *, keep_days: int = KEEP_DAYS) -> None:
    """Pack one day that is over, or has very many entries, and remove what is older than the newest ``keep_days``.

    Days are counted, not held against the clock: a recorder whose clock is wrong must not remove what is good.
    """
    by_day: dict[str, list[str]] = {}
    for key in _keys(repository, plan_name):
        by_day.setdefault(str(day_of(key)), []).append(key)
    kept = sorted(by_day)[-keep_days:]
    repository.delete_all([key for day in by_day if day not in kept for key in by_day[day]])
    for day in kept:
        loose = [key for key in by_day[day] if not key.endswith(PACKED)]
        apart = len(by_day[day]) > 1 or loose
        due = len(loose) > _MOST_LOOSE or (day < day_name(today) and apart)
        if due and _pack(repository, plan_name, day, by_day[day]):
            break


def _pack(repository: Repository, plan_name: str, day: str, keys: Sequence[str]) -> bool:
    contents = {key: content for key, content in _contents(repository, keys).items() if content is not None}
    if len(contents) < 2 and all(key.endswith(PACKED) for key in contents):
        return False  # what is beside it is damaged, and left for a person to see
    content = packed(contents.values())
    key = packed_key(plan_name, day, content)
    with EncodingWriter(repository.writer(key)) as writer:
        writer.write(content)
        writer.commit()
    repository.delete_all([source for source in contents if source != key])
    return True


def _keys(repository: Repository, plan_name: str) -> list[str]:
    return [info.key for info in repository.list(load_prefix(plan_name)) if day_of(info.key)]


def _contents(repository: Repository, keys: Iterable[str]) -> dict[str, bytes | None]:
    """Lines by key: None for what is damaged, and none for what is gone."""

    def content(key: str) -> tuple[str, bytes | None] | None:
        try:
            if not key.endswith(PACKED):
                return key, read_whole(repository, key)
            with open_decoded(repository, key, most=LARGEST) as stream:
                return key, stream.read()
        except ObjectMissing:
            return None
        except BackupDamaged as error:
            _log.warning("%s", error)
            return key, None

    with ThreadPoolExecutor(_READERS) as pool:
        return dict(found for found in pool.map(content, keys) if found is not None)


async def _all(samples: AsyncIterator[LoadSample]) -> list[LoadSample]:
    return [sample async for sample in samples]
