"""Reads PostgreSQL's tar archives as a stream, and holds every file against the backup_manifest."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import google_crc32c

from airflow_backup_guard.core.manifest import BackupManifest, ManifestFile
from airflow_backup_guard.errors import BackupDamaged
from airflow_backup_guard.repository.codec import DecodedReader

CONTROL_FILE = "global/pg_control"
# The only thing that PostgreSQL has in a tablespace: a folder of its version and that of its catalog.
_IN_TABLESPACE = re.compile(r"PG_[0-9]+_[0-9]+|\.", re.ASCII)
_LATEST = 1 << 40  # seconds since 1970; more is no time that a file could be given


class Digest(Protocol):
    """A checksum that grows with what it is given."""

    def update(self, data: bytes, /) -> None:
        """Take in ``data``, too."""

    def hexdigest(self) -> str:
        """Of all so far, as the manifest writes it."""


@dataclass(frozen=True)
class Member:
    """One directory or file: ``path`` relative to the data directory, ``mode`` and ``mtime`` as the server has them,
    ``size`` in bytes."""

    path: str
    mode: int
    mtime: float
    is_folder: bool
    size: int = 0


@dataclass(frozen=True)
class Piece:
    """Some ``content`` of a member, at ``offset`` in it. There is at least one of each member, which may be empty."""

    member: Member
    offset: int
    content: bytes

    @property
    def is_last(self) -> bool:
        """Whether the member ends with it."""
        return self.offset + len(self.content) == self.member.size


class ArchiveReader:
    """Walks the archive ``name`` (``base`` or a tablespace's OID), which it is fed piece by piece.

    What differs from the manifest is told in ``problems``, which maps a path to what is wrong with it; ``files``
    counts those that are right. Raises :class:`BackupDamaged` for what is no tar archive, or would write elsewhere.
    """

    def __init__(self, manifest: BackupManifest, name: str) -> None:
        self._manifest = manifest
        self._name = name
        self._header = b""
        self._member: Member | None = None
        self._digest: Digest | None = None
        self._offset = 0
        self._padding = 0
        self._begun = False
        self._ended = False
        self._seen: set[str] = set()
        self.problems: dict[str, str] = {}
        self.files = 0
        self.control_file = b""

    def read(
        self,
        stream: DecodedReader,
        begin: Callable[[Piece], Callable[[], None]],
        on_done: Callable[[int], None] = lambda size: None,
    ) -> None:
        """Read all of the archive, in several threads.

        ``begin`` is given every piece in order, by one thread at a time; what it returns is called by the same thread
        while others go on, and then ``on_done`` with how many bytes of the archive that was.
        """

        def take(content: bytes) -> Callable[[], None]:
            begun = [begin(piece) for piece in self.feed(content)]

            def end() -> None:
                for end_piece in begun:
                    end_piece()
                on_done(len(content))

            return end

        stream.read_in_threads(take)
        self.finish()

    def feed(self, content: bytes) -> list[Piece]:
        """The next bytes of the archive; returns what of its members is in them, uncopied where it is all of them."""
        pieces = []
        at = 0
        while at < len(content) and not self._ended:  # what follows the end mark only pads
            if self._member is not None:
                end = min(at + self._member.size - self._offset, len(content))
                pieces.append(self._piece(self._member, content[at:end]))
            elif self._padding:
                end = min(at + self._padding, len(content))
                self._padding -= end - at
            else:
                end = min(at + tarfile.BLOCKSIZE - len(self._header), len(content))
                self._header += content[at:end]
                if len(self._header) == tarfile.BLOCKSIZE:
                    pieces += self._begin()
            at = end
        return pieces

    def finish(self) -> None:
        """Once all of it was fed: whatever the manifest has beyond its members is a problem, too."""
        if self._member is not None:
            raise BackupDamaged(f"The archive ends within {self._member.path!r}.", remedy="Use another backup.")
        if self._header or not self._begun:
            self._begin()
        for path in self._manifest.files.keys() - self._seen:
            if archive_of(path) == self._name:
                self._tell(path, "is in the manifest, but in no archive")

    def _begin(self) -> list[Piece]:
        """The header is read; returns the only piece of a member that has no content."""
        try:
            header = _parsed(self._header)
        except tarfile.TarError as error:
            raise BackupDamaged(f"Archive {self._name} is not a whole tar archive: {error}.") from error
        self._header = b""
        self._begun = True
        if header is None:
            self._ended = True
            return []
        path = ("" if self._name == "base" else f"pg_tblspc/{self._name}/") + _path_in(self._name, header.name)
        if header.isdir():
            return [Piece(Member(path, header.mode, header.mtime, True), 0, b"")]
        self._member = Member(path, header.mode, header.mtime, False, header.size)
        self._digest = digest_of(self._manifest.files.get(path))
        self._offset = 0
        return [] if header.size else [self._piece(self._member, b"")]

    def _piece(self, member: Member, content: bytes) -> Piece:
        if self._digest is not None:
            self._digest.update(content)
        if member.path == CONTROL_FILE:
            self.control_file += content
        piece = Piece(member, self._offset, content)
        self._offset += len(content)
        if piece.is_last:
            self._check(member)
            self._member = None
            self._padding = -member.size % tarfile.BLOCKSIZE
        return piece

    def _check(self, member: Member) -> None:
        path = member.path
        expected = self._manifest.files.get(path)
        twice = path in self._seen
        self._seen.add(path)
        if twice:
            self._tell(path, "is in an archive more than once")
        elif expected is None:
            self._tell(path, "is in an archive, but not in the manifest")
        elif member.size != expected.size:
            self._tell(path, f"has {member.size} bytes, and {expected.size} in the manifest")
        elif self._digest is not None and self._digest.hexdigest() != expected.checksum:
            found = f"{expected.algorithm} {self._digest.hexdigest()}"
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
def _parsed(block: bytes) -> tarfile.TarInfo | None:
    """The header of a member; None at the archive's end.

    Every kind of member that PostgreSQL does not write is refused, links, devices and extensions of the format (long
    names, sparse files, PAX) among them.
    """
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


def digest_of(expected: ManifestFile | None) -> Digest | None:
    """What computes the checksum that a file of the manifest has; None if it has none."""
    if expected is None or expected.algorithm is None:
        return None
    if expected.algorithm == "CRC32C":
        return _Crc32c()
    return hashlib.new(expected.algorithm.lower())
