"""How much memory a copy and its compressor take, each in a process of its own, with data that cannot be compressed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from airflow_backup_guard.postgres.server import LocalServer

MOST_MB = 200
GROWTH_MB = 30  # how the heap fills up differs between runs
SMALL_MB, LARGE_MB = 100, 300
S3_ACCESS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
# A process inherits the peak of the one that forked it in getrusage, but not in its own /proc.
COPY = """
import sys
from airflow_backup_guard.cli import main
status = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print("peak", int(peak) * 1024 // 10**6)
sys.exit(status)
"""
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
SERVE = """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def s3_environment() -> Iterator[dict[str, str]]:
    """How a process reaches an S3 API that another process serves."""
    with subprocess.Popen([sys.executable, "-c", SERVE], **PIPES) as serving:
        assert serving.stdout is not None
        url = serving.stdout.readline().strip()
        access = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **access)
        client.create_bucket(Bucket="bucket")
        yield {**S3_ACCESS, "AWS_ENDPOINT_URL": url}
        serving.kill()


def peak(dsn: str, repository: str, environment: dict[str, str]) -> int:
    """Back up with the command line as fast as it goes; the peak of the process's memory in MB."""
    options = ["--dsn", dsn, "--repository", repository, "--checkpoint", "fast"]
    rates = ["--max-rate", "1GB/s", "--min-rate", "1GB/s"]
    done = subprocess.run(
        [sys.executable, "-c", COPY, "backup", *options, *rates, "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rpartition("peak")[2])


def test_a_copy_takes_less_than_200_mb_however_large_the_database_is(
    new_server: Callable[..., LocalServer],
    role_dsn: Callable[..., str],
    tmp_path: Path,
    s3_environment: dict[str, str],
) -> None:
    """At the default level, on a disk and in a bucket: below 200 MB, and the same for three times the data."""
    server = new_server(settings={"max_wal_size": "4GB"})
    dsn = role_dsn(server)
    places = {(tmp_path / "backups").as_uri(): {}, "s3://bucket/backups": s3_environment}
    server.sql("CREATE TABLE noise (bytes bytea STORAGE EXTERNAL)")
    peaks: dict[str, list[int]] = {place: [] for place in places}
    for more in (SMALL_MB, LARGE_MB - SMALL_MB):
        server.sql(
            "INSERT INTO noise SELECT pg_read_binary_file('/dev/urandom', 0, 1000000) "
            f"FROM generate_series(1, {more}); CHECKPOINT"
        )
        for place, environment in places.items():
            peaks[place].append(peak(dsn, place, environment))
    print(peaks)
    for small, large in peaks.values():
        assert large < MOST_MB, peaks
        assert large < small + GROWTH_MB, peaks


def test_threads_do_not_cost_memory() -> None:
    """Two threads at the default level hold some frames of 1 MiB: less than 30 MiB in a process of its own."""
    measure = """
import os
from airflow_backup_guard.repository.codec import EncodingWriter
from tests.unit.test_codec import FailingWriter
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
noise = [os.urandom(1 << 20) for _ in range(8)]
before = peak()
with EncodingWriter(FailingWriter(1 << 40), threads=2) as writer:
    for number in range(80):
        writer.write(noise[number % 8])
print((peak() - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30
