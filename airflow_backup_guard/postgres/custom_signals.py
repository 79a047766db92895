"""Asks a plan's own queries, in a session of their own, so that a slow one never delays the probe of commits."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import psycopg

from airflow_backup_guard.core.limits import CustomSignal
from airflow_backup_guard.core.signals import CUSTOM
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres import load_sql
from airflow_backup_guard.postgres.async_session import AsyncSession, end_session, open_session
from airflow_backup_guard.postgres.connection import translate

_SPACING_SECONDS = 0.9
_GRACE_SECONDS = 0.05
_STALE_SECONDS = 3.0
_TOO_SLOW = "it did not end within 250 ms"


class CustomProbe:
    """One session for all queries, asked one after the other, once a second at most; never raises for one."""

    def __init__(self, dsn: str, signals: tuple[tuple[str, CustomSignal], ...]) -> None:
        self._dsn = dsn
        self._signals = signals
        self._session: AsyncSession | None = None
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._answered_at = float("-inf")
        self._values: dict[str, float] = {}
        self._unavailable: dict[str, str] = {}

    def ask(self) -> None:
        """Begin to ask, unless that was done less than a second ago, or the last answers are still awaited."""
        if self._signals and self._asking is None and time.monotonic() - self._asked_at >= _SPACING_SECONDS:
            self._asked_at = time.monotonic()
            self._asking = asyncio.ensure_future(self._ask())

    async def answers(self) -> tuple[dict[str, float], dict[str, str]]:
        """Values and reasons by name, at most three seconds old; waits a moment for answers that are under way."""
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=_GRACE_SECONDS)
            if self._asking.done():
                self._asking = None
        age = time.monotonic() - self._answered_at
        if age > _STALE_SECONDS:
            reason = f"no answer for {age:.0f} s" if self._values or self._unavailable else "not answered yet"
            return {}, {CUSTOM + name: reason for name, _ in self._signals}
        return self._values, self._unavailable

    async def close(self) -> None:
        """End the session."""
        asking, self._asking = self._asking, None
        session, self._session = self._session, None
        await end_session(asking, session)

    async def _ask(self) -> None:
        values: dict[str, float] = {}
        unavailable: dict[str, str] = {}
        broken: str | None = None
        for name, signal in self._signals:
            try:
                if broken is None:
                    values[CUSTOM + name] = await self._number(signal.sql)
            except psycopg.errors.QueryCanceled:
                unavailable[CUSTOM + name] = _TOO_SLOW
            except ValueError as error:
                unavailable[CUSTOM + name] = str(error)
            except (psycopg.Error, BackupGuardError) as error:
                reason = translate(self._dsn, error).message if isinstance(error, psycopg.Error) else str(error)
                unavailable[CUSTOM + name] = reason
                if self._session is None or self._session.closed:
                    self._session, broken = None, reason
            if broken is not None:
                unavailable[CUSTOM + name] = broken
        self._values, self._unavailable, self._answered_at = values, unavailable, time.monotonic()

    async def _number(self, sql: str) -> float:
        if self._session is None:
            self._session = await open_session(self._dsn, load_sql.PREPARE_CUSTOM_SESSION)
        # Only what is sent for a binary answer, or prepared, is surely a single statement.
        cursor = await self._session.execute(load_sql.custom(sql), binary=True)
        rows = await cursor.fetchall()
        if len(rows) != 1:
            raise ValueError("it returned more than one row" if rows else "it returned no row")
        if len(rows[0]) != 1:
            raise ValueError(f"it returned {len(rows[0])} columns, not one")
        (value,) = rows[0]
        if value is None:
            raise ValueError("it returned NULL")
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise ValueError(f"it returned {type(value).__name__}, not a number")
        return float(value)
