"""Writes the members of an archive as files and folders, several pieces at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from airflow_backup_guard.engine.archive import Member, Piece


@dataclass(frozen=True)
class Owner:
    """Who restored files shall belong to, by number."""

    user: int
    group: int

    def take(self, path: Path | int) -> None:
        """Make it the owner of a file, by path or descriptor."""
        os.chown(path, self.user, self.group)


class MemberWriter(AbstractContextManager["MemberWriter"]):
    """Writes pieces of members below ``target``: told of in their order, and written by any thread in any order.

    Files get the mode and the time of their members, and folders their mode; all get ``owner``, if there is one.
    ``folders`` are the paths of the folders so far. When it is left no file is open.
    """

    def __init__(self, target: Path, owner: Owner | None) -> None:
        self._target = target
        self._owner = owner
        self._lock = threading.Lock()
        self._last: _File | None = None
        self._open: set[_File] = set()
        self.folders: list[str] = []

    def begin(self, piece: Piece) -> Callable[[], None]:
        """Make the folder that it is; or return what writes it. Raises :class:`OSError`, as that does."""
        path = self._target / piece.member.path
        if piece.member.is_folder:
            self._make_folder(path, piece.member)
            return lambda: None
        if piece.offset == 0:
            self._last = _File(path, piece.member, self._owner)
            with self._lock:
                self._open.add(self._last)
        file = self._last
        assert file is not None  # noqa: S101
        return lambda: self._write(file, piece)

    def __exit__(self, *exception: object) -> None:
        """Close the files of which not all was written."""
        for file in self._open:
            file.close()

    def _make_folder(self, path: Path, member: Member) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(member.mode & 0o777)
        if self._owner is not None:
            self._owner.take(path)
        self.folders.append(member.path)

    def _write(self, file: _File, piece: Piece) -> None:
        if file.write(piece):
            with self._lock:
                self._open.remove(file)


class _File:
    """A file of which pieces are written; one thread at a time, as the kernel has others spin for the same file."""

    def __init__(self, path: Path, member: Member, owner: Owner | None) -> None:
        self._path = path
        self._member = member
        self._owner = owner
        self._lock = threading.Lock()
        self._descriptor = -1
        self._written = 0

    def write(self, piece: Piece) -> bool:
        """Whether with this piece all of it is written."""
        with self._lock:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            at, content = piece.offset, piece.content
            while content:
                written = os.pwrite(self._descriptor, content, at)
                at += written
                content = content[written:]
            self._written += len(piece.content)
            if self._written < self._member.size:
                return False
            os.fchmod(self._descriptor, self._member.mode & 0o777)
            if self._owner is not None:
                self._owner.take(self._descriptor)
            os.utime(self._descriptor, (self._member.mtime, self._member.mtime))
            self.close()
            return True

    def close(self) -> None:
        """It may have been closed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
