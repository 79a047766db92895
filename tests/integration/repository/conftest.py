"""A real S3 API over HTTP on the loopback, and every kind of repository behind one fixture."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.memory import MemoryRepository
from airflow_backup_guard.repository.s3 import S3Repository

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


@dataclass(frozen=True)
class Place:
    """A repository, how to count what unfinished writers left in it, and how to leave a writer there by dying."""

    repository: Repository
    leftovers: Callable[[], int]
    abandon: Callable[[str], None]


class OneConditionAtATime:
    """WSGI middleware that gives moto what S3 promises: conditional writes are decided one after the other."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if "HTTP_IF_NONE_MATCH" in environ:
            with self._lock:
                return self._application(environ, start_response)
        return self._application(environ, start_response)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3 API that keeps its objects in this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def make_client(endpoint: str, **config: Any) -> Any:
    """A client for ``endpoint`` that takes nothing from this machine's configuration."""
    return boto3.session.Session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    ).client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            **{"retries": {"mode": "standard", "total_max_attempts": 2}, "connect_timeout": 2, **config}
        ),
    )


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    """A new bucket."""
    name = f"backups-{next(_names)}"
    make_client(s3_endpoint).create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["memory", "local", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each kind of repository in turn."""
    made: Place = request.getfixturevalue(f"{request.param}_place")
    return made


@pytest.fixture
def memory_place() -> Place:
    """A repository in memory."""
    repository = MemoryRepository()
    return Place(
        repository, lambda: len(repository._writers), lambda key: repository.writer(key).write(bytes(45))
    )


@pytest.fixture
def local_place(tmp_path: Path) -> Place:
    """A repository in a directory that is not there yet."""
    repository = LocalRepository(tmp_path / "backups")

    def leftovers() -> int:
        return sum(path.is_file() for path in repository.root.rglob("*")) - len(list(repository.list("")))

    return Place(repository, leftovers, lambda key: _abandon(repository.url, key, {}))


@pytest.fixture
def s3_place(s3_endpoint: str, bucket: str) -> Place:
    """A repository under a prefix of a bucket."""
    client = make_client(s3_endpoint)

    def leftovers() -> int:
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
