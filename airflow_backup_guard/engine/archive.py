"""Reads PostgreSQL's tar archives as a stream, and holds every file against the backup_manifest."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import google_crc32c

from airflow_backup_guard.core.manifest import BackupManifest, ManifestFile
from airflow_backup_guard.errors import BackupDamaged

CONTROL_FILE = "global/pg_control"
_CHUNK = 1 << 18
# The only thing that PostgreSQL has in a tablespace: a folder of its version and that of its catalog.
_IN_TABLESPACE = re.compile(r"PG_[0-9]+_[0-9]+|\.", re.ASCII)
_LATEST = 1 << 40  # seconds since 1970; more is no time that a file could be given


class Readable(Protocol):
    """All that is asked of a stream: bytes, and none at its end."""

    def read(self, size: int, /) -> bytes:
        """``size`` bytes, fewer only at the end."""

    def read1(self, size: int, /) -> bytes:
        """At most ``size`` bytes: what is ready."""


class Digest(Protocol):
    """A checksum that grows with what it is given."""

    def update(self, data: bytes, /) -> None:
        """Take in ``data``, too."""

    def hexdigest(self) -> str:
        """Of all so far, as the manifest writes it."""


@dataclass(frozen=True)
class Member:
    """One directory or file: ``path`` relative to the data directory, ``mode`` and ``mtime`` as the server has them.

    ``content`` is None for a directory. It must be read to its end before the next member is asked for.
    """

    path: str
    mode: int
    mtime: float
    content: Iterator[bytes] | None


class ArchiveReader:
    """Walks the archives of one backup. What differs from the manifest is told in ``problems``; nothing is raised.

    ``problems`` maps a path to what is wrong with it; ``files`` counts those that are right. A file comes
    in chunks as the stream has it, which needs no copy.
    """

    def __init__(self, manifest: BackupManifest) -> None:
        self._manifest = manifest
        self._seen: set[str] = set()
        self.problems: dict[str, str] = {}
        self.files = 0
        self.control_file = b""

    def members(self, name: str, stream: Readable) -> Iterator[Member]:
        """The members of the archive ``name`` (``base`` or a tablespace's OID).

        Raises :class:`BackupDamaged` for a stream that is no tar archive, or one that would write elsewhere.
        """
        prefix = "" if name == "base" else f"pg_tblspc/{name}/"
        try:
            first = True
            while (header := _header(stream, first=first)) is not None:
                first = False
                path = prefix + _path_in(name, header.name)
                if header.isdir():
                    yield Member(path, header.mode, header.mtime, None)
                else:
                    content = _content(stream, path, header.size)
                    yield Member(path, header.mode, header.mtime, self._checked(path, content))
                    for _ in content:
                        pass  # whatever was not read
            # What follows the archive's end mark must be read, too, to reach the end of the stored object.
            while stream.read(_CHUNK):
                pass
        except tarfile.TarError as error:
            raise BackupDamaged(f"Archive {name} is not a whole tar archive: {error}.") from error

    def finish(self, archives: set[str]) -> None:
        """Once all members of ``archives`` were read: whatever the manifest has beyond them is a problem, too."""
        for path in self._manifest.files.keys() - self._seen:
            if archive_of(path) in archives:
                self._tell(path, "is in the manifest, but in no archive")

    def _checked(self, path: str, content: Iterator[bytes]) -> Iterator[bytes]:
        expected = self._manifest.files.get(path)
        digest = digest_of(expected)
        size = 0
        for chunk in content:
            size += len(chunk)
            if digest is not None:
                digest.update(chunk)
            if path == CONTROL_FILE:
                self.control_file += chunk
            yield chunk
        twice = path in self._seen
        self._seen.add(path)
        if twice:
            self._tell(path, "is in an archive more than once")
        elif expected is None:
            self._tell(path, "is in an archive, but not in the manifest")
        elif size != expected.size:
            self._tell(path, f"has {size} bytes, and {expected.size} in the manifest")
        elif digest is not None and digest.hexdigest() != expected.checksum:
            found = f"{expected.algorithm} {digest.hexdigest()}"
            self._tell(path, f"has {found}, and {expected.checksum} in the manifest")
        else:
            self.files += 1

    def _tell(self, path: str, problem: str) -> None:
        # A name that is not UTF-8 could be neither logged nor stored as JSON.
        self.problems[path.encode("utf-8", "backslashreplace").decode()] = problem


def _not_postgresql(what: str) -> BackupDamaged:
    return BackupDamaged(
        f"An archive is wrong: {what}.", remedy="PostgreSQL writes no such archive; use another backup."
    )


def _path_in(archive: str, name: str) -> str:
    """A safe path, and one that the archive may have: what is below ``pg_tblspc`` is written where the record says."""
    path = safe_path(name)
    first, _, rest = path.partition("/")
    if (first == "pg_tblspc" and rest) if archive == "base" else not _IN_TABLESPACE.fullmatch(first):
        raise _not_postgresql(f"{name!r} is not a path of archive {archive}")
    return path


def archive_of(path: str) -> str:
    """The archive that has a file of the manifest: ``base``, or a tablespace's OID."""
    return path.split("/", 2)[1] if path.startswith("pg_tblspc/") else "base"


def system_identifier(control_file: bytes) -> str:
    """The cluster's identity in ``global/pg_control``: its first eight bytes, in the byte order of the server."""
    return str(int.from_bytes(control_file[:8], "little"))


def safe_path(name: str) -> str:
    """``name`` without a leading ``./``; raises :class:`BackupDamaged` if it leads out of where it is unpacked."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise BackupDamaged(
            f"An archive has a member named {name!r}, which leads out of the data directory.",
            remedy="Somebody tampered with it: use another backup, and find out who can write to the repository.",
        )
    return str(path)


class _Crc32c:
    # PostgreSQL writes the four bytes of a CRC-32C in the server's byte order; all it runs on today is little-endian.
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = google_crc32c.extend(self._value, data)

    def hexdigest(self) -> str:
        return self._value.to_bytes(4, "little").hex()


# tarfile's own stream copies every byte several times, in pieces of 10 kB, and takes a damaged header for the end.
def _header(stream: Readable, *, first: bool) -> tarfile.TarInfo | None:
    """Of the next member; None at the archive's end.

    Every kind of member that PostgreSQL does not write is refused, links, devices and extensions of the format (long
    names, sparse files, PAX) among them.
    """
    block = stream.read(tarfile.BLOCKSIZE)
    if not block and not first:
        return None
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if block == bytes(tarfile.BLOCKSIZE):
            return None
        raise tarfile.ReadError(f"{error} where a member should begin") from error
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
        raise _not_postgresql(f"{member.name!r} is neither a file nor a directory")
    if member.size < 0 or abs(member.mtime) > _LATEST:
        raise _not_postgresql(f"{member.name!r} has a size or a time that no file has")
    return member


def _content(stream: Readable, path: str, size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        chunk = stream.read1(min(left, _CHUNK))
        if not chunk:
            raise BackupDamaged(f"The archive ends within {path!r}.", remedy="Use another backup.")
        left -= len(chunk)
        yield chunk
    stream.read(-size % tarfile.BLOCKSIZE)


def digest_of(expected: ManifestFile | None) -> Digest | None:
    """What computes the checksum that a file of the manifest has; None if it has none."""
    if expected is None or expected.algorithm is None:
        return None
    if expected.algorithm == "CRC32C":
        return _Crc32c()
    return hashlib.new(expected.algorithm.lower())
