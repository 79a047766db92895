"""Puts a backup back into a data directory on which PostgreSQL starts. Needs a repository, and no Airflow."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import BinaryIO, cast

from airflow_backup_guard.core.backup import BackupRecord, StoredPart, Tablespace
from airflow_backup_guard.core.manifest import BackupManifest, bound_of, parse_manifest
from airflow_backup_guard.core.units import Rate, Size
from airflow_backup_guard.engine import catalog, left_by
from airflow_backup_guard.engine.archive import CONTROL_FILE, ArchiveReader, Piece
from airflow_backup_guard.engine.member_writer import MemberWriter, Owner
from airflow_backup_guard.engine.reading import MeteredReader, ReadingMeter
from airflow_backup_guard.engine.restore_journal import Aim, Finished, Journal
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.target import CLAIM_FILE, Target, fsync, refuse_used, refusing
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, BackupStopped, ObjectMissing, RestoreRefused
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import DecodedReader

WORKERS = 4
"""Archives and WAL segments that are restored at the same time; each takes some 10 MB of memory, an archive for each of
its threads."""

_TABLESPACE_MAP = "tablespace_map"
# A backup of a standby holds it, and what is restored shall not go on following the primary.
_STANDBY_SIGNAL = "standby.signal"


@dataclass(frozen=True)
class Restored:
    """What a restore did: bytes ``read`` from the repository; bytes of content ``kept``, as they stood already."""

    read: int
    kept: int


def restore(
    record: BackupRecord,
    repository: Repository,
    target: Path,
    *,
    tablespaces: Mapping[str, Path] | None = None,
    identities: Sequence[str] = (),
    owner: Owner | None = None,
    max_rate: Rate | None = None,
    workers: int = WORKERS,
    resume: bool = False,
    stop: Stop | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Restored:
    """Write the backup into ``target``, which must be empty or not there, and check every byte of it meanwhile.

    ``tablespaces`` maps the location that a tablespace had to where it shall be now; one that is not named goes where
    it was. ``max_rate`` is the most that is read from the repository, by all ``workers`` together. ``on_progress`` is
    given the bytes written and the bytes there are to write, by one thread at a time.

    Raises :class:`RestoreRefused` before anything is written; and after everything that was written is removed again
    :class:`BackupDamaged`, :class:`BackupMissing` if the backup expires meanwhile, or the errors of the repository. The
    control file comes last: PostgreSQL does not start on a directory that is not whole. Meanwhile a file in each folder
    keeps every other restore out of it.

    With ``resume`` what was written stays after a failure, unless the backup is to blame; and where a restore of the
    same backup into the same folders for the same owner was cut off, whichever way, this one goes on: archives and
    segments that it had finished are read back from the folders, and fetched again only where they are not right.
    """
    stop = stop or Stop()
    meter = ReadingMeter(record.stored_size, max_rate, stop, lambda done, total: None)
    mapping = dict(tablespaces or {})
    run = _Restore(record, repository, target, mapping, identities, owner, meter, workers, resume, on_progress)
    run.refuse_what_would_harm()
    with catalog.gone_explained(repository, record), run.undone_or_kept_on_failure():
        run.claim()
        run.write()
    return Restored(meter.done, run.kept)


class _Restore:
    def __init__(
        self,
        record: BackupRecord,
        repository: Repository,
        target: Path,
        mapping: dict[str, Path],
        identities: Sequence[str],
        owner: Owner | None,
        meter: ReadingMeter,
        workers: int,
        resume: bool,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self.record = record
        self.repository = repository
        self.target = target.absolute()
        self.identities = identities
        self.owner = owner
        self.meter = meter
        self.workers = workers
        self.resume = resume
        self.on_progress = on_progress
        self.control_file = b""
        self.done = 0
        self.kept = 0
        self.found: set[str] = set()
        self.journal: Journal | None = None
        self.lock = threading.Lock()
        self.total = sum(p.content_size for p in record.parts if p.kind in ("archive", "wal"))
        self.locations = {t: mapping.pop(t.location, Path(t.location)).absolute() for t in record.tablespaces}
        self.unknown_locations = sorted(mapping)
        self.folders = [self.target, *self.locations.values()]
        self.places = left_by.Places(self.target, {str(t.oid): folder for t, folder in self.locations.items()})
        self.claims = Target(self.folders, record.backup_id)

    def refuse_what_would_harm(self) -> None:
        archives = sorted(["base", *(str(tablespace.oid) for tablespace in self.record.tablespaces)])
        segments = [part.name for part in self.record.parts_of("wal")]
        if (
            [part.name for part in self.record.parts_of("archive")] != archives
            or len(self.record.parts_of("manifest")) != 1
            or len({*archives, *segments}) != len(archives) + len(segments)
        ):
            raise BackupDamaged(
                f"The record of backup {self.record.backup_id} is not that of a whole backup.",
                remedy="See backup-guard verify, and restore another backup.",
            )
        if self.unknown_locations:
            raise RestoreRefused(
                f"The backup has no tablespace at {', '.join(self.unknown_locations)}.",
                remedy=f"It has: {', '.join(t.location for t in self.locations) or 'none'}.",
            )
        if relative := [t.location for t in self.locations if not Path(t.location).is_absolute()]:
            raise RestoreRefused(
                f"The backup has tablespaces in place, which a restore cannot put back: {', '.join(relative)}.",
                remedy="Restore it by hand, as docs/format.md shows.",
            )
        if not self.identities and any(part.key.endswith(".age") for part in self.record.parts):
            raise RestoreRefused(
                f"Backup {self.record.backup_id} is encrypted.", remedy="Give the age identity that opens it."
            )
        for one, other in combinations(self.folders, 2):
            if one == other or one in other.parents or other in one.parents:
                raise RestoreRefused(
                    f"{one} and {other} cannot both be restored to: one is or holds the other.",
                    remedy="Give each tablespace a folder of its own, outside of the data directory.",
                )
        for folder in self.folders:
            if not (self.resume and (folder / CLAIM_FILE).is_file()):
                refuse_used(folder)

    def claim(self) -> None:
        self.claims.claim(resume=self.resume)
        aim = Aim.of(self.record, self.locations, self.owner.user if self.owner else os.geteuid())
        if self.claims.adopted:
            self._go_on(aim)
        self._refuse_without_room()
        if self.journal is None:
            self.journal = Journal.begin(self.target, self.claims.token, aim)

    def _go_on(self, aim: Aim) -> None:
        """Take over what another restore left, if it is this one's own, and remove what it had not finished."""
        with refusing(self.target):
            journal = left_by.left_journal(self.places, self.claims.adopted, aim)
            if journal is not None:
                try:
                    segments = {part.name for part in self.record.parts_of("wal")}
                    self.found = left_by.survey(self.places, self.manifest, segments)
                    journal.go_on()
                except BaseException:
                    journal.close()
                    raise
            self.journal = journal
            self.claims.accept(journal.token if journal else None)
            for part in self._content_parts():
                if journal is not None and part.key not in journal.finished:
                    self._remove(part)
            for name in left_by.WRITTEN_LAST:
                if name not in self.manifest.files:
                    (self.target / name).unlink(missing_ok=True)

    def _remove(self, part: StoredPart) -> None:
        for path in self.found.intersection(left_by.files_of(part, self.manifest)):
            (self.target / path).unlink(missing_ok=True)

    def _refuse_without_room(self) -> None:
        places = {"base": self.target, **self.places.tablespaces}
        finished = self.journal.finished if self.journal else {}
        needed: defaultdict[int, int] = defaultdict(int)
        sharing: defaultdict[int, set[Path]] = defaultdict(set)
        for part in self._content_parts():
            if part.key not in finished:
                place = places[part.name] if part.kind == "archive" else self.target
                needed[place.stat().st_dev] += part.content_size
                sharing[place.stat().st_dev].add(place)
        for device, size in needed.items():
            free = shutil.disk_usage(next(iter(sharing[device]))).free
            if free < size:
                names = " and ".join(map(str, sorted(sharing[device])))
                raise RestoreRefused(
                    f"{names}: {Size(free)} are free there, and the backup needs {Size(size)}.",
                    remedy="Restore to a larger disk, or free space.",
                )

    @contextmanager
    def undone_or_kept_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if self.journal is not None:
                self.journal.close()
                if self.resume and not isinstance(error, (BackupDamaged, ObjectMissing)):
                    self.claims.keep()
                    remedy = "What was written is kept: the same restore with resume goes on."
                    if isinstance(error, OSError):
                        what = f"{error.filename or self.target}: {error.strerror}."
                        raise RestoreRefused(what, remedy=f"Free space or rights. {remedy}") from error
                    if isinstance(error, BackupGuardError):
                        error.advise(remedy, instead=isinstance(error, BackupStopped))
                    raise
            remedy = "What was written is removed again; free space or rights."
            if left := self.claims.undo():
                remedy = f"Remove what is left in {' and '.join(map(str, left))}."
            if isinstance(error, OSError):
                raise RestoreRefused(f"{error.filename or self.target}: {error.strerror}.", remedy=remedy) from error
            raise

    def write(self) -> None:
        for folder in self.folders:
            folder.chmod(0o700)
            self._own(folder)
        self._prepare()
        self._write_parts()
        self._write(self.target / "backup_manifest", iter([self.manifest_bytes]))
        if self._moved():
            (self.target / _TABLESPACE_MAP).unlink(missing_ok=True)
            self._write(self.target / _TABLESPACE_MAP, iter([_tablespace_map(self.locations)]))
        # All of it is on the disk before the control file makes it a data directory.
        self.claims.flush(self.meter.stop.check)
        if self.journal is not None:
            self.journal.remove()
        self.claims.release()
        control_file = self.target / CONTROL_FILE
        self._write(control_file, iter([self.control_file]))
        fsync(control_file)
        fsync(control_file.parent)

    def _moved(self) -> bool:
        return any(str(location) != tablespace.location for tablespace, location in self.locations.items())

    def _prepare(self) -> None:
        """What the base archive would make only in its middle, and the others need from the start."""
        for name in ("pg_wal", "pg_tblspc"):
            (self.target / name).mkdir(mode=0o700, exist_ok=True)
            self._own(self.target / name)
        for tablespace, location in self.locations.items():
            link = self.target / "pg_tblspc" / str(tablespace.oid)
            if not link.is_symlink():
                link.symlink_to(location)

    @cached_property
    def manifest_bytes(self) -> bytes:
        (part,) = self.record.parts_of("manifest")
        with self._open(part) as content:
            return content.read()

    @cached_property
    def manifest(self) -> BackupManifest:
        return parse_manifest(self.manifest_bytes)

    def _content_parts(self) -> list[StoredPart]:
        return [part for part in self.record.parts if part.kind in ("archive", "wal")]

    def _write_parts(self) -> None:
        _ = self.manifest  # read by one thread, for all
        # The largest first, so that no worker begins it when the others are done.
        parts = sorted(self._content_parts(), key=lambda p: -p.content_size)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="restore") as pool:
            try:
                for done in as_completed([pool.submit(self._write_part, part) for part in parts]):
                    done.result()
            except BaseException:
                self.meter.cancel()
                pool.shutdown(cancel_futures=True)
                raise

    def _write_part(self, part: StoredPart) -> None:
        journal = cast("Journal", self.journal)
        if (finished := journal.finished.get(part.key)) is not None:
            if self._stands(part, finished):
                return
            self._remove(part)
        finished = self._write_archive(part) if part.kind == "archive" else self._write_wal(part)
        journal.note(finished, durable=part.kind == "archive")

    def _stands(self, part: StoredPart, finished: Finished) -> bool:
        """Whether a part is there already, and right."""
        files = left_by.files_of(part, self.manifest)
        if part.kind == "wal":
            expected = {path: left_by.segment(finished, part.content_size) for path in files}
        else:
            left_out = {CONTROL_FILE, _STANDBY_SIGNAL}
            if self._moved():
                left_out.add(_TABLESPACE_MAP)  # it is written again at the end, and may have been before
            expected = {path: self.manifest.files[path] for path in files if path not in left_out}
            if CONTROL_FILE in files and not left_by.control_file_is_right(
                finished.control_file, self.manifest.files[CONTROL_FILE]
            ):
                return False
        if not expected.keys() <= self.found or not left_by.stands(
            self.places, expected, finished, self.meter.keep_going
        ):
            return False
        for path in (*finished.folders, *expected):
            self._own(self.target / path)
        self.control_file = self.control_file or finished.control_file
        with self.lock:
            self.kept += part.content_size
            self.done += part.content_size
            self.on_progress(self.done, self.total)
        return True

    def _write_archive(self, part: StoredPart) -> Finished:
        reader = ArchiveReader(self.manifest, part.name)

        def begin(piece: Piece) -> Callable[[], None]:
            left_out = piece.member.path in (CONTROL_FILE, _STANDBY_SIGNAL)
            return (lambda: None) if left_out else writer.begin(piece)

        with MemberWriter(self.target, self.owner) as writer, self._open(part) as stream:
            reader.read(stream, begin, self._progress)
        if reader.problems:
            path, why = next(iter(reader.problems.items()))
            raise BackupDamaged(
                f"{part.key}: {path} {why}.", remedy="See backup-guard verify, and restore another backup."
            )
        self.control_file = self.control_file or reader.control_file
        return Finished(part.key, folders=tuple(writer.folders), control_file=reader.control_file)

    def _write_wal(self, part: StoredPart) -> Finished:
        digest = hashlib.sha256()

        def content(stream: DecodedReader) -> Iterator[bytes]:
            while chunk := stream.read1():
                digest.update(chunk)
                yield chunk
                self._progress(len(chunk))

        with self._open(part) as stream:
            self._write(self.target / "pg_wal" / part.name, content(stream))
        return Finished(part.key, sha256=digest.hexdigest())

    def _open(self, part: StoredPart) -> DecodedReader:
        """The decoded content of a part; its end is reached only if what is stored is what was written."""
        stored = cast("BinaryIO", MeteredReader(self.repository.reader(part.key), self.meter))
        return DecodedReader(stored, part.key, self.identities, most=bound_of(part), sha256=part.sha256)

    def _write(self, path: Path, content: Iterator[bytes]) -> None:
        with path.open("xb") as file:
            for chunk in content:
                file.write(chunk)
        path.chmod(0o600)
        self._own(path)

    def _progress(self, size: int) -> None:
        self.meter.keep_going()
        with self.lock:
            self.done += size
            self.on_progress(self.done, self.total)

    def _own(self, path: Path) -> None:
        if self.owner is not None:
            self.owner.take(path)


def _tablespace_map(locations: Mapping[Tablespace, Path]) -> bytes:
    """The file that tells recovery where tablespaces are; ``\\`` and line ends are escaped by a ``\\``."""
    lines = [
        f"{tablespace.oid} " + re.sub(r"([\\\n\r])", r"\\\1", str(location)) + "\n"
        for tablespace, location in locations.items()
    ]
    return "".join(lines).encode("utf-8", "surrogateescape")
