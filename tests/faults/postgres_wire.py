"""PostgreSQL's protocol as it passes a proxy: counts messages by session and kind, and disturbs one of them.

Messages: "Message Formats" in PostgreSQL's documentation. The connection must use neither TLS nor GSSAPI.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.faults.proxy import Cut, Filter, Link, Silence, flipped, slowly

# What a session does is what it was told last. Order matters: the first that is in the command.
_COMMANDS = {
    b"BASE_BACKUP": "base backup",
    b"START_REPLICATION": "WAL",
    b"IDENTIFY_SYSTEM": "identity",
    b"pg_create_physical_replication_slot": "slot",
    b"pg_replication_slot_advance": "slot",
    b"pg_logical_emit_message": "probe",
    b"pg_terminate_backend": "clean-up",
}
_SLOW_RATE = 3_000_000.0
_STREAMS = ("base backup", "WAL")
ACTIONS = ("reset", "close", "half", "hang", "vanish", "corrupt", "delay", "slow")
"""What can be done at a message: connections are reset or closed before it, or closed in the middle of it; from it on
nothing comes; from it on nothing goes either way, not even an end; one bit of it is another; it comes late; it and
what follows come slowly."""


@dataclass(frozen=True, order=True)
class Position:
    """The ``number``-th message of a kind, counted over all sessions that do the same: ``base backup < d:n``."""

    session: str
    message: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.session} {self.message} #{self.number}"


class Wire:
    """Counts what passes, and does ``action`` once at ``position``. ``reached`` says whether it came to that."""

    def __init__(self, position: Position | None = None, action: str = "", seed: int = 0) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.reached = False
        self._position = position
        self._action = action
        self._random = random.Random(seed)

    def __call__(self, link: Link) -> tuple[Filter, Filter]:
        """The script for :class:`~tests.faults.proxy.Proxy`."""
        session = _Session(self)
        return session.from_client, session.from_server

    def disturb(self, session: _Session, label: str, message: bytes) -> Iterator[bytes | float]:
        """What is passed on of a message."""
        self.seen[session.doing, label] += 1
        here = self._position == Position(session.doing, label, self.seen[session.doing, label])
        if not here:
            yield message
            return
        self.reached = True
        if self._action == "half":
            yield message[: max(len(message) // 2, 1)]
        if self._action in ("reset", "close", "half"):
            raise Cut(reset=self._action == "reset")
        if self._action in ("hang", "vanish"):
            raise Silence(vanished=self._action == "vanish")
        if self._action == "delay":
            yield 1.0
        session.slow = self._action == "slow"
        yield flipped(message, self._random.randrange(len(message))) if self._action == "corrupt" else message


class _Session:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.doing = "start-up"
        self.slow = False
        self._began = False
        self._buffers = {"<": b"", ">": b""}

    def from_client(self, data: bytes) -> Iterable[bytes | float]:
        for message in self._messages(">", data):
            if message[:1] in (b"Q", b"P"):
                self.doing = next((name for text, name in _COMMANDS.items() if text in message), "questions")
            yield from self._wire.disturb(self, f"> {self._name(message)}", message)

    def from_server(self, data: bytes) -> Iterable[bytes | float]:
        for message in self._messages("<", data):
            for piece in self._wire.disturb(self, f"< {self._name(message)}", message):
                yield from slowly(piece, _SLOW_RATE) if self.slow and isinstance(piece, bytes) else [piece]

    def _name(self, message: bytes) -> str:
        if message[:1] == b"\0":
            return "startup"
        name = message[:1].decode("latin-1")
        return f"{name}:{chr(message[5])}" if name == "d" and self.doing in _STREAMS and len(message) > 5 else name

    def _messages(self, way: str, data: bytes) -> Iterator[bytes]:
        """Whole messages; the first of a client has no kind, and so begins with a zero of its length."""
        buffer = self._buffers[way] + data
        while len(buffer) >= 5:
            start = 0 if way == ">" and not self._began else 1
            size = start + int.from_bytes(buffer[start : start + 4], "big")
            if len(buffer) < size:
                break
            self._began = self._began or way == ">"
            message, buffer = buffer[:size], buffer[size:]
            yield message
        self._buffers[way] = buffer
