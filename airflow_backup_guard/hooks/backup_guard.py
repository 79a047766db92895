"""Airflow's connections, as the engine wants them: a connection string, and an open repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_backup_guard.core import BackupPlan
    from airflow_backup_guard.repository.base import Repository


class BackupGuardHook(BaseHook):
    """Opens what a plan names: its database (a Postgres connection) and its repository (disk, or AWS connection)."""

    def __init__(self, plan: BackupPlan) -> None:
        super().__init__()
        self.plan = plan

    def dsn(self) -> str:
        """The plan's connection as a libpq connection string, with a token of its cloud provider if it asks for one."""
        return _dsn_of(self.plan.connection)

    def load_dsn(self) -> str | None:
        """The same of its load connection; None if it has none."""
        return None if self.plan.load_connection is None else _dsn_of(self.plan.load_connection)

    async def async_dsn(self) -> str:
        """:meth:`dsn` inside of a trigger."""
        return await _async_dsn_of(self.plan.connection)

    async def async_load_dsn(self) -> str | None:
        """:meth:`load_dsn` inside of a trigger."""
        return None if self.plan.load_connection is None else await _async_dsn_of(self.plan.load_connection)

    def repository(self) -> Repository:
        """The plan's repository; ``s3://conn_id@bucket`` uses that AWS connection."""
        from airflow_backup_guard.repository import open_repository
        from airflow_backup_guard.repository.open import connection_id

        aws_connection = connection_id(self.plan.repository)
        if aws_connection is None:
            return open_repository(self.plan.repository)
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from airflow_backup_guard.repository.s3 import client_config

        # The connection's own config_kwargs go before.
        config = client_config().merge(S3Hook(aws_conn_id=aws_connection).config)
        client = S3Hook(aws_conn_id=aws_connection, config=config).get_conn()
        return open_repository(self.plan.repository, s3_client=client)


def _dsn_of(connection_id: str) -> str:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    hook = PostgresHook(postgres_conn_id=connection_id)
    connection = hook.get_connection(connection_id)
    if connection.extra_dejson.get("iam", False):
        connection.login, connection.password, connection.port = hook.get_iam_token(connection)
    return _dsn(connection)


async def _async_dsn_of(connection_id: str) -> str:
    connection = await BaseHook.aget_connection(connection_id)
    if connection.extra_dejson.get("iam", False):
        import asyncio

        return await asyncio.to_thread(_dsn_of, connection_id)
    return _dsn(connection)


def _dsn(connection: Connection) -> str:
    from airflow_backup_guard.postgres.connection import dsn_of

    keywords: dict[str, Any] = {
        **connection.extra_dejson,
        "host": connection.host,
        "port": connection.port,
        "user": connection.login,
        "password": connection.password,
        "dbname": connection.schema or "postgres",
    }
    return dsn_of(keywords)
