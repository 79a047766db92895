"""Text of the server as it can be shown, whatever the encoding of the database that it comes from."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.adapt import Buffer, Loader

AS_BYTES = "SET client_encoding = 'SQL_ASCII'"
"""Bytes as they are: a server that was to convert them would fail at the first that is not of its encoding."""


class AnyText(Loader):
    """Text as it can be shown: names and statements are shown to all databases, whatever the encoding of each."""

    def load(self, data: Buffer) -> str:
        """What is not UTF-8 becomes its bytes, written with backslashes."""
        return readable(bytes(data))


def readable(data: bytes) -> str:
    """Text of any encoding; what is not UTF-8 becomes its bytes, written with backslashes."""
    return data.decode("utf-8", "backslashreplace")


def show_any_text(context: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> None:
    """Have a cursor read names and texts so. Its session is to run :data:`AS_BYTES` first."""
    for kind in ("name", "text"):
        context.adapters.register_loader(kind, AnyText)
