"""One file being written: under a hidden name until it is whole and on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from airflow_backup_guard.errors import ObjectExists, RepositoryUnavailable
from airflow_backup_guard.repository.base import ObjectWriter, StoredObject
from airflow_backup_guard.repository.local_errors import LINKS_UNSUPPORTED, os_errors_explained

UNFINISHED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.unfinished")


class LocalWriter(ObjectWriter):
    """One file being written, as :class:`~airflow_backup_guard.repository.base.ObjectWriter` promises."""

    def __init__(self, root: Path, key: str) -> None:
        self._root, self._key = root, key
        self._path = root / key
        self._unfinished = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}.unfinished")
        self._sha256, self._size = hashlib.sha256(), 0
        self._busy = threading.Lock()
        self._ended = False
        with os_errors_explained(self._path):
            self._file: FileIO | None = self._create()

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        rest = memoryview(data).cast("B")
        with self._in_use() as file:
            self._sha256.update(rest)
            self._size += len(rest)
            try:
                with os_errors_explained(self._path):
                    while rest:
                        rest = rest[file.write(rest) :]
            except BaseException:
                self.abort()  # a commit after this would leave a hole in the file
                raise

    def commit(self, *, if_absent: bool = False) -> StoredObject:
        """Make the file durable and visible; with ``if_absent``, ObjectExists if the key is taken."""
        with self._in_use() as file:
            try:
                with os_errors_explained(self._path, FileNotFoundError):
                    os.fsync(file.fileno())
                    self._check()
                    if if_absent:
                        self._link()
                    else:
                        self._unfinished.replace(self._path)
                    # Not only this directory: whoever made one above may have died before syncing it.
                    for directory in self._path.parents:
                        if directory == self._root.parent:
                            break
                        sync_directory(directory)
                    with contextlib.suppress(PermissionError):  # it is not ours, and may not be readable
                        sync_directory(self._root.parent)
            except FileNotFoundError as error:
                raise RepositoryUnavailable(
                    f"{self._path} was removed by somebody else while it was being written.",
                    remedy="Check that no clean-up removes what is under way there, and that the disk is mounted.",
                ) from error
            finally:
                self.abort()
        return StoredObject(self._key, self._size, self._sha256.hexdigest())

    def abort(self) -> None:
        """Remove the file. Idempotent; does nothing after ``commit``.

        From another thread it only asks the one that is busy here to do so: closing a file under it would let its
        next byte go to whatever file is opened then.
        """
        self._ended = True
        if self._busy.acquire(blocking=False):
            try:
                self._remove()
            finally:
                self._busy.release()

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[FileIO]:
        try:
            with self._busy:
                yield self._check()
        finally:
            if self._ended:
                self._remove()

    def _remove(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(OSError):
                self._unfinished.unlink()

    def _check(self) -> FileIO:
        if self._ended or self._file is None:
            raise ValueError(f"the writer of {self._key} is closed")
        return self._file

    def _create(self) -> FileIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        for attempt in range(10):
            self._make_directories(self._path.parent)
            try:
                return FileIO(os.open(self._unfinished, flags, 0o600), "w")
            except FileNotFoundError:
                if attempt == 9:
                    raise
        raise AssertionError

    def _make_directories(self, directory: Path) -> None:
        missing = []
        while directory != self._root.parent and not directory.is_dir():
            missing.append(directory)
            directory = directory.parent
        for new in reversed(missing):
            # FileNotFoundError: a deletion took the directory above; the caller starts again.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                new.mkdir(mode=0o700)

    def _link(self) -> None:
        try:
            os.link(self._unfinished, self._path)
        except FileExistsError as error:
            # NFS may have linked and lost the answer; two links are the proof that this one won.
            if self._unfinished.stat().st_nlink != 2:
                raise ObjectExists(f"{self._key} is already in {self._root.as_uri()}.") from error
        except OSError as error:
            if error.errno not in LINKS_UNSUPPORTED:
                raise
            raise RepositoryUnavailable(
                f"The file system of {self._root} has no hard links: {error.strerror}.",
                remedy="Put the repository on a POSIX file system such as ext4, XFS, ZFS or NFS.",
            ) from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
