"""One object of S3 being written: in one request if it is short, else in parts sent side by side."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import threading
import zlib
from typing import Any

from airflow_backup_guard.errors import BackupGuardError, RepositoryFull
from airflow_backup_guard.repository.base import ObjectWriter, StoredObject
from airflow_backup_guard.repository.s3_errors import s3_errors_explained

_MIB = 1 << 20
_MEMORY = 64 * _MIB
_PARTS = 10_000
_GRACE_SECONDS = 2.0
_ABORT_SECONDS = 4.0

_log = logging.getLogger(__name__)


def part_size(number: int) -> int:
    """Bytes in the part ``number`` (from 1), so that S3's 10,000 parts hold its 5 TiB.

    20 MiB, more than a WAL segment whatever it was encoded to, and twice that after each 1,000 parts, up to
    1,000 MiB.
    """
    return min(20 << (number - 1) // 1000, 1000) * _MIB


class S3Writer(ObjectWriter):
    """One object being written, as :class:`~airflow_backup_guard.repository.base.ObjectWriter` promises.

    Memory: 64 MiB; past 20 GB written, twice the size of a part (80 MiB, up to 1.3 GB at 1 TB stored).
    ``abort`` may be called from another thread or a signal handler: it makes a ``write`` or ``commit`` that waits
    raise, cuts the parts under way short, and returns within about four seconds even if S3 has stopped answering.
    """

    def __init__(self, client: Any, at: dict[str, str], key: str, url: str) -> None:
        self._client, self._at, self._key = client, at, key
        self._what = f"{url}/{key}"
        self._sha256, self._size = hashlib.sha256(), 0
        self._part = _Part(self)
        self._number = 1
        self._upload: dict[str, str] | None = None
        self._changed = threading.Condition()
        self._in_flight = 0
        self._sent: dict[int, dict[str, Any]] = {}
        self._failure: BaseException | None = None
        self.closed = self._dropped = False

    def write(self, data: bytes | memoryview) -> None:
        """Append; waits while parts under way fill the memory. Raises what sending a part raised."""
        self._check()
        rest = memoryview(data).cast("B")
        self._sha256.update(rest)
        self._size += len(rest)
        while rest:
            room = part_size(self._number) - self._part.tell()
            if not room:
                self._send_part()
                continue
            self._part.write(rest[:room])
            rest = rest[room:]

    def commit(self) -> StoredObject:
        """Send what is left and make the object visible."""
        self._check()
        if self._upload is None:
            checksum = base64.b64encode(self._sha256.digest()).decode()
            with s3_errors_explained(self._what):
                self._client.put_object(**self._at, Body=self._part.getvalue(), ChecksumSHA256=checksum)
        else:
            self._send_part()
            self._wait(lambda: self._in_flight == 0)
            parts = [self._sent[number] for number in sorted(self._sent)]
            with s3_errors_explained(self._what):
                self._client.complete_multipart_upload(**self._upload, MultipartUpload={"Parts": parts})
        self.closed = True
        return StoredObject(self._key, self._size, self._sha256.hexdigest())

    def abort(self) -> None:
        """Drop the object and its parts. Idempotent; does nothing after ``commit``."""
        with self._changed:
            if self.closed:
                return
            self.closed = True
            self._changed.notify_all()
        if self._upload is not None:
            # Not in this thread: the service may have stopped answering.
            dropping = threading.Thread(target=self._drop_upload, name=f"abort {self._key}", daemon=True)
            dropping.start()
            dropping.join(_ABORT_SECONDS)

    def _send_part(self) -> None:
        if self._number > _PARTS:
            raise RepositoryFull(
                f"{self._what} is longer than S3 takes, {self._size} bytes.",
                remedy="Compress more, or move part of the database to another tablespace.",
            )
        if self._upload is None:
            with s3_errors_explained(self._what):
                answer = self._client.create_multipart_upload(**self._at, ChecksumAlgorithm="CRC32")
            self._upload = {**self._at, "UploadId": answer["UploadId"]}
        part, number, size = self._part, self._number, self._part.tell()
        with self._changed:
            self._in_flight += size
        # One thread a part, as they are long; daemons, so that a hanging one does not hold up the process's exit.
        threading.Thread(
            target=self._send, args=(self._upload, number, part, size), name=f"part {number}", daemon=True
        ).start()
        self._part, self._number = _Part(self), number + 1
        following = part_size(self._number)
        memory = max(_MEMORY, 2 * following)
        self._wait(lambda: self._in_flight + following <= memory)

    def _send(self, upload: dict[str, str], number: int, part: _Part, size: int) -> None:
        try:
            with part.getbuffer() as content:
                checksum = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
            part.seek(0)
            with s3_errors_explained(self._what):
                answer = self._client.upload_part(**upload, PartNumber=number, Body=part, ChecksumCRC32=checksum)
            self._sent[number] = {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": checksum}
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            part.close()
            with self._changed:
                self._in_flight -= size
                self._changed.notify_all()
            if self._dropped:
                self._drop_upload()  # this part may have been stored after the others were dropped

    def _wait(self, condition: Any) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self.closed or self._failure)
        self._check()

    def _check(self) -> None:
        if self.closed:
            raise ValueError(f"the writer of {self._key} is closed")
        if self._failure is not None:
            raise self._failure

    def _drop_upload(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight == 0, timeout=_GRACE_SECONDS)
            self._dropped = True
        try:
            with s3_errors_explained(self._what, passed=("NoSuchUpload",)):
                self._client.abort_multipart_upload(**self._upload or {})
        except BackupGuardError as error:
            _log.warning("The parts of %s were left behind, for abort_writes to remove: %s", self._what, error)


class _Part(io.BytesIO):
    """A part's bytes, which stop being read once its writer is aborted."""

    def __init__(self, writer: S3Writer) -> None:
        super().__init__()
        self._writer = writer

    def read(self, size: int | None = -1) -> bytes:
        if self._writer.closed:
            raise _Aborted
        return super().read(size)


class _Aborted(BaseException):
    """Not an Exception, because botocore takes those for a broken connection and tries again."""
