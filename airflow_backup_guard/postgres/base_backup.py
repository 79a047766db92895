"""The BASE_BACKUP stream: the whole cluster as tar archives, and PostgreSQL's manifest of them.

Protocol: "BASE_BACKUP" under "Streaming Replication Protocol" in PostgreSQL's documentation; this form of the
stream exists from PostgreSQL 15 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import SourceUnavailable
from airflow_backup_guard.postgres.replication import KeepGoing, ReplicationConnection


class MessageKind(Enum):
    """What a message of the stream is; nothing says that an archive ended but the next one's beginning."""

    ARCHIVE = b"n"
    MANIFEST = b"m"
    DATA = b"d"
    PROGRESS = b"p"


class Message(NamedTuple):
    """``name`` (such as ``base.tar``) comes with ARCHIVE; ``data``, pieces of up to 32 KiB, with DATA."""

    kind: MessageKind
    data: Sequence[memoryview] = ()
    name: str = ""


@dataclass(frozen=True)
class StreamedTablespace:
    """One tablespace that the backup holds an archive of; ``size`` in bytes, an estimate."""

    oid: int
    location: str
    size: int


class BaseBackup:
    """One base backup being streamed. ``total`` is the server's estimate of all archives, in bytes."""

    def __init__(
        self,
        connection: ReplicationConnection,
        *,
        label: str,
        checkpoint: str,
        max_rate: Rate,
        keep_going: KeepGoing,
    ) -> None:
        """Ask for the backup and wait for its checkpoint, which takes minutes when it is ``spread``."""
        self._connection = connection
        connection.read_ahead_little(max_rate)
        connection.send(
            f"BASE_BACKUP (LABEL {_quote(label)}, CHECKPOINT {_quote(checkpoint)}, PROGRESS, WAIT 0, TABLESPACE_MAP, "
            # The server's own ceiling holds even if this process hangs; it is given in kB of 1024 bytes.
            f"MANIFEST 'yes', MAX_RATE {min(max(max_rate // 1024 + 1, 32), 1048576)})"
        )
        ((start, timeline),) = connection.result(keep_going)
        tablespaces = connection.result(keep_going)
        self.start_lsn = LSN.parse(start or "")
        self.timeline = int(timeline or 0)
        self.total = 1024 * sum(int(size or 0) for _, _, size in tablespaces)
        # As they are at the backup's own start: one may have been created or dropped since the snapshot.
        self.tablespaces = tuple(
            StreamedTablespace(int(oid), location or "", 1024 * int(size or 0))
            for oid, location, size in tablespaces
            if oid is not None
        )
        self._archives = {"base.tar", *(f"{tablespace.oid}.tar" for tablespace in self.tablespaces)}
        self._next: memoryview | bool | None = None
        connection.begin_copy(keep_going)

    def read(self, timeout: float, most: float = 0) -> Message | bool | None:
        """The next message; None if none came within ``timeout`` seconds, False at the end of the stream.

        DATA that has arrived already comes together, until it is ``most`` bytes: there are 30,000 messages in a GB.
        """
        message, self._next = self._next, None
        if message is None:
            message = self._connection.copy_data(timeout)
        if message is None or isinstance(message, bool):
            return message
        kind = bytes(message[:1])
        if kind == b"d":
            return Message(MessageKind.DATA, self._data(message, most))
        if kind == b"n":
            name = bytes(message[1:]).split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
            if name not in self._archives:
                raise SourceUnavailable(f"The base backup stream has an archive {name!r}, which is none of its own.")
            self._archives.remove(name)  # it becomes a name in the repository, and each of them is there once
            return Message(MessageKind.ARCHIVE, name=name)
        if kind in (b"m", b"p"):
            return Message(MessageKind(kind))
        raise SourceUnavailable(f"The base backup stream has a message of unknown kind {kind!r}.")

    def _data(self, message: memoryview, most: float) -> list[memoryview]:
        pieces, size = [message[1:]], len(message)
        while size < most:
            following = self._connection.copy_data(0)
            if following is None or isinstance(following, bool) or bytes(following[:1]) != b"d":
                self._next = following
                break
            pieces.append(following[1:])
            size += len(following)
        return pieces

    def finish(self, keep_going: KeepGoing) -> LSN:
        """After the stream's end: the LSN up to which WAL is needed to restore the backup."""
        ((end, _),) = self._connection.result(keep_going)
        return LSN.parse(end or "")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
