"""What is there of a backup, what is known of it from earlier, and what must be read to reach a level."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord, StoredPart
from airflow_backup_guard.core.check import CheckStatus
from airflow_backup_guard.core.verification import Level, ObjectState, ObjectVerdict, Verification, is_fresh
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify_checks import CONTENT_CHECKS
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.repository.base import ObjectInfo, Repository


class Survey:
    """One look at all objects without reading any.

    ``verdicts`` by key: what is known of each object, from an earlier verification if it has not changed since;
    ``to_read``: those whose reading is needed for ``level``; ``tags`` by key: the repository's, of what is there.
    """

    def __init__(
        self,
        record: BackupRecord,
        repository: Repository,
        level: Level,
        previous: Verification | None,
        *,
        max_age: timedelta | None,
        identities: Sequence[str],
        now: datetime,
    ) -> None:
        self._record, self._repository, self._level = record, repository, level
        self._max_age, self._identities, self._now = max_age, identities, now
        self._doubted = previous is None or any(
            check.status is not CheckStatus.OK and check.name in CONTENT_CHECKS for check in previous.checks
        )
        self._prefix = backup.parts_prefix(record.plan_name, record.backup_id)
        self._listed: dict[str, ObjectInfo] = {}
        known = {verdict.key: verdict for verdict in previous.objects} if previous else {}
        try:
            self._listed = {info.key: info for info in repository.list(self._prefix)}
            self.verdicts = {part.key: self._verdict(part, known.get(part.key)) for part in record.parts}
        except BackupGuardError as error:
            self.verdicts = {
                part.key: ObjectVerdict(part.key, ObjectState.UNREADABLE, str(error), Level.STORED)
                for part in record.parts
            }
        self.tags = {key: info.tag for key, info in self._listed.items()}
        self.to_read = self._plan() if level is not Level.STORED else []

    def compare_digests(self, stop: Stop, workers: int) -> int:
        """Compare what is not read by the checksum that the repository keeps, if any; counts those that agree."""
        reading = {part.key for part in self.to_read}
        others = [part for part in self._record.parts if self._is_there(part) and part.key not in reading]

        def digest(part: StoredPart) -> str | None:
            try:
                return None if stop.requested else self._repository.digest(part.key)
            except BackupGuardError:
                return None  # that it is there, and its size, is known all the same

        with ThreadPoolExecutor(workers, thread_name_prefix="verify") as pool:
            digests = dict(zip((part.key for part in others), pool.map(digest, others), strict=True))
        stop.check()
        for part in others:
            if digests[part.key] not in (None, part.sha256):
                detail = f"the repository says that its SHA-256 is {digests[part.key]} now"
                self.verdicts[part.key] = ObjectVerdict(part.key, ObjectState.CHANGED, detail, Level.STORED)
        return sum(digests[part.key] == part.sha256 for part in others)

    def _verdict(self, part: StoredPart, known: ObjectVerdict | None) -> ObjectVerdict:
        info = self._listed.get(part.key)
        if info is None:
            detail = "it is not in the repository" if self._listed else f"nothing is left under {self._prefix}"
            return ObjectVerdict(part.key, ObjectState.MISSING, detail, Level.STORED)
        if info.size != part.size:
            detail = f"{info.size} bytes are stored, and {part.size} were written"
            return ObjectVerdict(part.key, ObjectState.RESIZED, detail, Level.STORED)
        if known is not None and known.reading is not None and known.reading.tag == info.tag:
            return known
        return ObjectVerdict(part.key, ObjectState.OK, "", Level.STORED)

    def _plan(self) -> list[StoredPart]:
        there = [part for part in self._record.parts if self._is_there(part)]
        stale = [part for part in there if not self._is_fresh(part)]
        kinds = {part.kind for part in stale if self._wanted(part) is Level.CONSISTENT}
        # Archives are held against the manifest, and the WAL is one chain.
        more = {"manifest"} if "archive" in kinds else set()
        more |= {"wal"} if "wal" in kinds else set()
        keys = {part.key for part in stale}
        return [part for part in there if part.key in keys or part.kind in more]

    def _is_there(self, part: StoredPart) -> bool:
        return part.key in self._listed and self._listed[part.key].size == part.size

    def _wanted(self, part: StoredPart) -> Level:
        locked = part.key.endswith(".age") and not self._identities
        return Level.READABLE if locked or self._level is Level.READABLE else Level.CONSISTENT

    def _is_fresh(self, part: StoredPart) -> bool:
        wanted = self._wanted(part)
        # A check over several objects that was not passed needs all of them again.
        if self._doubted and wanted is Level.CONSISTENT:
            return False
        return is_fresh(self.verdicts[part.key], wanted, self._max_age, self._now)
