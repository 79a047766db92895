"""The stream of a base backup: its messages in their order, however they arrive."""

from __future__ import annotations

from typing import Any, cast

import pytest

from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.errors import SourceUnavailable
from airflow_backup_guard.postgres.base_backup import BaseBackup, Message, MessageKind


class Server:
    """Answers with two archives, and then with the messages it was given: None is a pause, an error is raised."""

    def __init__(self, *messages: bytes | BaseException | None) -> None:
        self._results: list[Any] = [[("0/1000", "1")], [("16385", "/srv/fast", "1"), (None, None, "2")]]
        self._messages = list(messages)

    def read_ahead_little(self, rate: float) -> None:
        """It is told how fast."""

    def send(self, command: str) -> None:
        """It is asked for a backup."""

    def begin_copy(self, keep_going: Any) -> None:
        """It begins."""

    def result(self, keep_going: Any) -> Any:
        """The next one."""
        return self._results.pop(0)

    def copy_data(self, timeout: float) -> memoryview | bool | None:
        """The next message, None once for a pause, False once at the end, after which there is nothing to ask for."""
        message = self._messages.pop(0)
        if isinstance(message, BaseException):
            raise message
        return False if message == b"" else None if message is None else memoryview(message)


def read(*messages: bytes | BaseException | None, most: float = 1 << 18) -> list[Any]:
    """What comes of it: the pieces of each DATA, names, kinds, None and False."""
    stream = BaseBackup(
        cast("Any", Server(*messages)), label="x", checkpoint="fast", max_rate=Rate(1 << 20), keep_going=lambda: None
    )
    found: list[Any] = []
    while not found or found[-1] is not False:
        message = stream.read(0.2, most)
        if not isinstance(message, Message):
            found.append(message)
        elif message.kind is MessageKind.DATA:
            found.append([bytes(piece) for piece in message.data])
        else:
            found.append(message.name or message.kind)
    return found


def test_what_has_arrived_comes_together_and_in_its_order() -> None:
    """Until there is nothing, or something else, or enough; whatever ended it comes next."""
    assert read(b"nbase.tar\0\0", b"d1", b"d2", b"n16385.tar\0\0", b"d3", None, b"d4", b"p\0", b"m", b"d5", b"") == [
        *("base.tar", [b"1", b"2"], "16385.tar", [b"3"], [b"4"], MessageKind.PROGRESS, MessageKind.MANIFEST),
        *([b"5"], False),
    ]
    assert read(b"d1", b"d2", b"d3", b"", most=0) == [[b"1"], [b"2"], [b"3"], False]
    assert read(b"d1", b"d2", b"d3", b"", most=4) == [[b"1", b"2"], [b"3"], False]


def test_an_error_is_not_put_off() -> None:
    """Nothing of a stream that broke is worth to be stored."""
    with pytest.raises(SourceUnavailable, match="gone"):
        read(b"d1", SourceUnavailable("gone"))
    with pytest.raises(SourceUnavailable, match="unknown kind"):
        read(b"d1", b"x", b"")
