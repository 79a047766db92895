"""Repositories as the API server reads them: bounded in time, so that one that hangs holds up nothing else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from typing import Generic, TypeVar

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.errors import BackupGuardError, RepositoryUnavailable
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.repository.base import Repository

T = TypeVar("T")

PATIENCE = 8.0
"""Seconds that a page waits for a repository."""

_pool = ThreadPoolExecutor(24, thread_name_prefix="backup-guard-ui")
_log = logging.getLogger(__name__)


class Remembered(Generic[T]):
    """Remembers a value by its key for some seconds; at most ``most`` of them."""

    def __init__(self, seconds: float, most: int = 1000, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._values: dict[object, tuple[float, T]] = {}
        self._lock = threading.Lock()

    def get(self, key: object, make: Callable[[], T]) -> T:
        """The value, made anew if it is too old."""
        now = self._clock()
        with self._lock:
            found = self._values.get(key)
        if found is not None and now - found[0] < self._seconds:
            return found[1]
        value = make()
        with self._lock:
            self._values[key] = (now, value)
            while len(self._values) > self._most:
                self._values.pop(next(iter(self._values)))
        return value

    def forget(self, key: object) -> None:
        """Make it anew at the next question."""
        with self._lock:
            self._values.pop(key, None)


_open: Remembered[Repository] = Remembered(300)


def repository_of(plan: BackupPlan) -> Repository:
    """The plan's repository, through the connections that the API server knows."""
    return _open.get(plan.repository, lambda: BackupGuardHook(plan).repository())


def within(seconds: float, read: Callable[[], T]) -> T:
    """What ``read`` returns; raises :class:`RepositoryUnavailable` if that takes longer."""
    try:
        return _pool.submit(read).result(seconds)
    except NotInTime:
        raise RepositoryUnavailable(
            f"The repository has not answered within {seconds:.0f} s.",
            remedy="Can the API server reach it? Backups and restores do not go through here.",
        ) from None


def problem_text(error: Exception) -> str:
    """What a person is told who looks at a page."""
    if isinstance(error, BackupGuardError):
        return str(error)
    _log.warning("Cannot be shown: %r", error, exc_info=error)
    return f"The API server cannot read it: {error} ({type(error).__name__})."
