"""Folders that a restore writes to: claimed, so that no other restore does; undone if it fails; flushed at its end."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from airflow_backup_guard.errors import RestoreRefused

CLAIM_FILE = ".backup-guard-restore"
_FLUSHES = 16


class Target:
    """Folders, each held by a file that only one restore can create: claim, write, flush, release; or undo, or keep.

    The file is locked as long as its restore lives, so that one that was killed can be told from one that runs. What
    that one left is ``adopted`` if it shall go on: a token for each such folder, the same in all of one restore.
    Whoever finds it good calls :meth:`accept`; until then nothing in there is touched, not even by :meth:`undo`.
    """

    def __init__(self, folders: Sequence[Path], backup_id: str) -> None:
        self._folders = folders
        self._backup_id = backup_id
        self.token = secrets.token_hex(8)
        self.adopted: Mapping[Path, str] = {}
        self._made: list[Path] = []
        self._ours: list[Path] = []
        self._claims: dict[Path, int] = {}

    def claim(self, *, resume: bool = False) -> None:
        """Create what is not there, and hold it all; raises :class:`RestoreRefused`, and :meth:`undo` is due then.

        With ``resume`` also what restores that are gone have left.
        """
        for folder in self._folders:
            with refusing(folder):
                if resume and self._adopt(folder):
                    continue
                for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
                    self._make(missing, 0o700 if missing == folder else 0o777)
                refuse_used(folder)
                self._claim(folder)

    def accept(self, token: str | None) -> None:
        """What was adopted is this restore's own, with the token that it had; None for that of this one."""
        self.token = token or self.token
        self._ours += self.adopted
        for claim in self._claims.values():
            self._sign(claim)

    def keep(self) -> None:
        """Let go of the folders as they are, claims included, for a restore that goes on."""
        for claim in self._claims.values():
            os.close(claim)
        self._claims.clear()

    def release(self) -> None:
        """Take the claims away; from then on it is what lies in the folders that keeps others out."""
        for folder in list(self._claims):
            self._release(folder)
            fsync(folder)

    def undo(self) -> list[Path]:
        """Remove what this restore made, and nothing else; returns the folders that it could not empty."""
        left = []
        for folder in self._ours:
            try:
                _empty(folder)
            except OSError:
                left.append(folder)  # its claim stays, and says what it is
        for folder in set(self._claims).difference(left, set(self.adopted).difference(self._ours)):
            with suppress(OSError):
                self._release(folder)
        self.keep()
        for folder in reversed(self._made):
            with suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        return left

    def flush(self, keep_going: Callable[[], None]) -> None:
        """Have all that was written on the disk, on return; ``keep_going`` is called often, by several threads,
        and may raise to end it.

        In one pass at the end, as pg_basebackup does it: most is on the disk by then, and an fsync after every small
        file would cost a commit of the file system's journal each. Several at a time, as they share such commits: on
        ext4 that takes a tenth of the time.
        """

        def fsync_all(paths: list[Path]) -> None:
            for path in paths:
                keep_going()
                fsync(path)

        with ThreadPoolExecutor(_FLUSHES, thread_name_prefix="flush") as pool:
            for folder in self._folders:
                for parent, _folders, files in os.walk(folder, topdown=False):
                    shares = [[Path(parent, name) for name in files[at::_FLUSHES]] for at in range(_FLUSHES)]
                    for _ in pool.map(fsync_all, shares):
                        pass
                    fsync(Path(parent))
        for folder in self._made:
            fsync(folder.parent)

    def _make(self, folder: Path, mode: int) -> None:
        try:
            folder.mkdir(mode)
        except FileExistsError:
            return  # somebody else has just made it
        self._made.append(folder)

    def _claim(self, folder: Path) -> None:
        try:
            claim = os.open(folder / CLAIM_FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            refuse_used(folder)
            raise
        self._claims[folder] = claim
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # One that resumes took it for what a killed restore had left: it is that one's now, no undo may remove it.
            os.close(self._claims.pop(folder))
            raise _claimed(folder) from None
        except OSError:
            pass  # where a file system has no locks, a killed restore looks like one that runs
        # Only now: whoever reads a word here may conclude something from the lock.
        self._sign(claim)
        if [path.name for path in folder.iterdir()] != [CLAIM_FILE]:
            raise _not_empty(folder)  # and whatever it is, it came before the claim, so no undo may take it
        self._ours.append(folder)

    def _adopt(self, folder: Path) -> bool:
        """Whether there was a claim that nobody holds any more, and is held now."""
        try:
            claim = os.open(folder / CLAIM_FILE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            if folder.is_symlink():
                raise _not_empty(folder)
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise _claimed(folder) from None
            lines = os.pread(claim, 1000, 0).decode("utf-8", "backslashreplace").splitlines()
            if os.fstat(claim).st_nlink == 0:  # it was released meanwhile
                os.close(claim)
                claim = -1
                raise _claimed(folder)
        except BaseException:
            if claim >= 0:
                os.close(claim)
            raise
        self._claims[folder] = claim
        self.adopted = {**self.adopted, folder: lines[1] if len(lines) > 1 else ""}
        return True

    def _sign(self, claim: int) -> None:
        # In one write, as a kill between two would leave a claim that says nothing.
        text = f"backup {self._backup_id}, by {_who()}\n{self.token}\n".encode("utf-8", "backslashreplace")
        os.pwrite(claim, text, 0)
        os.ftruncate(claim, len(text))

    def _release(self, folder: Path) -> None:
        # In this order: a claim that nobody holds must not be there for anybody to see.
        (folder / CLAIM_FILE).unlink(missing_ok=True)
        os.close(self._claims.pop(folder))


def refuse_used(folder: Path) -> None:
    """Raise :class:`RestoreRefused` for anything but an empty folder, or one that is not there."""
    with refusing(folder):
        if (folder / CLAIM_FILE).is_file():
            raise _claimed(folder)
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
            raise _not_empty(folder)


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Turns what the operating system says against ``folder`` into :class:`RestoreRefused`."""
    try:
        yield
    except OSError as error:
        raise RestoreRefused(
            f"{folder} cannot be written to: {error.strerror}.",
            remedy="Give a folder that can be created and written to, or run this as a user who may.",
        ) from error


def fsync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk; a symbolic link is left to its folder."""
    if path.is_symlink():
        return
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    except OSError as error:
        # As PostgreSQL does: some file systems cannot flush a folder.
        if not (path.is_dir() and error.errno in (errno.EBADF, errno.EINVAL)):
            raise
    finally:
        os.close(file)


def _claimed(folder: Path) -> RestoreRefused:
    who, killed = "", False
    with suppress(FileNotFoundError), (folder / CLAIM_FILE).open("rb") as file:
        who = file.read(1000).decode("utf-8", "backslashreplace").partition("\n")[0]
        killed = bool(who) and _let_go(file.fileno())
    if killed:
        return RestoreRefused(
            f"{folder} holds what is left of a restore that was cut off: {who}.",
            remedy="Resume it (--resume), or remove the folder, or all that is in it, and restore again.",
        )
    if not who:
        return RestoreRefused(
            f"Another restore writes to {folder}: it has just begun or ended.",
            remedy="Wait for its end; if it was cut off, resume it (--resume); or give another folder.",
        )
    return RestoreRefused(
        f"Another restore writes to {folder}: {who}.", remedy="Wait for its end, or give another folder."
    )


def _let_go(claim: int) -> bool:
    """Whether the restore of a claim is gone and has not removed it; a lock ends with its process, however killed."""
    try:
        fcntl.flock(claim, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(claim).st_nlink > 0


def _not_empty(folder: Path) -> RestoreRefused:
    return RestoreRefused(
        f"{folder} is not an empty folder, and a restore never overwrites anything.",
        remedy="Give an empty folder or one that is not there yet; --tablespace-mapping OLD=NEW for tablespaces.",
    )


def _who() -> str:
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    now = datetime.now(timezone.utc)
    return f"{user} on {socket.gethostname()}, process {os.getpid()}, since {now:%Y-%m-%d %H:%M:%S} UTC"


def _empty(folder: Path) -> None:
    """Remove all but the claim, which is what keeps others out meanwhile."""
    for child in folder.iterdir():
        if child.name == CLAIM_FILE:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink(missing_ok=True)
