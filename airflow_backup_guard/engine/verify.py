"""Holds a backup, as it is stored, against its record and against what PostgreSQL promises, level by level."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord, StoredPart
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.core.verification import (
    Evidence,
    Level,
    ObjectState,
    ObjectVerdict,
    Verification,
    coverage,
    evidence,
    judge,
    with_evidence,
)
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.examine import Examination
from airflow_backup_guard.engine.reading import ReadingMeter
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.survey import Survey
from airflow_backup_guard.engine.verify_checks import CONTENT_CHECKS, content_checks, record_checks
from airflow_backup_guard.errors import BackupDamaged
from airflow_backup_guard.repository.base import Repository

WORKERS = 4
"""Objects that are read at the same time; each takes a few MB of memory."""


def verify(
    record: BackupRecord,
    repository: Repository,
    *,
    level: Level = Level.CONSISTENT,
    max_age: timedelta | None = None,
    max_rate: Rate | None = None,
    workers: int = WORKERS,
    identities: Sequence[str] = (),
    stop: Stop | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Find out whether the backup reaches ``level``, up to ``consistent``, and store the result beside it.

    Every object is looked for. Those that were read whole and right no longer than ``max_age`` ago, and have not
    changed in the repository since, are not read again; without it, all are. ``max_rate`` holds for all ``workers``
    together. ``identities`` are age private keys; without them an encrypted backup's content stays ``locked``.
    ``on_progress`` is given the bytes read and the bytes that there are to read, both as stored.

    Raises :class:`BackupStopped` for ``stop`` and :class:`RestoreRefused` if there are identities and none opens it,
    with nothing stored of what was found until then, whatever keeps the result from being stored, and
    :class:`BackupMissing` if the backup has expired meanwhile; what cannot be read is part of the result.
    """
    run = _Run(record, repository, Level(level), max_age, identities)
    result = run.result(ReadingMeter(run.size, max_rate, stop or Stop(), on_progress), workers)
    if not result.verdict.trusted:
        catalog.refuse_gone(repository, record)  # what is missing may have expired while it was being read
    return _store(record, repository, result)


def record_drill(
    record: BackupRecord, repository: Repository, *, passed: bool, detail: str, at: datetime
) -> Verification:
    """Store beside a backup that a PostgreSQL has run on it, or has not, and why; ``at`` is when that was."""
    known = catalog.last_verification(repository, record) or verify(record, repository, level=Level.STORED)
    status = CheckStatus.OK if passed else CheckStatus.FAILED
    return _store(record, repository, with_evidence(known, Evidence(Level.RESTORED, status, at, detail)))


def _store(record: BackupRecord, repository: Repository, result: Verification) -> Verification:
    repository.put(backup.verification_key(record.plan_name, record.backup_id), backup.dump(result))
    return result


class _Run:
    """One verification; ``size`` is how many bytes it will read."""

    def __init__(
        self,
        record: BackupRecord,
        repository: Repository,
        level: Level,
        max_age: timedelta | None,
        identities: Sequence[str],
    ) -> None:
        self._began = time.monotonic()
        self._now = datetime.now(timezone.utc)
        self._record, self._repository, self._level, self._identities = record, repository, level, identities
        self._record_sha256 = hashlib.sha256(backup.dump(record)).hexdigest()
        self._previous = self._usable_previous()
        self._survey = Survey(
            record, repository, level, self._previous, max_age=max_age, identities=identities, now=self._now
        )
        self._verdicts = self._survey.verdicts
        self.size = sum(part.size for part in self._survey.to_read)

    def result(self, meter: ReadingMeter, workers: int) -> Verification:
        inside = self._level.rank >= Level.CONSISTENT.rank
        seen = Examination(self._record, self._repository, self._identities, inside, self._survey.tags, meter)
        digests = self._survey.compare_digests(meter.stop, workers)
        self._read(seen, meter, workers)
        objects = tuple(self._verdicts[part.key] for part in self._record.parts)
        of_record = tuple(record_checks(self._record, self._repository))
        of_content = tuple(self._content_checks(seen, objects))
        verification = Verification(
            format=backup.FORMAT,
            backup_id=self._record.backup_id,
            verdict=judge(objects, [*of_record, *of_content]),
            verified_at=datetime.now(timezone.utc),
            seconds=round(time.monotonic() - self._began, 3),
            bytes_read=meter.done,
            files=sum(verdict.reading.files for verdict in objects if verdict.reading is not None),
            objects=objects,
            checks=(*of_record, *of_content),
            evidence=evidence(
                objects, of_record, of_content, coverage(len(objects), self._record.stored_size, digests), self._now
            ),
            record_sha256=self._record_sha256,
        )
        drills = [e for e in (self._previous.evidence if self._previous else ()) if e.level is Level.RESTORED]
        return with_evidence(verification, drills[0]) if drills else verification

    def _usable_previous(self) -> Verification | None:
        try:
            previous = catalog.last_verification(self._repository, self._record)
        except BackupDamaged:
            return None
        return previous if previous is not None and previous.record_sha256 == self._record_sha256 else None

    def _read(self, seen: Examination, meter: ReadingMeter, workers: int) -> None:
        for part in self._of_kind("manifest"):
            self._keep(seen.read_manifest(part))
        wal = self._of_kind("wal")
        others = sorted(self._of_kind("archive", "telemetry"), key=lambda part: part.content_size, reverse=True)
        # The largest first, as what is left at the end is read by one alone.
        jobs: list[Callable[[], Iterable[ObjectVerdict]]] = [lambda: seen.read_wal(wal)] if wal else []
        jobs += [lambda part=part: [seen.read_object(part)] for part in others]  # type: ignore[misc]
        with ThreadPoolExecutor(workers, thread_name_prefix="verify") as pool:
            running = [pool.submit(job) for job in jobs]
            try:
                for job in as_completed(running):
                    for verdict in job.result():
                        self._keep(verdict)
            except BaseException:
                meter.cancel()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _keep(self, verdict: ObjectVerdict) -> None:
        known = self._verdicts[verdict.key]
        right = verdict.state in (ObjectState.OK, ObjectState.LOCKED)
        if right and known.state is ObjectState.OK and known.examined.rank > verdict.examined.rank and known.reading:
            # The bytes are those that were looked into before, so what was found in them holds.
            reading = replace(known.reading, read_at=verdict.reading.read_at) if verdict.reading else None
            verdict = replace(known, reading=reading)
        self._verdicts[verdict.key] = verdict

    def _of_kind(self, *kinds: str) -> list[StoredPart]:
        return sorted((part for part in self._survey.to_read if part.kind in kinds), key=lambda part: part.name)

    def _content_checks(self, seen: Examination, objects: Sequence[ObjectVerdict]) -> Iterator[Check]:
        pages = sum(verdict.reading.pages for verdict in objects if verdict.reading is not None)
        made = {check.name: check for check in content_checks(self._record, seen, pages)}
        known = {check.name: check for check in self._previous.checks} if self._previous else {}
        for name in CONTENT_CHECKS:
            if name in made or name in known:
                yield made.get(name) or known[name]
            elif self._level.rank >= Level.CONSISTENT.rank:
                yield Check(name, CheckStatus.UNKNOWN, "the content could not be read")
