"""A repository in a directory: whole or absent after a crash at any instant, and never in a wrong place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timezone
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from airflow_backup_guard.errors import BackupGuardError, InvalidPlan, ObjectMissing, RepositoryUnavailable
from airflow_backup_guard.repository.base import ObjectInfo, StoredObject, UnfinishedWrite
from airflow_backup_guard.repository.keys import check_key, check_prefix
from airflow_backup_guard.repository.local_errors import os_errors_explained
from airflow_backup_guard.repository.local_writer import UNFINISHED, LocalWriter, sync_directory

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class LocalRepository:
    """Objects as files under ``root``, an absolute path whose parent directory exists.

    Only the last directory of ``root`` is ever created: a disk that is not mounted must not be taken for an
    empty repository, nor the disk beneath its mount point be filled. Files are 0600, directories 0700.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_absolute():
            raise InvalidPlan("root", str(root), "an absolute path")
        self.root = root
        self.url = root.as_uri()

    def writer(self, key: str) -> LocalWriter:
        """Start a file under a hidden name beside its final one; errors as in the protocol."""
        self._check_parent()
        return LocalWriter(self.root, check_key(key))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """Store ``data`` as one file, durable on return; errors as in the protocol."""
        writer = self.writer(key)
        with writer:
            writer.write(data)
            return writer.commit(if_absent=if_absent)

    def reader(self, key: str) -> BinaryIO:
        """Open the file for reading; errors as in the protocol."""
        self._check_parent()
        path = self.root / check_key(key)
        with os_errors_explained(path):
            try:
                return BufferedReader(_File(path), 1 << 18)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise ObjectMissing(f"{key} is not in {self.url}.") from None

    def digest(self, key: str) -> None:
        """None: a file system keeps no checksums that can be asked for."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Committed files whose key starts with ``prefix``, sorted by key; errors as in the protocol."""
        found = []
        for key, path in self._files(prefix):
            with contextlib.suppress(FileNotFoundError), os_errors_explained(path, FileNotFoundError):
                status = path.stat()
                modified = datetime.fromtimestamp(status.st_mtime, timezone.utc)
                # The time of change: that of modification can be set back.
                tag = f"{status.st_ino:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
                found.append(ObjectInfo(key, status.st_size, modified, tag))
        return iter(sorted(found, key=lambda info: info.key))

    def delete(self, key: str) -> None:
        """Remove the file, and the directories it leaves empty; errors as in the protocol."""
        self.delete_all([key])

    def delete_all(self, keys: Iterable[str]) -> None:
        """Remove the files, and the directories they leave empty; errors as in the protocol."""
        self._remove([self.root / check_key(key) for key in keys])

    def unfinished_writes(self, prefix: str) -> Iterator[UnfinishedWrite]:
        """Unfinished files under ``prefix``, and when each was last written to; errors as in the protocol."""
        for key, path in sorted(self._files(prefix, unfinished=True)):
            with contextlib.suppress(FileNotFoundError), os_errors_explained(path, FileNotFoundError):
                yield UnfinishedWrite(key, datetime.fromtimestamp(path.stat().st_mtime, timezone.utc))

    def abort_writes(self, prefix: str) -> int:
        """Remove unfinished files under ``prefix``; errors as in the protocol."""
        left = [path for _, path in self._files(prefix, unfinished=True)]
        self._remove(left)
        return len(left)

    def lock_of(self, key: str) -> None:
        """None: a folder has no locks of that kind."""
        check_key(key)

    def free_bytes(self) -> int:
        """Bytes that this user may still write to the file system; RepositoryUnavailable without it."""
        self._check_parent()
        place = self.root if self.root.exists() else self.root.parent
        with os_errors_explained(place):
            return shutil.disk_usage(place).free

    def _check_parent(self) -> None:
        with os_errors_explained(self.root):
            exists = self.root.parent.is_dir()
        if not exists:
            raise RepositoryUnavailable(
                f"{self.root.parent}, the parent directory of the repository {self.url}, does not exist.",
                remedy="Mount the disk it is on, create the directory, or correct the repository's URL.",
            )

    def _files(self, prefix: str, *, unfinished: bool = False) -> Iterator[tuple[str, Path]]:
        """Keys and paths of the files under ``prefix``: committed ones, or those of writers."""
        self._check_parent()
        folder = check_prefix(prefix).rpartition("/")[0]
        pending = [folder]
        while pending:
            folder = pending.pop()
            place = self.root / folder
            with os_errors_explained(place, FileNotFoundError, NotADirectoryError):
                try:
                    entries = list(os.scandir(place))
                except (FileNotFoundError, NotADirectoryError):
                    continue  # nothing was written there yet, or a deletion just removed it
            for entry in entries:
                match = UNFINISHED.fullmatch(entry.name)
                name = match["name"] if match else entry.name
                key = f"{folder}/{name}" if folder else name
                if entry.is_dir(follow_symlinks=False):
                    if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                        pending.append(key)
                elif key.startswith(prefix) and bool(match) == unfinished and not name.startswith("."):
                    yield key, Path(entry.path)

    def _remove(self, paths: Collection[Path]) -> None:
        self._check_parent()
        failures: list[BackupGuardError] = []
        for path in paths:
            try:
                with os_errors_explained(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
            except BackupGuardError as error:
                failures.append(error)
        for directory in dict.fromkeys(path.parent for path in paths):
            with os_errors_explained(directory), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                sync_directory(directory)
            # A writer makes its directories again if it loses one here before its file is in it, so this is safe.
            with contextlib.suppress(OSError):
                while directory != self.root:
                    directory.rmdir()
                    directory = directory.parent
        if failures:
            raise failures[0]


class _File(FileIO):
    def readinto(self, buffer: WriteableBuffer) -> int | None:
        with os_errors_explained(Path(str(self.name))):
            return super().readinto(buffer)
