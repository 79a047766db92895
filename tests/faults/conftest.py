"""Fixtures for the tests of faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.forks import Forks, forks


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """What runs commands and operators without a start of Python for each."""
    with forks(tmp_path_factory.mktemp("forks")) as ready:
        yield ready
