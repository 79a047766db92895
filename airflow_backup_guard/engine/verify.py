"""Reads a backup back from where it is stored, and says of every object what state it is in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import BinaryIO, cast

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord, StoredPart
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.manifest import BackupManifest, parse_manifest
from airflow_backup_guard.core.verification import ObjectState, ObjectVerdict, Verification, judge
from airflow_backup_guard.core.wal import SegmentHeader, parse_segment_header, segment_name, segment_names
from airflow_backup_guard.engine.archive import ArchiveReader, system_identifier
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, BackupStopped, ObjectMissing
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import DecodedReader

_CHUNK = 1 << 20


def verify(
    record: BackupRecord,
    repository: Repository,
    *,
    identities: Sequence[str] = (),
    stop: Stop | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Read everything, judge it, and store the result beside the backup.

    ``identities`` are age private keys; without them an encrypted backup's content stays ``locked``. ``on_progress``
    is given the bytes read and the bytes that there are to read, both as stored. Raises only for ``stop``, and if the
    result cannot be stored; what cannot be read is part of the result.
    """
    result = _Reading(record, repository, identities, stop or Stop(), on_progress).run()
    repository.put(backup.verification_key(record.plan_name, record.backup_id), backup.dump(result))
    return result


class _Reading:
    def __init__(
        self,
        record: BackupRecord,
        repository: Repository,
        identities: Sequence[str],
        stop: Stop,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self.record = record
        self.repository = repository
        self.identities = identities
        self.stop = stop
        self.on_progress = on_progress
        self.done = 0
        self.verdicts: dict[str, ObjectVerdict] = {}
        self.manifest: BackupManifest | None = None
        self.archives: ArchiveReader | None = None
        self.segments: dict[str, SegmentHeader] = {}

    def run(self) -> Verification:
        began = time.monotonic()
        readers = {
            "manifest": self._read_manifest,
            "archive": self._read_archive,
            "wal": self._read_segment,
            "telemetry": self._read_plain,
        }
        for kind, read in readers.items():
            for part in self.record.parts_of(kind):
                self.verdicts[part.key] = self._examine(part, read)
        checks = tuple(self._checks())
        objects = tuple(self.verdicts[part.key] for part in self.record.parts)
        return Verification(
            format=backup.FORMAT,
            backup_id=self.record.backup_id,
            verdict=judge(objects, checks),
            verified_at=datetime.now(timezone.utc),
            seconds=round(time.monotonic() - began, 3),
            bytes_read=self.done,
            files=self.archives.files if self.archives else 0,
            objects=objects,
            checks=checks,
        )

    def _examine(self, part: StoredPart, read: Callable[[StoredPart, DecodedReader], str]) -> ObjectVerdict:
        """Read one object through; ``read`` gets its decoded content and returns what is inconsistent in it."""
        locked = part.key.endswith(".age") and not self.identities
        try:
            stored = _Watched(self.repository.reader(part.key), self._on_bytes)
            with DecodedReader(cast("BinaryIO", stored), part.key, self.identities) as content:
                try:
                    problem = "" if locked else read(part, content)
                    state = ObjectState.INCONSISTENT if problem else ObjectState.OK
                except BackupDamaged as error:
                    state, problem = ObjectState.INCONSISTENT, str(error)
                content.skip_rest()
        except ObjectMissing:
            return ObjectVerdict(part.key, ObjectState.MISSING, "it is not in the repository")
        except BackupStopped:
            raise
        except BackupGuardError as error:
            return ObjectVerdict(part.key, ObjectState.UNREADABLE, str(error))
        if content.stored_size != part.size:
            found = f"{content.stored_size} bytes are stored, and {part.size} were written"
            return ObjectVerdict(part.key, ObjectState.RESIZED, found)
        if content.stored_sha256 != part.sha256:
            return ObjectVerdict(part.key, ObjectState.CHANGED, f"its SHA-256 is {content.stored_sha256} now")
        if locked:
            return ObjectVerdict(part.key, ObjectState.LOCKED, "give an identity to look into it")
        return ObjectVerdict(part.key, state, problem)

    def _chunks(self, content: DecodedReader) -> Iterator[bytes]:
        while chunk := content.read(_CHUNK):
            yield chunk

    def _read_plain(self, part: StoredPart, content: DecodedReader) -> str:
        size = sum(len(chunk) for chunk in self._chunks(content))
        return "" if size == part.content_size else f"holds {size} bytes, and {part.content_size} were written"

    def _read_manifest(self, part: StoredPart, content: DecodedReader) -> str:
        self.manifest = parse_manifest(b"".join(self._chunks(content)))
        self.archives = ArchiveReader(self.manifest)
        return ""

    def _read_archive(self, part: StoredPart, content: DecodedReader) -> str:
        if self.archives is None:
            return self._read_plain(part, content)  # the manifest's own state says that nothing more can be known
        known = set(self.archives.problems)
        for member in self.archives.members(part.name, content):
            for _ in member.content or ():
                pass
        self.archives.finish({part.name})
        return "; ".join(f"{path} {why}" for path, why in self.archives.problems.items() if path not in known)

    def _read_segment(self, part: StoredPart, content: DecodedReader) -> str:
        first = content.read(_CHUNK)
        size = len(first) + sum(len(chunk) for chunk in self._chunks(content))
        try:
            header = parse_segment_header(first)
        except ValueError as error:
            return str(error)
        self.segments[part.name] = header
        if size != self.record.snapshot.cluster.wal_segment_size:
            return f"holds {size} bytes, and a segment has {self.record.snapshot.cluster.wal_segment_size}"
        if segment_name(header.timeline, header.start, size) != part.name:
            return f"holds WAL from {header.start} on timeline {header.timeline}, which is not {part.name}"
        return ""

    def _on_bytes(self, count: int) -> None:
        self.stop.check()
        self.done += count
        self.on_progress(self.done, self.record.stored_size)

    def _checks(self) -> Iterator[Check]:
        record, cluster = self.record, self.record.snapshot.cluster
        needed = set(segment_names(record.timeline, record.start_lsn, record.end_lsn, cluster.wal_segment_size))
        missing = sorted(needed - {part.name for part in record.parts_of("wal")})
        yield _check("WAL", not missing, f"{len(needed)} segments from {record.start_lsn} to {record.end_lsn}", missing)
        covered = record.end_lsn >= record.snapshot.lsn
        yield _check("snapshot", covered, f"it ends at {record.end_lsn}, and the snapshot is at {record.snapshot.lsn}")
        archives = {"base", *(str(tablespace.oid) for tablespace in record.tablespaces)}
        wrong = sorted(archives ^ {part.name for part in record.parts_of("archive")})
        yield _check("archives", not wrong, f"{len(archives)} expected", wrong)
        if self.manifest is None or self.archives is None:
            yield Check("identity", CheckStatus.UNKNOWN, "the content could not be read")
            return
        # A standby's backup ends where it is consistent, and its WAL where the snapshot was, if that is later.
        ranges = {(r.timeline, r.start, max(r.end, record.snapshot.lsn)) for r in self.manifest.wal_ranges}
        same_range = (record.timeline, record.start_lsn, record.end_lsn) in ranges
        yield _check("WAL range", same_range, "the record's is the manifest's" if same_range else f"manifest: {ranges}")
        found = {header.system_identifier for header in self.segments.values()}
        if self.manifest.system_identifier is not None:
            found.add(self.manifest.system_identifier)
        detail = f"system {cluster.system_identifier}"
        if not self.archives.control_file:
            yield Check("identity", CheckStatus.UNKNOWN, "the control file could not be read")
            return
        found.add(system_identifier(self.archives.control_file))
        yield _check(
            "identity", found == {cluster.system_identifier}, detail, sorted(found - {cluster.system_identifier})
        )


class _Watched:
    """A stored object that tells how many bytes were read of it."""

    def __init__(self, stored: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._stored = stored
        self._on_bytes = on_bytes

    def read(self, size: int) -> bytes:
        data = self._stored.read(size)
        self._on_bytes(len(data))
        return data

    def close(self) -> None:
        self._stored.close()


def _check(name: str, passed: bool, detail: str, wrong: Sequence[str] = ()) -> Check:
    status = CheckStatus.OK if passed else CheckStatus.FAILED
    return Check(name, status, detail + (f"; not so: {', '.join(wrong)}" if wrong and not passed else ""))
