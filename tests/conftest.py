"""Fixtures for every kind of test: real PostgreSQL servers, started at the first need, shared by the session."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from airflow_backup_guard.postgres.account import account_for, private_folder
from airflow_backup_guard.postgres.server import LocalServer, available_majors

# A shell starts what runs in the background with SIGINT ignored, and every child would inherit that; with a handler
# here, children begin with the default.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The width of somebody's terminal, or the one that a worker of several has, is none of a test's business.
os.environ.pop("COLUMNS", None)

# What the tests' servers run with. No fsync: the tests that need a slow disk make one.
SMALL = {
    "fsync": "off",
    "max_wal_senders": "10",
    "shared_buffers": "32MB",
    "wal_level": "replica",
}

# Each role's password over 127.0.0.1 is its name. `nohba` is in no replication line of pg_hba.conf.
ROLES = """
CREATE ROLE guard LOGIN REPLICATION PASSWORD 'guard' IN ROLE pg_monitor;
CREATE ROLE plain LOGIN PASSWORD 'plain';
CREATE ROLE noreplication LOGIN PASSWORD 'noreplication' IN ROLE pg_monitor;
CREATE ROLE nomonitor LOGIN REPLICATION PASSWORD 'nomonitor';
CREATE ROLE nohba LOGIN REPLICATION PASSWORD 'nohba' IN ROLE pg_monitor;
CREATE ROLE watchdog LOGIN PASSWORD 'watchdog' IN ROLE pg_monitor, pg_signal_backend;
"""
HBA = (
    "host all all 127.0.0.1/32 scram-sha-256",
    "host replication guard,plain,noreplication,nomonitor 127.0.0.1/32 scram-sha-256",
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers (-n): the tests of a file run on one of them, and so do all acceptance tests, which share
    one Airflow. They come first, as they take longest, and the unit tests fill up the end (--no-loadscope-reorder)."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "tests/acceptance" if file.startswith("tests/acceptance/") else file

    return Scheduling(config, log)


def prepare(server: LocalServer) -> LocalServer:
    """Give a running server the roles and the pg_hba.conf lines that the tests count on."""
    server.sql(ROLES)
    server.set_hba(HBA)
    return server


def need_major(major: int) -> None:
    """Skip the test, with the reason, where this major version is not installed."""
    if major not in available_majors():
        pytest.skip(f"PostgreSQL {major} is not installed here")


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Callable[[int], LocalServer]]:
    """``shared_server(17)``: the session's server of a major version, with ROLES; skips where there is none."""
    servers: dict[int, LocalServer] = {}
    with ExitStack() as stack:

        def get(major: int) -> LocalServer:
            need_major(major)
            if major not in servers:
                created = stack.enter_context(LocalServer.create(major=major, settings=SMALL))
                servers[major] = prepare(created)
            return servers[major].start()

        yield get


@pytest.fixture(scope="session")
def server(shared_server: Callable[[int], LocalServer]) -> LocalServer:
    """The session's PostgreSQL 18, with ROLES. Leave it as you found it; to change it, take ``new_server``."""
    return shared_server(18)


@pytest.fixture(scope="session")
def role_dsn() -> Callable[..., str]:
    """``role_dsn(server, "plain", "mydb", options="…")``: how one of ROLES connects over 127.0.0.1; the other
    keywords are added, or replace what is there (``password="wrong"``)."""

    def dsn(server: LocalServer, role: str = "guard", dbname: str = "postgres", **keywords: str) -> str:
        added = [f"{keyword}='{value}'" for keyword, value in keywords.items()]
        return " ".join([server.dsn(dbname, role, password=role, tcp=True), *added])

    return dsn


@pytest.fixture(scope="session")
def guard_dsn(server: LocalServer, role_dsn: Callable[..., str]) -> str:
    """How ``guard``, who may back up and monitor, connects to ``server``."""
    return role_dsn(server)


@pytest.fixture
def new_server() -> Iterator[Callable[..., LocalServer]]:
    """``new_server(major=…, settings={…})``: a running server with ROLES for this test only; half a second."""
    with ExitStack() as stack:

        def create(
            folder: Path | None = None, *, major: int = 18, settings: Mapping[str, str] | None = None
        ) -> LocalServer:
            need_major(major)
            created = LocalServer.create(folder, major=major, settings={**SMALL, **(settings or {})})
            return prepare(stack.enter_context(created))

        yield create


@pytest.fixture
def cluster_folder() -> Iterator[Path]:
    """An empty folder for data directories. pytest's tmp_path will not do: PostgreSQL does not run as root, and
    whoever runs it for root cannot enter a folder that is root's alone."""
    folder = private_folder(account_for(Path("/")), "test")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def is_root() -> bool:
    """Whether the tests run as root."""
    return os.geteuid() == 0
