"""The catalog: how long it takes to list 1,000 backups, on a local S3 API and in a folder. The goal is 2 seconds.

"remembered" is how listings are: what they remember is written by verifications, drills, expiries and listings,
whenever 16 backups are new. "first" is a listing where that is lost, and what an expiry does each time: it reads every
record and verification, two requests a backup, which take botocore alone 2.7 ms of a processor each. The S3 API is
moto's, one process of Python: it answers some 150 to 400 requests a second, whoever asks.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import boto3

from airflow_backup_guard.core.catalog import memory_key
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.s3 import S3Repository
from benchmarks.report import Rounds, chosen, parser, say
from tests.stored import store_backup

_PLACES = ("S3", "folder")
VARIANTS = [f"{place} {how}" for place in _PLACES for how in ("first", "remembered", "10 new")]


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    made = parser(__doc__, rounds=3)
    made.add_argument("--backups", type=int, default=1000, help="how many (1000)")
    made.add_argument("--segments", type=int, default=20, help="of WAL in each (20)")
    options = made.parse_args(arguments)
    rounds = Rounds("catalog", options)
    names = chosen(VARIANTS, options.variants)
    with tempfile.TemporaryDirectory(prefix="backup-guard-bench-", dir=options.repository) as folder, _s3() as client:
        repositories: dict[str, Repository] = {}
        for place in _PLACES:
            if any(name.startswith(place) for name in names):
                made_at = S3Repository(client, "bench") if place == "S3" else LocalRepository(Path(folder, "backups"))
                say(f"{options.backups} backups in {made_at.url}")
                _fill(made_at, options.backups, options.segments)
                repositories[place] = made_at
        rounds.run(names, lambda name: _measure(repositories[name.partition(" ")[0]], name.partition(" ")[2]))
    rounds.finish("Catalog", {"s": ("seconds", "{:.2f}"), "backups": ("backups", "{:.0f}")})


def _fill(repository: Repository, count: int, segments: int) -> None:
    began = datetime.now(timezone.utc) - timedelta(days=count)
    with ThreadPoolExecutor(8) as pool:
        moments = [began + timedelta(hours=number) for number in range(count)]
        list(pool.map(lambda moment: store_backup(repository, moment, segments=segments), moments))


def _measure(repository: Repository, how: str) -> Mapping[str, float]:
    prepare: dict[str, Callable[[], object]] = {
        "first": lambda: repository.delete(memory_key("shop")),
        "remembered": lambda: list_backups(repository),
        "10 new": lambda: (list_backups(repository), _fill(repository, 10, 1)),
    }
    prepare[how]()
    began = time.perf_counter()
    found = list_backups(repository)
    return {"seconds": time.perf_counter() - began, "backups": len(found.backups)}


@contextmanager
def _s3() -> Iterator[object]:
    """A client of an S3 API in a process of its own, with an empty bucket ``bench``."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            session = boto3.session.Session("bench", "bench", region_name="us-east-1")
            client = session.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
            _wait_for(port)
            client.create_bucket(Bucket="bench")
            yield client
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    main()
