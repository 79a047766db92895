"""The processes of the Airflow under test: `airflow standalone`, or a CeleryExecutor with two workers.

BACKUP_GUARD_TEST_EXECUTOR=CeleryExecutor chooses the latter; it needs redis-server and Airflow's Celery provider.
"""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from airflow_backup_guard.postgres.server import LocalServer

EXECUTOR = "BACKUP_GUARD_TEST_EXECUTOR"
AIRFLOW = (sys.executable, "-m", "airflow")
PARTS = (
    ("scheduler",),
    ("dag-processor",),
    ("triggerer",),
    ("api-server",),
    ("celery", "worker", "--celery-hostname", "one@%h", "--skip-serve-logs"),
    ("celery", "worker", "--celery-hostname", "two@%h", "--skip-serve-logs"),
)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [opened.getsockname()[1] for opened in sockets]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


@contextmanager
def running(home: Path, environment: Mapping[str, str], log: Path) -> Iterator[dict[str, str]]:
    """Airflow, until the block ends; all parts write to one log. Yields the whole environment that they have."""
    with log.open("w") as output, ExitStack() as stack:

        def start(*command: str) -> None:
            process = subprocess.Popen(
                command,
                env=complete,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(end, process)

        complete = dict(environment)
        if os.environ.get(EXECUTOR) != "CeleryExecutor":
            start(*AIRFLOW, "standalone")
        else:
            metadata = stack.enter_context(LocalServer.create(major=18, settings={"fsync": "off"}))
            metadata.sql("CREATE ROLE airflow LOGIN PASSWORD 'airflow'")
            metadata.sql("CREATE DATABASE airflow OWNER airflow")
            (broker,) = free_ports(1)
            complete |= celery(f"airflow:airflow@127.0.0.1:{metadata.port}/airflow", broker)
            start("redis-server", "--bind", "127.0.0.1", "--port", str(broker), "--save", "")
            wait_for(broker)
            subprocess.run(
                [*AIRFLOW, "db", "migrate"], env=complete, cwd=home, stdout=output, stderr=output, check=True
            )
            for part in PARTS:
                start(*AIRFLOW, *part)
        yield complete


def celery(metadata: str, broker: int) -> dict[str, str]:
    """The settings of a CeleryExecutor, and the keys that processes which are started one by one must share."""
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{metadata}",
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{broker}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{metadata}",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
    }


def wait_for(port: int, seconds: float = 30) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < deadline, f"nobody listens on port {port}"
        time.sleep(0.05)
