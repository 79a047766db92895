"""Airflow as users run it: scheduler, triggerer, DAG processor and API server, once for all acceptance tests."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.server import LocalServer
from tests.acceptance.people import ACCOUNTS
from tests.acceptance.planted import planted
from tests.acceptance.processes import end, free_ports, running
from tests.acceptance.shown import Shown, s3_with_a_backup
from tests.webhook import Webhook

TOP = Path(__file__).resolve().parents[2]
START_SECONDS = 300
RUN_SECONDS = 300
PASSWORD = "for-acceptance-tests"  # Airflow masks it in every log, so it must not be a word of ours


def scrubbed_environment(home: Path) -> dict[str, str]:
    """The caller's environment with an Airflow home of its own and nothing else of Airflow's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SHOP_", "PG"))}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


class Metrics(AbstractContextManager["Metrics"]):
    """What Airflow sends as StatsD metrics: the last value of each, by name."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.values: dict[str, float] = {}
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> Metrics:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def _receive(self) -> None:
        with suppress(OSError):
            while True:
                for line in self._socket.recv(65536).decode().splitlines():
                    name, _, rest = line.partition(":")
                    with suppress(ValueError):
                        self.values[name] = float(rest.split("|")[0])


class Airflow:
    """A running Airflow, driven over its REST API."""

    def __init__(
        self,
        url: str,
        server: LocalServer,
        repository: Path,
        log: Path,
        metrics: Metrics,
        webhook: Webhook,
        environment: dict[str, str],
    ) -> None:
        self.url = url
        self.environment = environment
        self.server = server
        self.metrics = metrics
        self.webhook = webhook
        self.repository = repository
        self.staging = repository.with_name("staging")
        self._log = log
        self._client = httpx.Client(base_url=url, timeout=60)

    def ready(self) -> bool:
        """True once every part is healthy; then the session is logged in."""
        try:
            health = self._client.get("/api/v2/monitor/health").json()
            if any(part.get("status") != "healthy" for part in health.values() if part.get("status") is not None):
                return False
            token = self._client.get("/auth/token").json()["access_token"]
        except (httpx.HTTPError, KeyError, ValueError):
            return False
        self._client.headers["Authorization"] = f"Bearer {token}"
        return True

    def api(self, method: str, path: str, **body: Any) -> Any:
        """Call the API; fails with its answer."""
        answer = self._client.request(method, f"/api/v2{path}", json=body or None)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run, once it is parsed."""
        deadline = time.monotonic() + RUN_SECONDS
        while self._client.get(f"/api/v2/dags/{dag_id}").status_code != 200:
            assert time.monotonic() < deadline, f"{dag_id} was not parsed: {self.api('GET', '/importErrors')}"
            time.sleep(0.5)
        self.api("PATCH", f"/dags/{dag_id}", is_paused=False)

    def scheduled(self, dag_id: str) -> str:
        """The run that the scheduler starts by itself for the schedule's last date; returns its path in the API."""
        self.unpause(dag_id)
        runs = f"/dags/{dag_id}/dagRuns"
        self.wait_until(lambda: self.api("GET", runs)["total_entries"] > 0, f"a scheduled run of {dag_id}")
        return f"{runs}/{self.api('GET', runs)['dag_runs'][0]['dag_run_id']}"

    def trigger(self, dag_id: str) -> str:
        """Start a run; returns its path in the API."""
        self.unpause(dag_id)
        run = self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None}).json()
        return f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}"

    def states(self, run: str) -> dict[str, str | None]:
        """The state of each task of a run."""
        return {task["task_id"]: task["state"] for task in self.api("GET", f"{run}/taskInstances")["task_instances"]}

    def returned(self, run: str, task_id: str) -> Any:
        """What a task returned."""
        path = f"{run}/taskInstances/{task_id}/xcomEntries/return_value?deserialize=true"
        return self.api("GET", path)["value"]

    def kept(self, run: str, task_id: str, key: str) -> Any:
        """What a task keeps in the task state store, while it runs and afterwards; None if it is not there."""
        answer = self._client.get(f"/api/v2{run}/taskInstances/{task_id}/state-store/{key}")
        return answer.json()["value"] if answer.is_success else None

    def log(self, run: str, task_id: str, attempt: int = 1) -> str:
        """A task's log, as the UI shows it."""
        answer = self._client.get(f"/api/v2{run}/taskInstances/{task_id}/logs/{attempt}?full_content=true")
        return answer.text

    def wait_until(self, true: Callable[[], bool], what: str, seconds: float = RUN_SECONDS) -> None:
        """Wait, and fail with the end of Airflow's own log."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"{what} did not happen.\n{self._log.read_text()[-4000:]}"
            time.sleep(0.25)

    def finish(self, run: str) -> str:
        """Wait for the end of a run; returns its state."""
        self.wait_until(lambda: self.api("GET", run)["state"] in ("success", "failed"), f"the end of {run}")
        return str(self.api("GET", run)["state"])


class ApiServer:
    """One more API server of a running Airflow, for people who log in."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def client(self, name: str | None = None) -> httpx.Client:
        """Somebody who is logged in, or nobody."""
        client = httpx.Client(base_url=self.url, timeout=30)
        if name is not None:
            login = {"username": name, "password": f"{name}-secret"}
            answer = httpx.post(f"{self.url}/auth/token", json=login, timeout=30)
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    def ready(self) -> bool:
        """Whether it answers."""
        with suppress(httpx.HTTPError), self.client() as client:
            return client.get("/api/v2/version").is_success
        return False


@pytest.fixture(scope="session")
def shown(airflow: Airflow) -> Shown:
    """The repository of the plans that are looked at."""
    return Shown(airflow.repository.with_name(f"{airflow.repository.name}-shown"))


@pytest.fixture(scope="session")
def accounts(airflow: Airflow, shown: Shown) -> Iterator[ApiServer]:
    """The same Airflow behind a login, below a path: the accounts are those of tests/acceptance/accounts.py.

    It starts once the plans have their backups, as the server remembers for a while how plans stand.
    """
    home = airflow.repository.parent
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/airflow"
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({name: f"{name}-secret" for name in ACCOUNTS}))
    environment = {
        **airflow.environment,
        "PYTHONPATH": os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")]),
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__AUTH_MANAGER": "tests.acceptance.accounts.Accounts",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in ACCOUNTS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    log = home / "accounts.log"
    with s3_with_a_backup() as connection, log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "api-server"],
            env={**environment, "AIRFLOW_CONN_SHOWN_S3": connection},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            running = ApiServer(url, log)
            airflow.wait_until(running.ready, f"an API server with a login: {log}", START_SECONDS)
            yield running
        finally:
            end(process)


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Airflow with the example DAG and the DAGs of tests/acceptance/dags, on a database with some 60 MB of data."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    for source in [*(TOP / "dags").glob("*.py"), *(TOP / "tests/acceptance/dags").glob("*.py")]:
        shutil.copy(source, dags)
    repository = home / "backups"
    api, worker_logs, triggerer_logs = free_ports(3)
    settings = {"fsync": "off", "checkpoint_timeout": "30s"}
    with LocalServer.create(major=18, settings=settings) as server, Metrics() as metrics, Webhook() as webhook:
        # Drills restore there, as other tests do elsewhere at the same time.
        temporary = server.data_directory.with_name("temporary")
        temporary.mkdir()
        account_for(server.data_directory).own(temporary)
        server.sql(f"CREATE ROLE guard LOGIN REPLICATION PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
        server.sql(f"CREATE ROLE looker LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
        server.sql("CREATE TABLE filler AS SELECT n, repeat('x', 500) FROM generate_series(1, 60000) n")
        dump = shlex.join(
            [str(server.binaries / "pg_dump"), f"--dbname={server.dsn()}", f"--file={home}/shop.dump", "--verbose"]
        )
        environment = {
            **scrubbed_environment(home),
            "TMPDIR": str(temporary),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(api),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api}",
            "AIRFLOW__API__WORKERS": "1",
            # A supervisor that misses the end of its task sleeps until its next heartbeat: 5 s without this.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(metrics.port),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggerer_logs),
            "AIRFLOW_CONN_SHOP_PRIMARY": f"postgres://guard:{PASSWORD}@127.0.0.1:{server.port}/postgres",
            "AIRFLOW_CONN_ORDERS_PRIMARY": f"postgres://guard:{PASSWORD}@127.0.0.1:{server.port}/postgres",
            "AIRFLOW_CONN_PAYMENTS_PRIMARY": f"postgres://looker:{PASSWORD}@127.0.0.1:{server.port}/postgres",
            "AIRFLOW_CONN_SEARCH_PRIMARY": f"postgres://looker:{PASSWORD}@127.0.0.1:{server.port}/postgres",
            "AIRFLOW_CONN_WRONG_PASSWORD": f"postgres://guard:wrong@127.0.0.1:{server.port}/postgres",
            "AIRFLOW_CONN_WEBHOOK": webhook.connection,
            **planted(home, server.port, webhook.connection),
            "SHOP_BACKUP_REPOSITORY": repository.as_uri(),
            "SHOP_STAGING": str(home / "staging"),
            "SHOP_OFF_PEAK": "daily 00:00-24:00",
            "SHOP_QUIET_FOR": "2s",
            "SHOP_BACKUP_COMMAND": shlex.join(["sh", "-c", f"{dump} && echo it is in {home}/shop.dump"]),
        }
        log = home / "airflow.log"
        with running(home, environment, log) as complete:
            everything = Airflow(f"http://127.0.0.1:{api}", server, repository, log, metrics, webhook, complete)
            everything.wait_until(everything.ready, "a healthy Airflow", START_SECONDS)
            yield everything
