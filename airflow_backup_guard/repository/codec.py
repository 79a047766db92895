"""How objects are stored: zstd frames, then age if there are recipients; ``age -d | zstd -d`` opens them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO

from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, InvalidPlan
from airflow_backup_guard.repository.age import AgeFilter, decryption, encryption, header_bounded
from airflow_backup_guard.repository.base import ObjectWriter, Repository, StoredObject
from airflow_backup_guard.repository.compression import Compression
from airflow_backup_guard.repository.frames import Frame, frames
from airflow_backup_guard.repository.in_turn import in_turn

_READ = 1 << 20
_AGE_PIECE = 1 << 18  # an AgeFilter holds as many bytes as come at once, and their output
_KEPT = 16 << 20


def suffix(recipients: Sequence[str] = ()) -> str:
    """End of the key of an object that is written for these recipients: ``.zst`` or ``.zst.age``."""
    return ".zst.age" if recipients else ".zst"


class EncodingWriter(AbstractContextManager["EncodingWriter"]):
    """Compress, and encrypt if there are ``recipients`` (age public keys, ``age1…``), into ``target``.

    It owns ``target``: commits it on ``commit`` and aborts it on ``abort`` or when the context is left
    without a commit. ``level`` is zstd's, ``threads`` the number of threads that compress, and with any they also
    write into ``target``, so that a ``write`` may raise what became of an earlier one. Memory stays bounded whatever
    is written. Not for several threads at once, but for ``abort``, which any may call: a ``write`` or ``commit`` that
    waits then raises ``ValueError``. Raises :class:`InvalidPlan` for a level or recipient that is none (``target`` is
    aborted then), :class:`ExtraMissing` without the extra ``age``, and whatever ``target`` raises.
    """

    def __init__(
        self, target: ObjectWriter, *, level: int = 3, threads: int = 0, recipients: Sequence[str] = ()
    ) -> None:
        self._target = target
        self._age: AgeFilter | None = None
        self._raw_size = 0
        self._ended = False
        try:
            if not 1 <= level <= 19:
                raise InvalidPlan("level", level, "a zstd level from 1 to 19")
            if recipients:
                self._age = encryption(recipients)
        except BaseException:
            target.abort()
            raise
        self._compression = Compression(self._pass_on, level, threads)

    def write(self, data: bytes | memoryview) -> None:
        """Append raw bytes; may block while the repository is slower than the caller."""
        self._check()
        view = memoryview(data).cast("B")
        self._raw_size += len(view)
        try:
            self._compression.feed(view)
        except BaseException:
            self.abort()  # a commit after this would leave a hole in the stream
            raise

    def commit(self) -> tuple[StoredObject, int]:
        """Finish the last frame and commit the object; returns it and the number of raw bytes in it."""
        self._check()
        try:
            self._compression.finish()
            if self._age is not None:
                self._send(self._age.finish())
            stored = self._target.commit()
        except BaseException:
            self.abort()
            raise
        self._ended = True
        self._compression.close(wait=True)
        return stored, self._raw_size

    def abort(self) -> None:
        """Drop what was written; its threads end with the frame that they are at. Idempotent; does nothing after
        ``commit``."""
        self._ended = True
        self._target.abort()
        if self._age is not None:
            self._age.cancel()
        self._compression.close(wait=False)

    def __exit__(self, *exception: object) -> None:
        """Abort, unless it was committed; no thread is left."""
        self.abort()
        self._compression.close(wait=True)

    def _check(self) -> None:
        if self._ended:
            raise ValueError("the writer is closed")

    def _pass_on(self, frame: bytes) -> None:
        if self._age is None:
            self._send(frame)
        else:  # in pieces, as it holds as many as come at once, and their output
            # Copied, as a frame keeps all the memory that it might have needed, however short it is.
            content = memoryview(frame)
            for start in range(0, len(frame), _AGE_PIECE):
                self._send(self._age.feed(bytes(content[start : start + _AGE_PIECE])))

    def _send(self, stored: bytes) -> None:
        if stored:
            self._target.write(stored)


class DecodedReader(io.BufferedIOBase):
    """The raw bytes of a stored object, in order; ``read`` returns nothing only once the whole was sound.

    ``stored_size`` and ``stored_sha256`` tell of the stored bytes read so far: at the end, of the whole object, so
    that it is read once to be both decoded and compared with its record. Raises :class:`BackupDamaged` where it is cut
    short, altered, followed by anything else, not what ``sha256`` says if that is given, or holds more than ``most``
    bytes: a few stored ones can stand for any number.
    """

    def __init__(
        self,
        stored: BinaryIO,
        key: str,
        identities: Sequence[str] = (),
        *,
        most: int | None = None,
        sha256: str | None = None,
    ) -> None:
        super().__init__()
        self._left = most
        self._sha256 = sha256
        self.stored_size = 0
        self._key = key
        self._stored = stored
        self._digest = hashlib.sha256()
        self._identities = identities
        self._age: AgeFilter | None = None
        self._frames = self._sound_frames()
        self._rest = memoryview(b"")
        self._failure: BaseException | None = None

    @property
    def stored_sha256(self) -> str:
        """SHA-256 of the stored bytes read so far, lower-case hex."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return ``size`` bytes, fewer only at the end; all that are left if it is negative or None."""
        left = -1 if size is None or size < 0 else size
        pieces = []
        while left and (piece := self.read1(left)):
            pieces.append(piece)
            left -= len(piece) if left > 0 else 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read1(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, or what is ready: 1 MiB at most, and nothing only at the end."""
        if self.closed:
            raise ValueError(f"the reader of {self._key} is closed")
        if not self._rest and size:
            content = self._next() or b""
            if not 0 <= size < len(content):
                return content
            self._rest = memoryview(content)
        piece = self._rest[: size if size >= 0 else None]
        self._rest = self._rest[len(piece) :]
        return bytes(piece)

    def read_in_threads(self, take: Callable[[bytes], Callable[[], None]]) -> None:
        """Read all of it, instead of by ``read``, in a few threads; each takes some MB of memory.

        ``take`` is given the content in order, at most 1 MiB at a time, by one thread at a time. What it returns is
        called at once by the same thread, while others go on: work on that content for which no order is needed.
        Raises what ``read`` would, and whatever they raise.
        """
        _keep_freed_memory()
        try:
            in_turn(self._frames, self._decoded, lambda content: take(self._bounded(content)))
        except BaseException as error:
            self._failure = error
            raise

    def skip_rest(self) -> None:
        """Read the rest of the stored bytes undecoded, to know their size and digest; this takes no identity."""
        for _ in self._stored_chunks():
            pass

    def close(self) -> None:
        """Stop reading. Idempotent."""
        if not self.closed:
            if self._age is not None:
                self._age.cancel()
            self._stored.close()
        super().close()

    def _next(self) -> bytes | None:
        if self._failure is not None:
            raise self._failure  # or else the next read would look like the end
        try:
            frame = next(self._frames, None)
            return None if frame is None else self._bounded(self._decoded(frame))
        except BaseException as error:
            self._failure = error
            raise

    def _sound_frames(self) -> Iterator[Frame | bytes]:
        with self._explained():
            yield from frames(self._decrypted() if self._key.endswith(".age") else self._stored_chunks())
        if self._sha256 not in (None, self.stored_sha256):
            raise BackupDamaged(
                f"{self._key} is not what was written: its SHA-256 is {self.stored_sha256}.",
                remedy="Restore another backup.",
            )

    def _decoded(self, frame: Frame | bytes) -> bytes:
        if isinstance(frame, bytes):
            return frame
        with self._explained():
            return frame.content()

    def _bounded(self, content: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(content)
            if self._left < 0:
                with self._explained():
                    raise ValueError("it holds more than was written")
        return content

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (BackupGuardError, MemoryError):
            raise
        except Exception as error:
            raise BackupDamaged(
                f"{self._key} cannot be decoded after {self.stored_size} stored bytes: {error}.",
                remedy="Restore from another backup, and check the storage it was on.",
            ) from error

    def _stored_chunks(self) -> Iterator[bytes]:
        while chunk := self._stored.read(_READ):
            self._digest.update(chunk)
            self.stored_size += len(chunk)
            yield chunk

    def _decrypted(self) -> Iterator[bytes]:
        self._age = age = decryption(self._identities, self._key)
        for chunk in header_bounded(self._stored_chunks()):
            for start in range(0, len(chunk), _AGE_PIECE):
                yield age.feed(chunk[start : start + _AGE_PIECE])
        yield age.finish()


def _keep_freed_memory() -> None:
    """Have the C library keep what a frame took for the next one.

    It would give it back to the kernel, and touching new pages takes longer than to decompress into them. It keeps
    blocks of a size of which it saw one freed.
    """
    _ = bytes(_KEPT)


def open_decoded(
    repository: Repository, key: str, identities: Sequence[str] = (), *, most: int | None = None
) -> DecodedReader:
    """Open the object ``key``, which ends in ``.zst`` or ``.zst.age``, to read its raw bytes, ``most`` of them.

    ``identities`` are age secret keys (``AGE-SECRET-KEY-1…``). Raises :class:`ObjectMissing`, and
    :class:`InvalidPlan` for another ending. Missing identities or the missing extra ``age`` show at the first read.
    """
    if not key.endswith((".zst", ".zst.age")):
        raise InvalidPlan("key", key, "an object whose name ends in .zst or .zst.age")
    return DecodedReader(repository.reader(key), key, identities, most=most)
