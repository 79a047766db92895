"""Fixtures for tests against real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from airflow_backup_guard.postgres.server import LocalServer
from tests.conftest import HBA


@pytest.fixture(params=[15, 16, 17, 18], ids=lambda major: f"postgresql-{major}")
def any_server(request: pytest.FixtureRequest, shared_server: Callable[[int], LocalServer]) -> LocalServer:
    """The session's server of each major version in turn; those that are not installed are skipped."""
    return shared_server(request.param)


@pytest.fixture
def standby_of(cluster_folder: Path) -> Iterator[Callable[[LocalServer], LocalServer]]:
    """``standby_of(primary)``: a running standby that streams from it, and has its roles."""
    with ExitStack() as stack:

        def make(primary: LocalServer) -> LocalServer:
            data = cluster_folder / "standby"
            primary.run("pg_basebackup", "--pgdata", str(data), "--checkpoint=fast", "--write-recovery-conf")
            # A server on a copied folder is kept from following its original unless it is told to.
            settings = {"hot_standby": "on", "primary_conninfo": primary.dsn()}
            standby = stack.enter_context(LocalServer(data, settings=settings))
            standby.set_hba(HBA)
            return standby

        yield make
