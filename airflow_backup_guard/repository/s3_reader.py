"""One object of S3 being read; a cut connection is not the end of a restore that takes hours."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

from airflow_backup_guard.errors import ObjectExists, ObjectMissing, RepositoryUnavailable
from airflow_backup_guard.repository.s3_errors import s3_errors_explained

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_TRIES = 5


class S3Reader(io.RawIOBase):
    """Read once, from start to end; after a cut, ask for the rest, up to 5 times without a byte."""

    def __init__(self, client: Any, at: dict[str, str], what: str) -> None:
        super().__init__()
        self._client, self._at, self._what = client, at, what
        self._position = 0
        self._body: Any = None
        with s3_errors_explained(what):
            answer = client.get_object(**at)
        self._size, self._etag, self._body = answer["ContentLength"], answer["ETag"], answer["Body"]

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to ``len(buffer)`` bytes; 0 only at the end of the whole object."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._position)
        cause: BaseException | None = None
        for _ in range(_TRIES if wanted else 0):
            try:
                if self._body is None:
                    self._body = self._rest()
                count: int = self._body.readinto(view[:wanted])
            except _cuts() as error:
                cause, count = error, 0
            if count:
                self._position += count
                return count
            self._drop()
        if wanted:
            raise RepositoryUnavailable(
                f"{self._what} broke off {_TRIES} times after {self._position} of {self._size} bytes ({cause}).",
                remedy="Check the network and the service's health, then try again.",
            ) from cause
        return 0

    def close(self) -> None:
        """Drop the connection. Idempotent."""
        self._drop()
        super().close()

    def _rest(self) -> Any:
        try:
            with s3_errors_explained(self._what):
                return self._client.get_object(**self._at, Range=f"bytes={self._position}-", IfMatch=self._etag)["Body"]
        except ObjectExists as error:
            raise ObjectMissing(f"{self._what} was replaced while it was being read.") from error

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            with contextlib.suppress(Exception):
                body.close()


def _cuts() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    return BotoCoreError, HTTPError, OSError
