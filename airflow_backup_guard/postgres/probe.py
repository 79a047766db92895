"""Measures the live write load of a primary, twice a second if need be, in one round trip."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

import psycopg

from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.connection import conninfo, translate

# Any role may run this, on a primary, from PostgreSQL 9.6 on. The commit is timed by the server's clock, so that
# neither the network nor a busy worker counts as load of the database. What is written is a WAL record of a few
# bytes that no table and no reader ever sees.
_MEASURE = """
    SELECT extract(epoch FROM clock_timestamp())::float8;
    BEGIN;
    SELECT pg_logical_emit_message(true, 'backup_guard', '');
    COMMIT;
    SELECT extract(epoch FROM clock_timestamp())::float8,
           (pg_current_wal_lsn() - '0/0')::float8,
           (SELECT sum(xact_commit)::float8 FROM pg_stat_database),
           (SELECT sum(tup_inserted + tup_updated + tup_deleted)::float8 FROM pg_stat_database),
           pg_postmaster_start_time()::text
"""
# With asynchronous commit the probe would not feel the disk that it is there to feel.
_PREPARE = """
    SELECT CASE current_setting('synchronous_commit') WHEN 'off'
           THEN set_config('synchronous_commit', 'local', false) END
"""


@dataclass(frozen=True)
class _Counters:
    measured_at: float  # seconds of the monotonic clock
    wal: float
    commits: float
    tuples: float
    started: str  # of the server: after a restart the counters begin anew


class LoadProbe:
    """One session that measures; it connects by itself, again after a failure, and never raises for one.

    A sample holds ``commit_latency`` in seconds, ``wal_rate`` in bytes/s, ``tuple_rate`` and ``commit_rate`` per
    second since the sample before. What could not be measured is in ``unavailable`` with the reason.
    """

    def __init__(self, dsn: str, *, timeout: float = 5.0) -> None:
        """``timeout`` in seconds bounds one sample, connecting included."""
        self._dsn = dsn
        self._timeout = timeout
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._previous: _Counters | None = None

    async def __aenter__(self) -> LoadProbe:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._disconnect()

    @property
    def connected(self) -> bool:
        """True while a session is open."""
        return self._connection is not None

    async def sample(self) -> LoadSample:
        """Measure once."""
        try:
            return await asyncio.wait_for(self._measure(), self._timeout)
        except (TimeoutError, asyncio.TimeoutError):
            reason = f"no answer within {self._timeout:.0f} s"
        except psycopg.Error as error:
            reason = str(translate(self._dsn, error))
        except BackupGuardError as error:
            reason = str(error)
        await self._disconnect()
        return LoadSample.failed(datetime.now(timezone.utc), reason)

    async def _measure(self) -> LoadSample:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(conninfo(self._dsn), autocommit=True)
            await self._connection.execute(_PREPARE)
        cursor = await self._connection.execute(_MEASURE)
        (began,) = await cursor.fetchone() or ()
        while cursor.nextset():
            pass
        ended, wal, commits, tuples, started = await cursor.fetchone() or ()
        counters = _Counters(time.monotonic(), wal, commits, tuples, started)
        values, unavailable = _rates(self._previous, counters)
        if ended >= began:
            values["commit_latency"] = ended - began
        else:
            unavailable["commit_latency"] = "the clock of the server was set back"
        self._previous = counters
        return LoadSample(datetime.now(timezone.utc), values, unavailable)

    async def _disconnect(self) -> None:
        connection, self._connection, self._previous = self._connection, None, None
        if connection is not None:
            await connection.close()


def _rates(previous: _Counters | None, now: _Counters) -> tuple[dict[str, float], dict[str, str]]:
    names = {"wal_rate": "wal", "commit_rate": "commits", "tuple_rate": "tuples"}
    if previous is None or previous.started != now.started:
        return {}, dict.fromkeys(names, "a rate needs two samples")
    values, unavailable = {}, {}
    seconds = max(now.measured_at - previous.measured_at, 1e-3)
    for name, counter in names.items():
        grown = getattr(now, counter) - getattr(previous, counter)
        if grown < 0:
            unavailable[name] = "the statistics were reset"
        else:
            values[name] = grown / seconds
    return values, unavailable
