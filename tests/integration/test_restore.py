"""Restores that meet trouble: each other, a kill, a small disk, a folder that nobody may write to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.units import Rate, Size
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.target import CLAIM_FILE, Target
from airflow_backup_guard.errors import BackupDamaged, BackupStopped, RestoreRefused
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from tests.conftest import SMALL, prepare
from tests.integration.guarded import back_up, plan_for


class Made(NamedTuple):
    """A backup, where it is, and the location of the one tablespace that it has."""

    record: BackupRecord
    repository: Repository
    space: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, role_dsn: Callable[..., str]) -> Iterator[Made]:
    """A backup of a cluster with a tablespace of 20 MB."""
    plan = plan_for(tmp_path_factory.mktemp("repository"))
    repository = open_repository(plan.repository)
    with LocalServer.create(settings=SMALL) as server:
        prepare(server)
        space = server.data_directory.parent / "space"
        space.mkdir()
        account_for(server.data_directory).own(space)
        server.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
        server.sql("CREATE TABLE wide TABLESPACE space AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
        yield Made(back_up(plan, role_dsn(server), repository), repository, str(space))


class Held:
    """A repository that does not answer until it may."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.asked = threading.Event()
        self.may = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repository, name)

    def reader(self, key: str) -> Any:
        """The same reader, later."""
        self.asked.set()
        assert self.may.wait(60)
        return self._repository.reader(key)


def everything(folder: Path) -> set[str]:
    """The relative paths of all that is in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("shared", ["data", "space"])
def test_two_restores_never_write_to_one_folder(made: Made, tmp_path: Path, shared: str) -> None:
    """The second is told who was first, takes nothing away, and the first ends as if it had been alone."""
    folders = {name: {folder: tmp_path / f"{folder} {name}" for folder in ("data", "space")} for name in "ab"}
    folders["b"][shared] = folders["a"][shared]
    folders["a"]["data"].mkdir()
    held = Held(made.repository)
    errors: list[BaseException] = []

    def first() -> None:
        try:
            restore(made.record, held, folders["a"]["data"], tablespaces={made.space: folders["a"]["space"]})
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    assert held.asked.wait(60), errors
    try:
        with pytest.raises(RestoreRefused) as caught:
            restore(made.record, made.repository, folders["b"]["data"], tablespaces={made.space: folders["b"]["space"]})
    finally:
        held.may.set()
        thread.join(60)
    assert f"Another restore writes to {folders['a'][shared]}: backup {made.record.backup_id}" in str(caught.value)
    assert f"process {os.getpid()}, since 20" in str(caught.value)
    assert "Wait for its end, or give another folder" in caught.value.remedy
    assert errors == []
    assert {path.name for path in tmp_path.iterdir()} == {"data a", "space a"}
    assert (folders["a"]["data"] / "global" / "pg_control").exists()
    assert CLAIM_FILE not in everything(tmp_path / "data a") | everything(tmp_path / "space a")


def test_a_killed_restore_is_told_from_one_that_runs(made: Made, tmp_path: Path) -> None:
    """After kill -9 the next restore says what lies there and what to do, and doing that is enough."""
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from airflow_backup_guard.engine import catalog; from airflow_backup_guard.engine.restore import restore\n"
        "from airflow_backup_guard.repository import open_repository\n"
        "repository = open_repository(sys.argv[1])\n"
        "restore(next(iter(catalog.backups(repository))), repository, Path(sys.argv[2]),\n"
        "        tablespaces={sys.argv[3]: Path(sys.argv[4])},\n"
        "        on_progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    places = [str(tmp_path / "data"), made.space, str(tmp_path / "space")]
    command = [sys.executable, "-c", script, made.repository.url, *places]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    for folder in (tmp_path / "data", tmp_path / "space"):
        assert (folder / CLAIM_FILE).exists()
        with pytest.raises(RestoreRefused, match=r"left.*cut off.*backup 2.*process") as caught:
            restore(made.record, made.repository, tmp_path / "data", tablespaces={made.space: tmp_path / "space"})
        assert str(folder) in caught.value.message
        assert "--resume), or remove the folder" in caught.value.remedy
        shutil.rmtree(folder)
    restore(made.record, made.repository, tmp_path / "data", tablespaces={made.space: tmp_path / "space"})


def test_an_undo_removes_what_the_restore_made_and_nothing_else(made: Made, tmp_path: Path) -> None:
    """Folders that it created go, their parents too; a folder that was there stays, and is empty again."""
    stop = Stop()
    there = tmp_path / "space"
    there.mkdir()
    with pytest.raises(BackupStopped):
        restore(
            made.record,
            made.repository,
            tmp_path / "new" / "deeper" / "data",
            tablespaces={made.space: there},
            stop=stop,
            on_progress=lambda done, total: stop.request("seen enough"),
        )
    assert everything(tmp_path) == {"space"}


def test_what_came_between_the_check_and_the_claim_is_left_alone(tmp_path: Path) -> None:
    """Somebody who puts a file into the folder at just that moment keeps it."""
    target = Target([tmp_path / "one", tmp_path / "two"], "20260101T000000Z-0000")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "precious").write_text("data")
    with pytest.raises(RestoreRefused, match="not an empty folder"):
        target.claim()
    assert target.undo() == []
    assert everything(tmp_path) == {"two", "two/precious"}


@pytest.mark.parametrize("place", ["data", "space"])
def test_a_folder_that_cannot_be_written_to_is_named(made: Made, tmp_path: Path, place: str) -> None:
    """/proc takes no folder, even of root; that is no question of free space."""
    folders = {"data": tmp_path / "data", "space": tmp_path / "space", place: Path("/proc/x/y")}
    with pytest.raises(RestoreRefused, match=r"/proc/x.* cannot be written to: No such file") as caught:
        restore(made.record, made.repository, folders["data"], tablespaces={made.space: folders["space"]})
    assert "free" not in str(caught.value)
    assert everything(tmp_path) == set()


@pytest.fixture
def small_disk(cluster_folder: Path) -> Iterator[Callable[[int], Path]]:
    """``small_disk(bytes)``: a folder on a file system of its own."""
    with ExitStack() as stack:

        def mount(size: int) -> Path:
            if os.geteuid() != 0:
                pytest.skip("only root can mount the small file system that this needs")
            folder = cluster_folder / "small"
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
            mounted = subprocess.run(command, check=False, capture_output=True)
            if mounted.returncode != 0:
                pytest.skip(f"cannot mount here: {mounted.stderr!r}")
            stack.callback(subprocess.run, ["umount", str(folder)], check=True)
            return folder

        yield mount


def test_each_disk_needs_room_for_what_goes_to_it(
    made: Made, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    """A tablespace elsewhere takes nothing from the data directory's disk; on the same disk both count."""
    sizes = {part.name: part.content_size for part in made.record.parts if part.kind in ("archive", "wal")}
    base = sizes.pop("base")
    space = sizes.pop(str(made.record.tablespaces[0].oid))
    assert space > 20_000_000
    small = small_disk(base + sum(sizes.values()) + space // 2)
    for data, other in ((small / "data", small / "space"), (small / "space", small / "data")):
        with pytest.raises(RestoreRefused) as caught:
            restore(made.record, made.repository, data, tablespaces={made.space: other})
        assert f"{small / 'data'} and {small / 'space'}: " in caught.value.message
        assert str(Size(base + space + sum(sizes.values()))) in caught.value.message
        assert everything(small) == set()
    restore(made.record, made.repository, small / "data", tablespaces={made.space: tmp_path / "space"})
    assert (small / "data" / "PG_VERSION").exists()


def test_everything_is_on_the_disk_before_the_control_file_is_there(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file and folder is flushed by itself, and not whatever else this machine has to write."""
    flushed: list[Path] = []
    real = os.fsync

    def fsync(file: int) -> None:
        path = Path(f"/proc/self/fd/{file}").readlink()
        if path.name != "pg_control":
            assert path in (data / "global", data, data.parent) or not (data / "global" / "pg_control").exists()
        flushed.append(path)
        real(file)

    def sync() -> None:
        raise AssertionError("the whole machine was flushed")

    data, space = tmp_path / "data", tmp_path / "space"
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "sync", sync)
    restore(made.record, made.repository, data, tablespaces={made.space: space})
    written = {path for folder in (data, space) for path in folder.rglob("*") if not path.is_symlink()}
    assert written <= set(flushed)
    assert {data, space, tmp_path} <= set(flushed)
    assert flushed[-2:] == [data / "global" / "pg_control", data / "global"]


def test_a_restore_reads_no_faster_than_it_may(made: Made, tmp_path: Path) -> None:
    """All of its readers together: it takes at least as long as its bytes at that rate."""
    rate = Rate(made.record.stored_size // 2)
    began = time.monotonic()
    restore(
        made.record, made.repository, tmp_path / "data", tablespaces={made.space: tmp_path / "space"}, max_rate=rate
    )
    assert time.monotonic() - began > 1.5
    assert (tmp_path / "data" / "global" / "pg_control").exists()


@pytest.mark.parametrize("kind", ["archive", "wal", "manifest"])
def test_a_damaged_part_ends_the_restore_and_leaves_nothing(made: Made, tmp_path: Path, kind: str) -> None:
    """Whichever of those that are read side by side it is, it is the one that the error names."""
    part = made.record.parts_of(kind)[-1]
    folder = tmp_path / "repository"
    shutil.copytree(made.repository.url.removeprefix("file://"), folder)
    content = bytearray((folder / part.key).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / part.key).write_bytes(content)
    damaged = open_repository(folder.as_uri())
    with pytest.raises(BackupDamaged) as caught:
        restore(made.record, damaged, tmp_path / "data", tablespaces={made.space: tmp_path / "space"})
    assert part.key in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"repository"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("restore", "read-ahead"))]
