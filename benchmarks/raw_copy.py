"""Raw copy: MB of database per second, unthrottled and with no other load, into a local and an S3 repository.

All compress with zstd level 3 and two threads (Barman's gzip 1 is what it offers in Debian 12). Copying is from the end
of the checkpoint to the end of the data, for pgBackRest to the end of its process; the whole process has in it
what each does before and after, such as starting Python, or for Barman waiting for its first WAL. The S3 server is
moto with TLS, which pgBackRest insists on: it is slow itself, so that those figures compare, but say little of S3.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.cluster import Cluster, filled_cluster
from benchmarks.job import failure_skips, run_job, server_cpu_seconds
from benchmarks.report import Rounds, chosen, parser

_BUCKET = "bench"
_ACCESS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
COLUMNS = {
    "MB/s, copying": ("copy_mb_per_second", "{:.0f}"),
    "MB/s, whole process": ("mb_per_second", "{:.0f}"),
    "s, whole process": ("seconds", "{:.1f}"),
    "stored ÷ read": ("stored", "{:.2f}"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    options = parser(__doc__).parse_args(arguments)
    with ExitStack() as stack:
        cluster = stack.enter_context(filled_cluster(options))
        variants = local_variants(options)
        names = [*variants, "guard to S3", "pgBackRest to S3"]
        names = chosen(names, options.variants)
        if any(name.endswith("to S3") for name in names):
            variants.update(s3_variants(options, stack.enter_context(s3_server(cluster))))
        rounds = Rounds("raw_copy", options)
        rounds.extra = {"major": cluster.server.major, "database_bytes": cluster.size()}
        rounds.run(names, lambda name: measure(cluster, variants[name]))
    rounds.finish(f"Raw copy of PostgreSQL {cluster.server.major}", COLUMNS)


def local_variants(options: argparse.Namespace) -> dict[str, peers.Peer]:
    """All that make a physical backup into a folder."""
    return {
        "guard": peers.guarded(options, baseline_seconds=0.0, **peers.UNTHROTTLED),
        "pg_basebackup": peers.pg_basebackup(),
        "pg_basebackup piped through zstd": peers.pg_basebackup_piped,
        "pgBackRest": peers.pgbackrest(),
        "Barman": peers.barman,
    }


def measure(cluster: Cluster, peer: peers.Peer, *, memory: bool = False) -> Mapping[str, Any]:
    """One backup: its speed and its cost."""
    with cluster.target() as target, failure_skips():
        task = peer(cluster, target)
        cluster.server.sql("CHECKPOINT")
        os.sync()
        size, server_before = cluster.size(), server_cpu_seconds(cluster)
        done = run_job(cluster, task, memory=memory, poll_seconds=0.1)
        server = server_cpu_seconds(cluster) - server_before
        stored = peers.stored_bytes(target)
    return {
        "copy_mb_per_second": size / (done.end - done.begin) / 1e6 if done.end > done.begin else None,
        "mb_per_second": size / done.wall / 1e6,
        "seconds": done.wall,
        "stored": stored / size if stored > size / 100 else None,
        "client_cpu_per_gb": done.cpu_seconds / size * 1e9,
        "server_cpu_per_gb": server / size * 1e9,
        "cpu_per_gb": (done.cpu_seconds + server) / size * 1e9,
        "peak_memory_mb": done.peak_memory / 1e6 if memory else None,
    }


def s3_variants(options: argparse.Namespace, server: tuple[int, Path]) -> dict[str, peers.Peer]:
    """All that make one in the S3 API of :func:`s3_server`; what they stored stays there."""
    port, certificate = server
    environment = {
        **_ACCESS,
        "AWS_ENDPOINT_URL": f"https://127.0.0.1:{port}",
        "AWS_CA_BUNDLE": str(certificate),
    }
    url = f"s3://{_BUCKET}/guard-{time.time_ns()}"
    guard = peers.guarded(options, baseline_seconds=0.0, repository=url, **peers.UNTHROTTLED)

    def guard_with_access(cluster: Cluster, target: Path) -> peers.Task:
        return peers.Task(guard(cluster, target).command, environment)

    return {
        "guard to S3": guard_with_access,
        "pgBackRest to S3": peers.pgbackrest(
            {
                "repo1-type": "s3",
                "repo1-path": f"/pgbackrest-{time.time_ns()}",
                "repo1-s3-bucket": _BUCKET,
                "repo1-s3-endpoint": "127.0.0.1",
                "repo1-s3-region": _ACCESS["AWS_DEFAULT_REGION"],
                "repo1-s3-key": _ACCESS["AWS_ACCESS_KEY_ID"],
                "repo1-s3-key-secret": _ACCESS["AWS_SECRET_ACCESS_KEY"],
                "repo1-s3-uri-style": "path",
                "repo1-storage-port": str(port),
                "repo1-storage-verify-tls": "n",
            }
        ),
    }


@contextmanager
def s3_server(cluster: Cluster) -> Iterator[tuple[int, Path]]:
    """moto in a process of its own, with a certificate for 127.0.0.1: its port, and that certificate."""
    folder = cluster.folder("s3")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if shutil.which("openssl") is None:
        raise SystemExit("The S3 variants need the program openssl; name others with --variants.")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    request += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(request, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.s3_server", str(port), str(certificate), str(key)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=Path(__file__).resolve().parent.parent, start_new_session=True
        )
    try:
        _create_bucket(port, certificate)
        yield port, certificate
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _create_bucket(port: int, certificate: Path) -> None:
    import boto3
    from botocore.exceptions import EndpointConnectionError

    session = boto3.session.Session("bench", "bench", region_name="us-east-1")
    client = session.client("s3", endpoint_url=f"https://127.0.0.1:{port}", verify=str(certificate))
    until = time.monotonic() + 30
    while True:
        try:
            client.create_bucket(Bucket=_BUCKET)
            return
        except EndpointConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    main()
