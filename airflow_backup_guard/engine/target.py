"""The folders that a restore writes to: claimed so that no other restore does, undone if it fails, flushed at its end."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from airflow_backup_guard.errors import RestoreRefused

CLAIM_FILE = ".backup-guard-restore"


def refuse_used(folder: Path) -> None:
    """Raise :class:`RestoreRefused` for anything but an empty folder or one that is not there."""
    with _refusing(folder):
        if (folder / CLAIM_FILE).is_file():
            raise _claimed(folder)
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
            raise _not_empty(folder)


class Target:
    """Some folders, each held by a file that only one restore can create. Use: claim, (write), release; or undo.

    The file is locked as long as its restore lives, so that one that was killed can be told from one that runs.
    """

    def __init__(self, folders: Sequence[Path], backup_id: str) -> None:
        self._folders = folders
        self._backup_id = backup_id
        self._made: list[Path] = []
        self._claims: dict[Path, int] = {}

    def claim(self) -> None:
        """Create what is not there, and hold it all; raises :class:`RestoreRefused`. Call :meth:`undo` if it does."""
        for folder in self._folders:
            with _refusing(folder):
                for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
                    self._make(missing)
                try:
                    claim = os.open(folder / CLAIM_FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
                except FileExistsError:
                    raise _claimed(folder) from None
                self._claims[folder] = claim
                with suppress(OSError):  # some network file systems have no locks; the claim holds there, too
                    fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(claim, f"backup {self._backup_id}, by {_who()}\n".encode("utf-8", "backslashreplace"))
                if os.listdir(folder) != [CLAIM_FILE]:
                    # Somebody else's work, which an undo must not take away.
                    self._release(folder)
                    raise _not_empty(folder)

    def release(self) -> None:
        """Take the claims away. From then on it is what lies in the folders that keeps others out."""
        for folder in self._folders:
            self._release(folder)

    def undo(self) -> list[Path]:
        """Remove what this restore made, and nothing else; returns the folders that it could not clean up."""
        left = []
        for folder in self._written:
            try:
                _empty(folder)
                self._release(folder)
            except FileNotFoundError:
                pass
            except OSError:
                left.append(folder)
        for folder in reversed(self._made):
            with suppress(OSError):  # not empty: somebody else has put something there
                folder.rmdir()
        for claim in self._claims.values():
            os.close(claim)
        self._claims.clear()
        return left

    def flush(self, keep_going: Callable[[], None]) -> None:
        """Have all that was written on the disk, on return; ``keep_going`` may raise to end it.

        One pass at the end, as pg_basebackup does it: most of it is on the disk by then, and an fsync per small file
        as it is written would cost a journal commit each.
        """
        for folder in self._folders:
            for path in _tree(folder):
                keep_going()
                fsync(path)
        for folder in self._made:
            fsync(folder.parent)
