"""One object of S3 being written: in one request if it is short, else in parts sent side by side."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import mmap
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from airflow_backup_guard.errors import BackupGuardError, RepositoryFull
from airflow_backup_guard.repository.base import ObjectWriter, StoredObject
from airflow_backup_guard.repository.s3_errors import s3_errors_explained

_MIB = 1 << 20
_PART = 20 * _MIB
_MEMORY = 3 * _PART
_PARTS = 10_000
_EVEN_PARTS = 7_000
_GRACE_SECONDS = 2.0
_ABORT_SECONDS = 1.0

_log = logging.getLogger(__name__)


def part_size(number: int) -> int:
    """Bytes in the part ``number`` (from 1), so that S3's 10,000 parts hold its 5 TiB.

    20 MiB, more than a WAL segment whatever it was encoded to. From part 7,001 on twice that, and twice again after
    each 200 parts, up to 2,560 MiB: the parts that are left must hold all the rest.
    """
    doublings = max(0, (number - _EVEN_PARTS - 1) // 200 + 1)
    return min(_PART << doublings, 2560 * _MIB)


class S3Writer(ObjectWriter):
    """One object being written, as :class:`~airflow_backup_guard.repository.base.ObjectWriter` promises.

    Memory: what was written, in an object of up to 20 MiB; else 60 MiB, in three parts of which two are under way. So
    it stays up to 147 GB stored in one object, but not beyond: then it is twice the size of a part, which makes
    0.3 GB at 200 GB, 1.3 GB at 400 GB, 2.7 GB at 600 GB, and 5.4 GB from 675 GB on to S3's end at 5.5 TB.
    ``abort`` may be called from another thread: it makes a ``write`` or ``commit`` that waits raise at once, cuts short
    what is under way, and returns within a second even if S3 has stopped answering.
    """

    def __init__(
        self, client: Any, at: dict[str, str], key: str, url: str, encryption: Mapping[str, Any] | None = None
    ) -> None:
        self._client, self._at, self._key = client, at, key
        self._encryption = encryption or {}
        self._what = f"{url}/{key}"
        self._sha256, self._size = hashlib.sha256(), 0
        self._part = _Part(self, part_size(1))
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
            rest = self._part.append(rest)
            if rest:
                self._send_part()

    def commit(self) -> StoredObject:
        """Send what is left and make the object visible."""
        self._check()
        if self._upload is None:
            checksum = base64.b64encode(self._sha256.digest()).decode()
            sealed = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
            self._request(lambda: self._client.put_object(**self._at, Body=self._part, **sealed, **self._encryption))
        else:
            upload = self._upload
            self._send_part()
            self._wait(lambda: self._in_flight == 0)
            parts = {"Parts": [self._sent[number] for number in sorted(self._sent)]}
            self._request(lambda: self._client.complete_multipart_upload(**upload, MultipartUpload=parts))
        with self._changed:
            self._check()
            self.closed = True
        self._part.close()
        return StoredObject(self._key, self._size, self._sha256.hexdigest())

    def abort(self) -> None:
        """Drop the object and its parts. Idempotent; does nothing after ``commit``."""
        with self._changed:
            if self.closed:
                return
            self.closed = True
            self._changed.notify_all()
            begun = self._upload is not None
        if begun:
            # Not in this thread: the service may have stopped answering.
            dropping = threading.Thread(target=self._drop_upload, name=f"abort {self._key}", daemon=True)
            dropping.start()
            dropping.join(_ABORT_SECONDS)

    def _request(self, send: Callable[[], object]) -> None:
        """Call ``send`` in a thread of its own, as nothing else can end the wait for a service that does not answer."""
        ended: list[BaseException | None] = []

        def run() -> None:
            error: BaseException | None = None
            try:
                with s3_errors_explained(self._what):
                    send()
            except BaseException as caught:
                error = caught
            with self._changed:
                ended.append(error)
                self._changed.notify_all()

        threading.Thread(target=run, name=f"request {self._key}", daemon=True).start()
        self._wait(lambda: ended)
        if ended[0] is not None:
            raise ended[0]

    def _begin(self) -> None:
        answer = self._client.create_multipart_upload(**self._at, ChecksumAlgorithm="CRC32", **self._encryption)
        with self._changed:
            self._upload = {**self._at, "UploadId": answer["UploadId"]}
            late = self.closed
        if late:
            self._drop_upload()

    def _send_part(self) -> None:
        if self._number > _PARTS:
            raise RepositoryFull(
                f"{self._what} is longer than S3 takes, {self._size} bytes.",
                remedy="Compress more, or move part of the database to another tablespace.",
            )
        if self._upload is None:
            self._request(self._begin)
        part, number, size = self._part, self._number, self._part.size
        with self._changed:
            self._check()
            self._in_flight += size
        # One thread a part, as they are long; daemons, so that a hanging one does not hold up the process's exit.
        threading.Thread(
            target=self._send, args=(self._upload, number, part, size), name=f"part {number}", daemon=True
        ).start()
        following = part_size(number + 1)
        self._part, self._number = _Part(self, following), number + 1
        memory = max(_MEMORY, 2 * following)
        self._wait(lambda: self._in_flight + following <= memory)

    def _send(self, upload: dict[str, str], number: int, part: _Part, size: int) -> None:
        try:
            checksum = base64.b64encode(part.crc32().to_bytes(4, "big")).decode()
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

    def _wait(self, condition: Callable[[], object]) -> None:
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


class _Part(io.RawIOBase):
    """A part's bytes, which stop being read once its writer is aborted.

    In memory of its own, as the heap does not give back at once what a part grew through.
    """

    def __init__(self, writer: S3Writer, room: int) -> None:
        super().__init__()
        self._writer = writer
        self._memory = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.size = self._position = 0

    def append(self, data: memoryview) -> memoryview:
        """Take what there is room for; the rest is returned."""
        taken = min(len(data), len(self._memory) - self.size)
        self._memory[self.size : self.size + taken] = data[:taken]
        self.size += taken
        return data[taken:]

    def crc32(self) -> int:
        """Checksum of it all."""
        with memoryview(self._memory) as whole, whole[: self.size] as content:
            return zlib.crc32(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        if self._writer.closed:
            raise _Aborted
        end = self.size if size < 0 else min(self._position + size, self.size)
        piece = self._memory[self._position : end]
        self._position = max(self._position, end)
        return piece

    def close(self) -> None:
        if not self.closed:
            self._memory.close()
        super().close()


class _Aborted(BaseException):
    """Not an Exception, because botocore takes those for a broken connection and tries again."""
