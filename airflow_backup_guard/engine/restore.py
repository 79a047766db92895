"""Puts a backup back into a data directory on which PostgreSQL starts. Needs a repository, and no Airflow."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from airflow_backup_guard.core.backup import BackupRecord, StoredPart, Tablespace
from airflow_backup_guard.core.manifest import parse_manifest
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.engine.archive import CONTROL_FILE, ArchiveReader, Member
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.target import Target, fsync, refuse_used
from airflow_backup_guard.errors import BackupDamaged, RestoreRefused
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import DecodedReader

_CHUNK = 1 << 20
_TABLESPACE_MAP = "tablespace_map"
# A backup of a standby holds it, and what is restored shall not go on following the primary.
_STANDBY_SIGNAL = "standby.signal"


@dataclass(frozen=True)
class Owner:
    """Who restored files shall belong to, by number."""

    user: int
    group: int


def restore(
    record: BackupRecord,
    repository: Repository,
    target: Path,
    *,
    tablespaces: Mapping[str, Path] | None = None,
    identities: Sequence[str] = (),
    owner: Owner | None = None,
    stop: Stop | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the backup into ``target``, which must be empty or not there, and check every byte of it meanwhile.

    ``tablespaces`` maps the location that a tablespace had to where it shall be now; one that is not named goes where
    it was. ``on_progress`` is given the bytes written and the bytes there are to write.

    Raises :class:`RestoreRefused` before anything is written, and :class:`BackupDamaged` or the errors of the
    repository after everything that was written is removed again. The control file comes last: PostgreSQL does not
    start on a directory that is not whole. Meanwhile a file in each folder keeps every other restore out of it.
    """
    run = _Restore(record, repository, target, dict(tablespaces or {}), identities, owner, stop or Stop(), on_progress)
    run.refuse_what_would_harm()
    with run.undone_on_failure():
        run.claim()
        run.write()


class _Restore:
    def __init__(
        self,
        record: BackupRecord,
        repository: Repository,
        target: Path,
        mapping: dict[str, Path],
        identities: Sequence[str],
        owner: Owner | None,
        stop: Stop,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self.record = record
        self.repository = repository
        self.target = target.absolute()
        self.identities = identities
        self.owner = owner
        self.stop = stop
        self.on_progress = on_progress
        self.done = 0
        self.total = sum(p.content_size for p in record.parts if p.kind in ("archive", "wal"))
        self.locations = {t: mapping.pop(t.location, Path(t.location)).absolute() for t in record.tablespaces}
        self.unknown_locations = sorted(mapping)
        self.folders = [self.target, *self.locations.values()]
        self.claims = Target(self.folders, record.backup_id)

    def refuse_what_would_harm(self) -> None:
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
            refuse_used(folder)

    def claim(self) -> None:
        self.claims.claim()
        places = {"base": self.target, **{str(t.oid): location for t, location in self.locations.items()}}
        needed: defaultdict[int, int] = defaultdict(int)
        sharing: defaultdict[int, set[Path]] = defaultdict(set)
        for part in self.record.parts:
            if part.kind in ("archive", "wal"):
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
    def undone_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
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
        manifest_bytes = b"".join(self._content(self.record.parts_of("manifest")[0]))
        reader = ArchiveReader(parse_manifest(manifest_bytes))
        # The base archive has the folder that the links to tablespaces lie in.
        for part in sorted(self.record.parts_of("archive"), key=lambda part: part.name != "base"):
            if part.name != "base":
                self._link(next(t for t in self.locations if str(t.oid) == part.name))
            with self._open(part) as stream:
                for member in reader.members(part.name, stream):
                    self._write_member(member)
            reader.finish({part.name})
            if reader.problems:
                path, why = next(iter(reader.problems.items()))
                raise BackupDamaged(
                    f"{part.key}: {path} {why}.", remedy="See backup-guard verify, and restore another backup."
                )
        for part in self.record.parts_of("wal"):
            self._write(self.target / "pg_wal" / part.name, self._progressing(self._content(part)))
        self._write(self.target / "backup_manifest", iter([manifest_bytes]))
        if any(str(location) != tablespace.location for tablespace, location in self.locations.items()):
            (self.target / _TABLESPACE_MAP).unlink(missing_ok=True)
            self._write(self.target / _TABLESPACE_MAP, iter([_tablespace_map(self.locations)]))
        # All of it is on the disk before the control file makes it a data directory.
        self.claims.flush(self.stop.check)
        self.claims.release()
        control_file = self.target / CONTROL_FILE
        self._write(control_file, iter([reader.control_file]))
        fsync(control_file)
        fsync(control_file.parent)

    def _open(self, part: StoredPart) -> _CheckedStream:
        stored = self.repository.reader(part.key)
        return _CheckedStream(DecodedReader(stored, part.key, self.identities), part)

    def _content(self, part: StoredPart) -> Iterator[bytes]:
        with self._open(part) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    def _write_member(self, member: Member) -> None:
        path = self.target / member.path
        if member.content is None:
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(member.mode & 0o777)
            self._own(path)
        elif member.path in (CONTROL_FILE, _STANDBY_SIGNAL):
            for _ in member.content:
                pass
        else:
            self._write(path, self._progressing(member.content), member.mode & 0o777)
            os.utime(path, (member.mtime, member.mtime))

    def _write(self, path: Path, content: Iterator[bytes], mode: int = 0o600) -> None:
        with path.open("xb") as file:
            for chunk in content:
                file.write(chunk)
        path.chmod(mode)
        self._own(path)

    def _progressing(self, content: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in content:
            self.stop.check()
            yield chunk
            self.done += len(chunk)
            self.on_progress(self.done, self.total)

    def _link(self, tablespace: Tablespace) -> None:
        link = self.target / "pg_tblspc" / str(tablespace.oid)
        link.symlink_to(self.locations[tablespace])

    def _own(self, path: Path) -> None:
        if self.owner is not None:
            os.chown(path, self.owner.user, self.owner.group)


class _CheckedStream(AbstractContextManager["_CheckedStream"]):
    """The decoded content of a part; its end is reached only if what is stored is what was written."""

    def __init__(self, content: DecodedReader, part: StoredPart) -> None:
        self._content = content
        self._part = part

    def read(self, size: int = -1) -> bytes:
        data = self._content.read(size)
        if not data and self._content.stored_sha256 != self._part.sha256:
            raise BackupDamaged(
                f"{self._part.key} is not what was written: its SHA-256 is {self._content.stored_sha256}.",
                remedy="Restore another backup.",
            )
        return data

    def __exit__(self, *exception: object) -> None:
        self._content.close()


def _tablespace_map(locations: Mapping[Tablespace, Path]) -> bytes:
    """The file that tells recovery where tablespaces are; ``\\`` and line ends are escaped by a ``\\``."""
    lines = [
        f"{tablespace.oid} " + re.sub(r"([\\\n\r])", r"\\\1", str(location)) + "\n"
        for tablespace, location in locations.items()
    ]
    return "".join(lines).encode("utf-8", "surrogateescape")
