"""What only a directory can do wrong: fill up, be read-only, not be mounted, lose a race for a folder."""

from __future__ import annotations

import contextlib
import resource
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_backup_guard.errors import (
    InvalidPlan,
    ObjectExists,
    RepositoryDenied,
    RepositoryFull,
    RepositoryUnavailable,
)
from airflow_backup_guard.repository.local import LocalRepository


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """``mount("size=1m")``: a file system of its own; skips where that needs more rights than we have."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        place = tmp_path / f"mount{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let this process write no file longer than ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


def test_full_disk(mount: Callable[..., Path]) -> None:
    """A full disk says so, where, and how much is left; nothing stays, and space that is freed can be used."""
    repository = LocalRepository(mount("size=1m") / "backups")
    writer = repository.writer("a/b")
    writer.write(bytes(1 << 19))
    with pytest.raises(RepositoryFull, match=r"a/b: No space left on device, .*B free") as caught:
        writer.write(bytes(1 << 20))
    with pytest.raises(ValueError, match="closed"):
        writer.commit()
    assert isinstance(caught.value.__cause__, OSError)
    assert [path.name for path in repository.root.rglob("*")] == ["a"]
    with pytest.raises(RepositoryFull):
        repository.put("a/b", bytes(1 << 21))
    repository.put("a/b", bytes(1 << 19))


def test_file_size_limit(tmp_path: Path) -> None:
    """So does a limit of the process or a quota."""
    repository = LocalRepository(tmp_path / "backups")
    with file_size_limit(1 << 20), pytest.raises(RepositoryFull, match="File too large"):
        repository.put("a", bytes(1 << 21))
    assert list(repository.root.iterdir()) == []


def test_read_only(mount: Callable[..., Path]) -> None:
    """A read-only file system is a refusal, with the remedy."""
    place = mount("ro,size=1m")
    with pytest.raises(RepositoryDenied, match=r"Read-only file system\. .*mount the disk read-write"):
        LocalRepository(place / "backups").put("a", b"")


def test_no_permission(tmp_path: Path, is_root: bool) -> None:
    """A directory that is not ours is a refusal, for writers, readers and listings."""
    if is_root:
        pytest.skip("root may enter any directory")
    repository = LocalRepository(tmp_path / "backups")
    repository.put("a", b"")
    repository.root.chmod(0)
    try:
        for use in (
            lambda: repository.put("b", b""),
            lambda: repository.reader("a"),
            lambda: list(repository.list("")),
        ):
            with pytest.raises(RepositoryDenied, match="Permission denied"):
                use()
    finally:
        repository.root.chmod(0o700)


def test_missing_parent(tmp_path: Path) -> None:
    """Without the parent of its root, a repository is unavailable, not empty, and is not made."""
    repository = LocalRepository(tmp_path / "disk" / "backups")
    for use in (
        lambda: repository.put("a", b""),
        lambda: repository.writer("a"),
        lambda: repository.reader("a"),
        lambda: list(repository.list("")),
        lambda: repository.delete("a"),
        lambda: repository.abort_writes(""),
        repository.free_bytes,
    ):
        with pytest.raises(RepositoryUnavailable, match=r"disk, the parent directory .* Mount the disk"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_relative_root() -> None:
    """A relative root would depend on where the worker happens to run."""
    with pytest.raises(InvalidPlan, match="absolute"):
        LocalRepository(Path("backups"))


def test_modes(tmp_path: Path) -> None:
    """Nobody else may read a backup."""
    repository = LocalRepository(tmp_path / "backups")
    repository.put("a/b", b"")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (repository.root, *sorted(repository.root.rglob("*")))]
    assert modes == [0o700, 0o700, 0o600]


def test_folders_go_with_their_last_object(tmp_path: Path) -> None:
    """Deleting leaves no empty folders, nor takes one that is in use."""
    repository = LocalRepository(tmp_path / "backups")
    repository.put("a/b/c", b"")
    repository.put("a/d", b"")
    with repository.writer("a/b/e") as writer:
        repository.delete("a/b/c")
        writer.commit()
    repository.delete("a/b/e")
    assert [str(path.relative_to(repository.root)) for path in repository.root.rglob("*")] == ["a", "a/d"]
    repository.delete("a/d")
    assert list(repository.root.iterdir()) == []


def test_delete_beside_writers(tmp_path: Path) -> None:
    """A deletion that takes away empty folders never breaks a writer that is about to use them."""
    repository = LocalRepository(tmp_path / "backups")
    failures: list[BaseException] = []

    def write_and_delete(name: str) -> None:
        try:
            for _ in range(200):
                repository.put(f"a/b/c/{name}", b"")
                repository.delete(f"a/b/c/{name}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write_and_delete, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("if_absent", [False, True])
def test_removed_while_written(tmp_path: Path, if_absent: bool) -> None:
    """Somebody tidies up under a writer: its commit says so, and nothing of it becomes visible."""
    repository = LocalRepository(tmp_path)
    writer = repository.writer("a/b")
    writer.write(b"some")
    assert repository.abort_writes("a/") == 1
    with pytest.raises(RepositoryUnavailable, match="a/b was removed by somebody else while it was being written"):
        writer.commit(if_absent=if_absent)
    assert list(repository.list("")) == []


def test_foreign_files(tmp_path: Path) -> None:
    """Hidden files that others left in the directory are neither objects nor unfinished writes."""
    repository = LocalRepository(tmp_path / "backups")
    repository.put("a", b"")
    (repository.root / ".nfs0001").touch()
    assert [info.key for info in repository.list("")] == ["a"]
    assert repository.abort_writes("") == 0
    assert (repository.root / ".nfs0001").exists()


def test_key_below_an_object(tmp_path: Path) -> None:
    """An object cannot be a folder too; saying so is better than a traceback."""
    repository = LocalRepository(tmp_path / "backups")
    repository.put("a", b"")
    with pytest.raises(RepositoryUnavailable, match="Not a directory"):
        repository.put("a/b", b"")


def test_put_if_absent_survives_a_lost_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS may link, lose the answer, try again and report a conflict with itself: that is a success."""
    repository = LocalRepository(tmp_path / "backups")
    link = __import__("os").link

    def linked_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr("os.link", linked_twice)
    repository.put("claim", b"1", if_absent=True)
    with pytest.raises(ObjectExists):
        repository.put("claim", b"2", if_absent=True)
    with repository.reader("claim") as reader:
        assert reader.read() == b"1"
