"""Looks at the sessions of a server, and ends some of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

import psycopg
from psycopg.rows import dict_row

from airflow_backup_guard.core.activity import Activity, Session
from airflow_backup_guard.postgres import activity_sql
from airflow_backup_guard.postgres.any_text import AS_BYTES, show_any_text
from airflow_backup_guard.postgres.async_session import AsyncSession, end_session, open_session
from airflow_backup_guard.postgres.connection import READABLE_TIMES, connect, translate

# A server that is too busy to answer is asked again; whoever waits hears that it is.
_PREPARE = (
    "SET statement_timeout = '5s'; SET lock_timeout = '1s'; SET jit = off; SET TimeZone = 'UTC'; "
    f"{READABLE_TIMES}; {AS_BYTES}"
)


class ActivityProbe:
    """One session that looks; it connects at the first look, and again after a failure."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._session: AsyncSession | None = None

    async def __aenter__(self) -> ActivityProbe:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session. Idempotent."""
        session, self._session = self._session, None
        await end_session(None, session)

    async def look(self) -> Activity:
        """All sessions as they are now. Raises :class:`SourceUnavailable`, :class:`SourceBusy` or
        :class:`SourceUnsuitable`."""
        try:
            if self._session is None:
                self._session = await open_session(self._dsn, _PREPARE)
            sessions = await _rows(self._session, activity_sql.SESSIONS)
            works = await _rows(self._session, activity_sql.WORKS)
            (server,) = await _rows(self._session, activity_sql.SERVER)
        except psycopg.Error as error:
            await self.close()
            raise translate(self._dsn, error) from error
        return Activity(
            **{**server, "at": server["at"].astimezone(timezone.utc)},
            sessions=tuple(Session(**{**row, "slots": tuple(row["slots"])}) for row in sessions),
            works=tuple(f"{row['what']} ×{row['number']}" if row["number"] > 1 else row["what"] for row in works),
        )


def end_processes(dsn: str, pids: Sequence[int], starts: Sequence[datetime | None]) -> tuple[int, ...]:
    """End these sessions, if they are still those that began at ``starts``; returns which were told to.

    Raises :class:`SourceUnsuitable` without the privilege, and as ``connect`` does.
    """
    with connect(dsn) as connection:
        rows = connection.execute(activity_sql.END, [list(pids), list(starts)]).fetchall()
    return tuple(pid for pid, told in rows if told)


async def _rows(session: AsyncSession, sql: str) -> list[dict[str, Any]]:
    cursor = session.cursor(row_factory=dict_row)
    show_any_text(cursor)
    return await (await cursor.execute(sql, prepare=True)).fetchall()
