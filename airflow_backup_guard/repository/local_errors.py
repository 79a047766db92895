"""What the operating system's refusals mean to somebody whose backup goes to a directory."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from airflow_backup_guard.core.units import Size
from airflow_backup_guard.errors import (
    BackupGuardError,
    RepositoryDenied,
    RepositoryFull,
    RepositoryUnavailable,
)

LINKS_UNSUPPORTED = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@contextlib.contextmanager
def os_errors_explained(path: Path, *passed: type[OSError]) -> Iterator[None]:
    """Turn an :class:`OSError` about ``path`` into an error of this package, but for the types ``passed``."""
    try:
        yield
    except passed:
        raise
    except OSError as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: OSError) -> BackupGuardError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RepositoryFull(
            f"No space left to write {path}: {error.strerror}, {_free(path)} free.",
            remedy="Free space there, raise the quota or file size limit, or shorten the retention.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RepositoryDenied(
            f"No permission for {path}: {error.strerror}.",
            remedy=f"Give user id {os.geteuid()} read and write access, and mount the disk read-write.",
        )
    return RepositoryUnavailable(
        f"{path} cannot be used: {error.strerror or error}.",
        remedy="Check that the disk is mounted and healthy (see the kernel's log), then try again.",
    )


def _free(path: Path) -> str:
    for place in path.parents:
        with contextlib.suppress(OSError):
            return str(Size(shutil.disk_usage(place).free))
    return "an unknown number of bytes"
