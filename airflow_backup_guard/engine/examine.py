"""Looks into the stored objects of one backup, and gathers what they say of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import BinaryIO, cast

from airflow_backup_guard.core.backup import BackupRecord, StoredPart
from airflow_backup_guard.core.manifest import BackupManifest, bound_of, parse_manifest
from airflow_backup_guard.core.verification import Level, ObjectReading, ObjectState, ObjectVerdict
from airflow_backup_guard.engine.archive import ArchiveReader, system_identifier
from airflow_backup_guard.engine.archive_pages import ArchivePages
from airflow_backup_guard.engine.reading import MeteredReader, ReadingMeter
from airflow_backup_guard.engine.wal_segments import WalSegments
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, BackupStopped, ObjectMissing, RestoreRefused
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import DecodedReader


@dataclass
class _Looked:
    """What a look inside one object found; ``problem`` is empty if all is right, ``whole`` whether it could be told."""

    problem: str = ""
    whole: bool = True
    files: int = 0
    pages: int = 0


_Look = Callable[[StoredPart, DecodedReader], _Looked]


class Examination:
    """Objects of one backup; ``inside`` is whether to look into them. Any thread may read any of them.

    What they told: the ``manifest``; ``system_identifiers`` of all that have one; whether the ``control_file`` is
    among them; whether any archive was (``archives_read``), its ``wrong_files`` with a wrong page, and
    ``other_pages``, how many are of another size than can be checked; and the ``wal``. Each is None, False or empty
    unless it was read.
    """

    def __init__(
        self,
        record: BackupRecord,
        repository: Repository,
        identities: Sequence[str],
        inside: bool,
        tags: dict[str, str],
        meter: ReadingMeter,
    ) -> None:
        self._record = record
        self._repository = repository
        self._identities = identities
        self._inside = inside
        self._tags = tags
        self._meter = meter
        self.manifest: BackupManifest | None = None
        self.system_identifiers: set[str] = set()
        self.control_file = False
        self.archives_read = False
        self.wrong_files: set[str] = set()
        self.other_pages = 0
        self.wal: WalSegments | None = None

    def read_manifest(self, part: StoredPart) -> ObjectVerdict:
        """Comes before the archives."""
        return self._examine(part, self._look_at_manifest)

    def read_object(self, part: StoredPart) -> ObjectVerdict:
        """An archive or telemetry."""
        return self._examine(part, self._look_at_archive if part.kind == "archive" else self._look_at_plain)

    def read_wal(self, parts: Iterable[StoredPart]) -> list[ObjectVerdict]:
        """All segments that there are."""
        wal, reading = WalSegments(self._record), {part.name: part for part in parts}
        verdicts = []
        for name in sorted({*reading, *wal.names}):
            if name not in reading:
                wal.miss(name)
                continue
            verdict = self._examine(reading[name], lambda part, content: _Looked(wal.look(part.name, content)))
            if verdict.state is not ObjectState.OK:
                wal.miss(name)
            verdicts.append(verdict)
        wal.finish()
        if any(verdict.examined is Level.CONSISTENT for verdict in verdicts):
            self.wal = wal
            self.system_identifiers |= wal.system_identifiers
        return verdicts

    def _examine(self, part: StoredPart, look: _Look) -> ObjectVerdict:
        """Read one object through; ``look`` gets its decoded content."""
        locked = part.key.endswith(".age") and not self._identities
        inside = self._inside and not locked
        looked, state = _Looked(), ObjectState.OK
        try:
            stored = MeteredReader(self._repository.reader(part.key), self._meter)
            most = bound_of(part)
            with DecodedReader(cast("BinaryIO", stored), part.key, self._identities, most=most) as content:
                if inside:
                    try:
                        looked = look(part, content)
                    except BackupDamaged as error:
                        looked.problem = str(error)
                    state = ObjectState.INCONSISTENT if looked.problem else ObjectState.OK
                content.skip_rest()
        except ObjectMissing:
            return ObjectVerdict(part.key, ObjectState.MISSING, "it is not in the repository", Level.STORED)
        except (BackupStopped, RestoreRefused):
            raise  # a key that does not fit says nothing of the backup
        except BackupGuardError as error:
            return ObjectVerdict(part.key, ObjectState.UNREADABLE, str(error), Level.STORED)
        reading = ObjectReading(
            datetime.now(timezone.utc), self._tags[part.key], files=looked.files, pages=looked.pages
        )
        if content.stored_size != part.size:
            found = f"{content.stored_size} bytes are stored, and {part.size} were written"
            return ObjectVerdict(part.key, ObjectState.RESIZED, found, Level.STORED, reading)
        if content.stored_sha256 != part.sha256:
            found = f"its SHA-256 is {content.stored_sha256} now"
            return ObjectVerdict(part.key, ObjectState.CHANGED, found, Level.READABLE, reading)
        if self._inside and locked:
            return ObjectVerdict(
                part.key, ObjectState.LOCKED, "give an identity to look into it", Level.READABLE, reading
            )
        examined = Level.CONSISTENT if inside and looked.whole else Level.READABLE
        return ObjectVerdict(part.key, state, looked.problem, examined, reading)

    def _look_at_plain(self, part: StoredPart, content: DecodedReader) -> _Looked:
        size = sum(len(chunk) for chunk in _chunks(content))
        right = size == part.content_size
        return _Looked("" if right else f"holds {size} bytes, and {part.content_size} were written")

    def _look_at_manifest(self, part: StoredPart, content: DecodedReader) -> _Looked:
        self.manifest = parse_manifest(b"".join(_chunks(content)))
        if self.manifest.system_identifier is not None:
            self.system_identifiers.add(self.manifest.system_identifier)
        return _Looked()

    def _look_at_archive(self, part: StoredPart, content: DecodedReader) -> _Looked:
        if self.manifest is None:
            # The manifest's own state says that no more can be known.
            return replace(self._look_at_plain(part, content), whole=False)
        archive = ArchiveReader(self.manifest, part.name)
        pages = ArchivePages(self._record.start_lsn) if self._record.snapshot.cluster.data_checksums else None
        archive.read(content, pages.begin if pages else lambda piece: lambda: None)
        if archive.control_file:
            self.control_file = True
            self.system_identifiers.add(system_identifier(archive.control_file))
        self.archives_read = True
        problems = archive.problems
        if pages:
            self.other_pages += pages.other_size
            self.wrong_files |= pages.wrong.keys()
            for path, found in sorted(pages.wrong.items()):
                problems.setdefault(path, f"{found}: it came so from the database, which is damaged there")
        problem = "; ".join(f"{path} {why}" for path, why in problems.items())
        return _Looked(problem, files=archive.files, pages=pages.checked if pages else 0)


def _chunks(content: DecodedReader) -> Iterator[bytes]:
    while chunk := content.read1():
        yield chunk
