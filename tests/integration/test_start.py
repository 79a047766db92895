"""backup-guard restore --start: PostgreSQL runs on what was restored, harms nobody, and stops as it is told to."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from airflow_backup_guard.cli import main
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.binaries import available_majors
from airflow_backup_guard.postgres.server import LocalServer
from tests.acceptance.conftest import free_ports
from tests.integration.guarded import back_up, plan_for


@pytest.fixture
def major() -> int:
    """A version whose programs whoever runs PostgreSQL here can run where they are."""
    account = account_for(Path("/"))
    majors = [major for major, folder in available_majors().items() if account.can("x", folder / "pg_ctl")]
    if not majors:
        pytest.skip("no PostgreSQL here can be run by the user that it would run as")
    return majors[0]


@pytest.fixture
def stopped(cluster_folder: Path, major: int) -> Iterator[Path]:
    """The folder to restore to; a server that a failed test left on it is stopped."""
    data = cluster_folder / "data"
    yield data
    if (data / "postmaster.pid").exists():
        pg_ctl = [str(available_majors()[major] / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"]
        with suppress(OSError):
            subprocess.run(pg_ctl, check=False, capture_output=True, **account_for(data).options())


def test_a_restored_server_runs_and_stops(
    new_server: Callable[..., LocalServer],
    role_dsn: Callable[..., str],
    cluster_folder: Path,
    major: int,
    stopped: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has the rows, listens on the loopback alone, archives nothing though its original did, and a busy port is
    told with the server's own words, with what was restored left whole."""
    server = new_server(major=major)
    server.sql("CREATE TABLE told AS SELECT n FROM generate_series(1, 321) n; GRANT SELECT ON told TO guard")
    archived = cluster_folder / "archived"
    with (server.data_directory / "postgresql.conf").open("a") as configuration:
        configuration.write(f"\narchive_mode = on\narchive_command = 'touch {archived}'\nlisten_addresses = '*'\n")
    with (server.data_directory / "pg_hba.conf").open("a") as rules:
        rules.write("\nhost all guard 127.0.0.1/32 scram-sha-256\n")
    plan = plan_for(cluster_folder / "backups")
    back_up(plan, role_dsn(server))
    (port,) = free_ports(1)
    common = ("restore", "--repository", plan.repository, "--start", "--json")

    assert main([*common, "--to", str(stopped), "--port", str(port)]) == 0
    document = json.loads(capsys.readouterr().out)
    started = document["started"]
    assert (started["host"], started["port"]) == ("127.0.0.1", port)
    with psycopg.connect(host="127.0.0.1", port=port, user="guard", password="guard", dbname="postgres") as connection:
        assert connection.execute("SELECT count(*) FROM told").fetchone() == (321,)
        shown = {name: connection.execute(f"SHOW {name}").fetchone() for name in ("archive_mode", "listen_addresses")}
        assert shown == {"archive_mode": ("off",), "listen_addresses": ("127.0.0.1",)}

    other = cluster_folder / "other"
    assert main([*common, "--to", str(other), "--port", str(port)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert f"{other} is restored, but PostgreSQL was not started on it" in error["message"]
    assert "Address already in use" in error["message"]
    assert (other / "global" / "pg_control").exists()

    subprocess.run(
        shlex.split(started["stop"]), check=True, capture_output=True, cwd="/", **account_for(stopped).options()
    )
    assert not (stopped / "postmaster.pid").exists()
    assert not archived.exists()


@pytest.mark.parametrize(
    "options",
    [("--start", "--port", "0"), ("--start", "--binaries", "/proc"), ("--before", "2026-11-23 12:00")],
    ids=["port", "binaries", "zone"],
)
def test_wrong_use_is_refused_before_anything_is_restored(
    guard_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """A restore may take hours, so it is no time to find out."""
    plan = plan_for(tmp_path / "backups")
    back_up(plan, guard_dsn)
    assert main(["restore", "--repository", plan.repository, "--to", str(tmp_path / "data"), *options]) == 2
    assert options[-1] in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
