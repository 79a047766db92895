"""Where a drill restores to: a folder of its own, gone at the end, and swept by the next drill if it was killed."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import BackupGuardError, RestoreRefused
from airflow_backup_guard.postgres.account import account_for, check_reachable
from airflow_backup_guard.postgres.drill_server import end_left_over

_OURS = "drill-"
_TURN_FILE = ".backup-guard-drills"
_LOCK_FILE = "lock"
_KEPT_FILE = "kept"
# For what recovery writes besides the bytes of the backup.
_SPARE = 1.05
_SPARE_BYTES = 64 << 20
_POLL_SECONDS = 0.1
_log = logging.getLogger(__name__)


def usual_scratch() -> Path:
    """The folder for drills that name none: under the temporary folder, one for each user."""
    return Path(tempfile.gettempdir(), f"backup-guard-drills-{os.geteuid()}")


@contextmanager
def scratch_folder(given: Path | None, record: BackupRecord, repository_url: str, stop: Stop) -> Iterator[Path]:
    """A new folder in ``given`` (default: :func:`usual_scratch`), removed on the way out, with room for the backup.

    First it sweeps what drills that were killed left there, their servers too. Several drills may share ``given``.
    Raises :class:`RestoreRefused`, before it changes anything, unless ``given`` is for drills and nothing else, and
    :class:`SourceUnsuitable` where whoever runs PostgreSQL cannot get there.
    """
    scratch = usual_scratch() if given is None else given
    if scratch.is_symlink():
        raise _refused(scratch, "is a symbolic link")
    scratch = scratch.absolute().resolve()
    refuse_production(scratch, repository_url)
    try:
        _make(scratch)
        with _turn(scratch, stop):
            refuse_production(scratch, repository_url)
            _sweep(scratch)
            _refuse_small(scratch, record)
            folder = Path(tempfile.mkdtemp(prefix=_OURS, dir=scratch))
            lock = os.open(folder / _LOCK_FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with suppress(OSError):  # where a file system has no locks, nothing is ever swept
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Of root's drills the server runs as another user, who must get through to its own folder.
            folder.chmod(0o711)
    except OSError as error:
        raise _refused(scratch, f"cannot be used: {error.strerror}") from error
    try:
        check_reachable(folder, account_for(Path("/")))
        yield folder
    finally:
        # The lock goes last: until then nobody else sweeps here.
        if not (folder / _KEPT_FILE).exists():
            with suppress(OSError):
                _remove(folder)
        os.close(lock)


def keep_folder(folder: Path) -> None:
    """Have a drill's folder stay until a person removes it."""
    (folder / _KEPT_FILE).touch()


def refuse_production(scratch: Path, repository_url: str) -> None:
    """Raise :class:`RestoreRefused` for a folder that holds, or lies in, anything that is not a drill's."""
    for place in (scratch, *scratch.parents):
        if (place / "PG_VERSION").exists():
            raise _refused(scratch, f"is in the data directory {place}" if place != scratch else "is a data directory")
    if repository_url.startswith("file://"):
        repository = Path(repository_url.removeprefix("file://")).resolve()
        if repository == scratch or repository in scratch.parents or scratch in repository.parents:
            raise _refused(scratch, f"is, holds or lies in the repository {repository}")
    if not scratch.exists():
        return
    if not scratch.is_dir():
        raise _refused(scratch, "is no folder")
    try:
        status, names = scratch.stat(), sorted(path.name for path in scratch.iterdir())
    except OSError as error:
        raise _refused(scratch, f"cannot be read: {error.strerror}") from error
    strange = [name for name in names if name != _TURN_FILE and not name.startswith(_OURS)]
    if strange:
        raise _refused(scratch, f"is not empty: it holds {', '.join(strange[:3])}")
    if status.st_uid != os.geteuid():
        raise _refused(scratch, "belongs to another user")


def _make(scratch: Path) -> None:
    with suppress(FileExistsError):
        # Only the last folder, so that a disk that is not mounted is noticed.
        scratch.mkdir(0o711)


def _refuse_small(scratch: Path, record: BackupRecord) -> None:
    size = sum(part.content_size for part in record.parts if part.kind in ("archive", "wal"))
    needed, free = int(size * _SPARE) + _SPARE_BYTES, shutil.disk_usage(scratch).free
    if free < needed:
        raise RestoreRefused(
            f"{scratch}: {Size(free)} are free there, and a drill of this backup needs {Size(needed)}.",
            remedy="Name a scratch folder on a larger disk, or free space.",
        )


@contextmanager
def _turn(scratch: Path, stop: Stop) -> Iterator[None]:
    """One drill at a time sweeps and takes its folder, so that no folder is seen before its lock is held."""
    file = os.open(scratch / _TURN_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    break
                stop.wait(_POLL_SECONDS)
        yield
    finally:
        os.close(file)


def _sweep(scratch: Path) -> None:
    for folder in sorted(scratch.glob(f"{_OURS}*")):
        if folder.is_symlink() or not folder.is_dir() or (folder / _KEPT_FILE).exists() or _is_held(folder):
            continue
        try:
            if end_left_over(folder / "data"):
                _log.warning("A drill that was killed had left a server running in %s: it was ended.", folder)
            _remove(folder)
            _log.info("Removed %s, which a drill that was killed had left.", folder)
        except (OSError, BackupGuardError) as error:
            _log.warning("What a drill that was killed left in %s stays there: %s", folder, error)


def _is_held(folder: Path) -> bool:
    """Whether its drill lives: its lock ends with its process, however that ended."""
    try:
        lock = os.open(folder / _LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # killed within the moment between folder and lock, or while it removed them
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _remove(folder: Path) -> None:
    for child in folder.iterdir():
        if child.name != _LOCK_FILE:
            shutil.rmtree(child)
    (folder / _LOCK_FILE).unlink(missing_ok=True)
    folder.rmdir()


def _refused(scratch: Path, why: str) -> RestoreRefused:
    return RestoreRefused(
        f"{scratch} {why}, and a drill takes only a folder that is its own.",
        remedy="Name an empty folder of yours for drills, or one that is not there yet.",
    )
