"""Encryption in the age format (age-encryption.org/v1), chunk by chunk. The one home of pyrage."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from airflow_backup_guard.errors import ExtraMissing, InvalidPlan, RestoreRefused

_QUEUED = 1 << 20
_LONGEST_HEADER = 1 << 16  # that of some 400 recipients; the time that it takes to read grows with its square
_HEADER_END = b"\n---"


class AgeFilter:
    """Bytes in, bytes out, like a compressor object; at most about 2 MiB are held.

    pyrage pulls from and pushes to file objects, so it runs in a thread of its own. That thread only ever
    waits for input and never for its output to be taken, hence no deadlock; ``cancel`` ends it at once.
    """

    def __init__(self, convert: Callable[[AgeFilter, AgeFilter], None]) -> None:
        self._changed = threading.Condition()
        self._input: deque[bytes] = deque()
        self._queued = 0
        self._output: list[bytes] = []
        self._ended = self._cancelled = self._done = False
        self._error: BaseException | None = None
        self._rest = memoryview(b"")
        self._thread = threading.Thread(target=self._run, args=(convert,), name="age", daemon=True)
        self._thread.start()

    def feed(self, data: bytes) -> bytes:
        """Take ``data``; return what is ready. Raises what the conversion raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued < _QUEUED or self._done)
            if not self._done:
                self._input.append(data)
                self._queued += len(data)
                self._changed.notify_all()
            return self._take()

    def finish(self) -> bytes:
        """End the input; return the rest of the output. Raises what the conversion raised."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        ready = self._take()
        if self._rest or self._input:
            raise ValueError("bytes after the end of what is encrypted")
        return ready

    def cancel(self) -> None:
        """Give up; no thread is left. Idempotent."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()
        self._thread.join()

    def read(self, size: int = -1) -> bytes:
        """For pyrage: input, or nothing at its end."""
        if not self._rest:
            with self._changed:
                self._changed.wait_for(lambda: self._input or self._ended or self._cancelled)
                if self._cancelled:
                    # Not InterruptedError: Rust takes that for EINTR and reads again, for ever.
                    raise RuntimeError("cancelled")
                if self._input:
                    self._rest = memoryview(self._input.popleft())
                    self._queued -= len(self._rest)
                    self._changed.notify_all()
        piece = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(piece) :]
        return bytes(piece)

    def write(self, data: bytes) -> int:
        """For pyrage: output."""
        self._output.append(data)
        return len(data)

    def flush(self) -> None:
        """For pyrage: nothing to do."""

    def _run(self, convert: Callable[[AgeFilter, AgeFilter], None]) -> None:
        try:
            convert(self, self)
        except BaseException as error:
            # A panic of Rust is no Exception, and would pass for a wish to end the process.
            self._error = error if isinstance(error, Exception) else ValueError(f"{type(error).__name__}: {error}")
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _take(self) -> bytes:
        if self._cancelled:
            raise ValueError("the encryption was ended")
        if self._error is not None:
            raise self._error
        ready, self._output = self._output, []
        return b"".join(ready)


def encryption(recipients: Sequence[str]) -> AgeFilter:
    """Encrypt to ``recipients``, age public keys (``age1…``); raises as :func:`check_recipients` does."""
    age, keys = _pyrage(), check_recipients(recipients)
    return AgeFilter(lambda source, sink: age.encrypt_io(source, sink, keys))


def check_recipients(recipients: Sequence[str]) -> list[Any]:
    """Parse age public keys; raises :class:`InvalidPlan` if one is not, :class:`ExtraMissing` without pyrage."""
    age = _pyrage()
    return [_key(age, age.x25519.Recipient, text, "recipients", "age1…", text) for text in recipients]


def decryption(identities: Sequence[str], what: str) -> AgeFilter:
    """Decrypt with ``identities``, age secret keys (``AGE-SECRET-KEY-1…``).

    Raises :class:`InvalidPlan` if one is not such a key, and later :class:`RestoreRefused`, naming ``what``,
    if none of them opens it.
    """
    age = _pyrage()
    if not identities:
        raise InvalidPlan("identities", (), f"the age secret key that opens {what}; it is encrypted")
    # The value of a secret key must not reach a log.
    keys = [_key(age, age.x25519.Identity, text, "identities", "AGE-SECRET-KEY-1…", "***") for text in identities]

    def convert(source: AgeFilter, sink: AgeFilter) -> None:
        try:
            age.decrypt_io(source, sink, keys)
        except age.DecryptError as error:
            if "No matching keys" not in str(error):
                raise
            raise RestoreRefused(
                f"{what} is encrypted, and none of the {len(keys)} identities given opens it.",
                remedy="Give the age secret key that belongs to one of the recipients it was encrypted to.",
            ) from error

    return AgeFilter(convert)


def header_bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes; raises ``ValueError`` if the header of what is encrypted does not end soon."""
    header = b""
    for chunk in chunks:
        header += chunk
        if _HEADER_END in header[:_LONGEST_HEADER]:
            break
        if len(header) >= _LONGEST_HEADER:
            raise ValueError("the header of what is encrypted does not end")
    yield header
    yield from chunks


def _key(age: ModuleType, kind: Any, text: str, field: str, form: str, shown: str) -> Any:
    try:
        return kind.from_str(text.strip())
    except (age.RecipientError, age.IdentityError):
        raise InvalidPlan(field, shown, f"X25519 keys of age, {form}, as age-keygen prints them") from None


def _pyrage() -> ModuleType:
    try:
        import pyrage
    except ImportError as error:
        raise ExtraMissing(
            "Encrypted backups need pyrage.", remedy="Install it: pip install 'airflow-backup-guard[age]'."
        ) from error
    return pyrage  # type: ignore[no-any-return]
