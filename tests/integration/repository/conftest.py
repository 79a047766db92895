"""A real S3 API over HTTP on the loopback, and every kind of repository behind one fixture."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.memory import MemoryRepository
from airflow_backup_guard.repository.s3 import S3Repository
from tests.s3_api import s3_api

_ACCESS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
_ABANDON = """
import sys, time
from airflow_backup_guard.repository import open_repository
writer = open_repository(sys.argv[1]).writer(sys.argv[2])
for _ in range(45):
    writer.write(bytes(1 << 20))
print("written", flush=True)
time.sleep(600)
"""
_names = itertools.count()


class Proxy:
    """TCP connections to ``target`` that break or hang on demand.

    ``cuts``: for each answering connection to come, how many bytes of answers it lets through before it is closed.
    ``stalled`` set: nothing more goes to the target.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts: list[int] = []
        self.connections = 0
        self.stalled = threading.Event()

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                self.connections += 1
                threading.Thread(target=self._pass, args=(client, server, None), daemon=True).start()
                allowed = self.cuts.pop(0) if self.cuts else 1 << 60
                threading.Thread(target=self._pass, args=(server, client, allowed), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, allowed: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if allowed is None:
                    while self.stalled.is_set():
                        time.sleep(0.01)
                    sink.sendall(data)
                else:
                    sink.sendall(data[:allowed])
                    allowed -= len(data)
                    if allowed <= 0:
                        break
            sink.shutdown(socket.SHUT_RDWR)


def writers_threads() -> list[str]:
    """Names of the threads of S3 writers that live."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("abort ", "part ", "request "))]


@dataclass(frozen=True)
class Place:
    """A repository, how to count what unfinished writers left in it, and how to leave a writer there by dying."""

    repository: Repository
    leftovers: Callable[[], int]
    abandon: Callable[[str], None]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3 API that keeps its objects in this process."""
    with s3_api() as url:
        yield url


@pytest.fixture(scope="session")
def connect() -> Callable[..., Any]:
    """``connect(endpoint, **config)``: a client that takes nothing from this machine's configuration."""

    def make(endpoint: str, **config: Any) -> Any:
        retries = {"mode": "standard", "total_max_attempts": 2}
        session = boto3.session.Session("test", "test", region_name="us-east-1")
        return session.client(
            "s3", endpoint_url=endpoint, config=Config(**{"retries": retries, "connect_timeout": 2, **config})
        )

    return make


@pytest.fixture
def bucket(s3_endpoint: str, connect: Callable[..., Any]) -> str:
    """A new bucket."""
    name = f"backups-{next(_names)}"
    connect(s3_endpoint).create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["memory", "local", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each kind of repository in turn."""
    made: Place = request.getfixturevalue(f"{request.param}_place")
    return made


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    """A way to the S3 API that can be disturbed."""
    host, _, port = s3_endpoint.removeprefix("http://").partition(":")
    with Proxy((host, int(port))) as proxy:
        yield proxy


@pytest.fixture
def memory_place() -> Place:
    """A repository in memory."""
    repository = MemoryRepository()
    return Place(repository, lambda: len(repository._writers), lambda key: repository.writer(key).write(bytes(45)))


@pytest.fixture
def local_place(tmp_path: Path) -> Place:
    """A repository in a directory that is not there yet."""
    repository = LocalRepository(tmp_path / "backups")

    def leftovers() -> int:
        return sum(path.is_file() for path in repository.root.rglob("*")) - len(list(repository.list("")))

    return Place(repository, leftovers, lambda key: _abandon(repository.url, key, {}))


@pytest.fixture
def s3_place(s3_endpoint: str, bucket: str, connect: Callable[..., Any]) -> Place:
    """A repository under a prefix of a bucket."""
    client = connect(s3_endpoint)

    def leftovers() -> int:
        # An abort gives up waiting for a slow service after a second; it goes on in the background.
        deadline = time.monotonic() + 10
        while writers_threads() and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()))

    repository = S3Repository(client, bucket, "some/prefix")
    access = {**_ACCESS, "AWS_ENDPOINT_URL": s3_endpoint}
    return Place(repository, leftovers, lambda key: _abandon(repository.url, key, access))


def _abandon(url: str, key: str, environment: dict[str, str]) -> None:
    """Write 45 MiB to ``key`` in another process and kill that before it commits."""
    arguments = [sys.executable, "-c", _ABANDON, url, key]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env={**os.environ, **environment}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
