"""The repositories that faults are done to: a folder behind a wrapper, a bucket behind a proxy."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import boto3
import moto.s3.models
from botocore.config import Config
from moto.server import ThreadedMotoServer

from airflow_backup_guard.repository import s3_writer
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.s3 import S3Repository
from tests.faults import faulty_repository, http_wire
from tests.faults.faulty_repository import Call, FaultyRepository
from tests.faults.http_wire import HttpWire
from tests.faults.proxy import Proxy, unchanged

_PART = 1 << 20


class Disturbed(Protocol):
    """What does the fault: what it has seen, and whether it came to it."""

    seen: Counter[tuple[str, str]]
    reached: bool


class Store(Protocol):
    """A kind of repository."""

    name: str
    party: str
    """What its errors name."""
    actions: tuple[str, ...]

    def fresh(self) -> Repository:
        """A new one, empty, undisturbed."""

    def disturbed(
        self, repository: Repository, call: Call | None, action: str, seed: int
    ) -> tuple[Repository, Disturbed]:
        """The same as the product sees it, with ``action`` at ``call``."""

    def healed(self) -> None:
        """The fault is gone."""

    def allows(self, call: Call, action: str) -> bool:
        """Whether that can happen to such a call."""


class Folders(AbstractContextManager["Folders"]):
    """Directories; a wrapper around the protocol does the faults."""

    name = "folder"
    party = "file://"
    actions: tuple[str, ...] = faulty_repository.ACTIONS

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def __exit__(self, *exception: object) -> None:
        pass

    def fresh(self) -> LocalRepository:
        """See :class:`Store`."""
        return LocalRepository(self._folder / f"folder-{next(self._numbers)}")

    def disturbed(
        self, repository: Repository, call: Call | None, action: str, seed: int
    ) -> tuple[Repository, Disturbed]:
        """See :class:`Store`."""
        faulty = FaultyRepository(repository, call, action)
        return faulty, faulty

    def healed(self) -> None:
        """See :class:`Store`."""

    def allows(self, call: Call, action: str) -> bool:
        """See :class:`Store`."""
        return call.allows(action)


class Buckets(AbstractContextManager["Buckets"]):
    """Buckets of an S3 API in this process; a proxy does the faults. Objects of more than 1 MiB go in parts."""

    name = "S3"
    party = "s3://"
    actions: tuple[str, ...] = http_wire.ACTIONS

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._numbers = itertools.count()

    def __enter__(self) -> Buckets:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        self._stack.callback(server.stop)
        host, port = server.get_host_and_port()
        self._proxy = self._stack.enter_context(Proxy((host, port)))
        self._stack.enter_context(_small_parts())
        self._direct = _client(port, read_timeout=60)
        self._proxied = _client(self._proxy.port, read_timeout=2)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def fresh(self) -> S3Repository:
        """See :class:`Store`."""
        name = f"backups-{next(self._numbers)}"
        self._direct.create_bucket(Bucket=name)
        return S3Repository(self._direct, name)

    def disturbed(
        self, repository: Repository, call: Call | None, action: str, seed: int
    ) -> tuple[Repository, Disturbed]:
        """See :class:`Store`."""
        assert isinstance(repository, S3Repository)
        self._proxy.let_go()
        wire = self._proxy.script = HttpWire(call, action, seed)
        return S3Repository(self._proxied, repository.place[1]), wire

    def healed(self) -> None:
        """See :class:`Store`."""
        self._proxy.script = lambda link: (unchanged, unchanged)
        self._proxy.let_go()

    def allows(self, call: Call, action: str) -> bool:
        """See :class:`Store`."""
        return http_wire.allows(call, action)


def _client(port: int, *, read_timeout: int) -> Any:
    config = Config(
        connect_timeout=2,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": 2},
        response_checksum_validation="when_required",
    )
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    return session.client("s3", endpoint_url=f"http://127.0.0.1:{port}", config=config)


@contextmanager
def _small_parts() -> Iterator[None]:
    with (
        mock.patch.object(s3_writer, "_PART", _PART),
        mock.patch.object(s3_writer, "_MEMORY", 3 * _PART),
        mock.patch.object(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1),
    ):
        yield
