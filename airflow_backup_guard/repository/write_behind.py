"""Writing in a thread of its own: digests and the storage do not hold up whoever makes the bytes."""

from __future__ import annotations

import threading
from collections import deque

from airflow_backup_guard.repository.base import ObjectWriter, StoredObject

_MEMORY = 4 << 20
_JOIN_SECONDS = 1.0


class WriteBehind(ObjectWriter):
    """Passes on to ``target``, which it owns, up to 4 MiB behind the caller.

    What ``target`` raises is raised by the next ``write`` or by ``commit``.
    """

    def __init__(self, target: ObjectWriter) -> None:
        self._target = target
        self._changed = threading.Condition()
        self._chunks: deque[bytes | memoryview] = deque()
        self._held = 0
        self._complete = self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    def write(self, data: bytes | memoryview) -> None:
        """Append; waits while 4 MiB are behind. ``data`` must not change afterwards."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < _MEMORY or self._failure or self._ended)
            self._check()
            self._chunks.append(data)
            self._held += len(data)
            self._changed.notify_all()

    def commit(self) -> StoredObject:
        """Wait for all that is behind, and commit ``target``."""
        with self._changed:
            self._check()
            self._complete = True
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            self._check()
            self._ended = True
        return self._target.commit()

    def abort(self) -> None:
        """Drop what was written. Idempotent; does nothing after ``commit``."""
        with self._changed:
            self._ended = True
            self._chunks.clear()
            self._changed.notify_all()
        self._target.abort()
        self._thread.join(_JOIN_SECONDS)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._ended:
            raise ValueError("the writer is closed")

    def _run(self) -> None:
        try:
            while (chunk := self._next()) is not None:
                self._target.write(chunk)
                with self._changed:
                    self._held -= len(chunk)
                    self._changed.notify_all()
        except BaseException as error:  # raised where it is written to
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _next(self) -> bytes | memoryview | None:
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._complete or self._ended)
            return self._chunks.popleft() if self._chunks else None
