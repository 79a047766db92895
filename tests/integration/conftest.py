"""Fixtures for tests against real servers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_backup_guard.postgres.server import LocalServer


@pytest.fixture(params=[15, 16, 17, 18], ids=lambda major: f"postgresql-{major}")
def any_server(request: pytest.FixtureRequest, shared_server: Callable[[int], LocalServer]) -> LocalServer:
    """The session's server of each major version in turn; those that are not installed are skipped."""
    return shared_server(request.param)
