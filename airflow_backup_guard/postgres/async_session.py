"""Sessions for asyncio that notice a server that is gone, and that end without waiting for one that hangs."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from airflow_backup_guard.postgres.connection import conninfo, parse_conninfo

AsyncSession = psycopg.AsyncConnection[tuple[Any, ...]]

# A server that vanished while an answer is awaited is noticed within half a minute, and not after a quarter of an hour;
# one that is merely stuck still acknowledges, so that its session is waited for.
_TCP_USER_TIMEOUT = {"tcp_user_timeout": "30000"}
_CANCEL_SECONDS = 2.0


async def open_session(dsn: str, prepare: str) -> AsyncSession:
    """Connect, in autocommit, and run the statements ``prepare``. Raises psycopg's errors."""
    patience = {**_TCP_USER_TIMEOUT, **parse_conninfo(dsn)}["tcp_user_timeout"]
    session = await psycopg.AsyncConnection.connect(conninfo(dsn, tcp_user_timeout=str(patience)), autocommit=True)
    try:
        await session.execute(prepare)
    except BaseException:
        await session.close()
        raise
    return session


async def end_session(task: asyncio.Task[Any] | None, session: AsyncSession | None) -> None:
    """End the task that uses a session, and the session. The server is asked to cancel what it does for it, and waited
    for two seconds."""
    for _ in range(2):  # the second time, the task has a session that is closed, and nothing left to wait for
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        if session is not None:
            await session.close()
    if task is not None and task.done() and not task.cancelled():
        task.exception()  # asyncio complains of an error that nobody has looked at
