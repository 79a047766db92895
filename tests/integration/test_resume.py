"""Restores that were cut off and go on: what is right is not fetched again, and what is not theirs is left alone."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_backup_guard.core.backup import BackupRecord, StoredPart
from airflow_backup_guard.engine.member_writer import Owner
from airflow_backup_guard.engine.restore import Restored, restore
from airflow_backup_guard.engine.restore_journal import JOURNAL_FILE
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.target import CLAIM_FILE, Target
from airflow_backup_guard.errors import BackupDamaged, BackupStopped, RepositoryUnavailable, RestoreRefused
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from tests.conftest import SMALL, prepare
from tests.integration.guarded import back_up, plan_for

# Kills itself when so many bytes are written; or, if that is never, when all is to be flushed to the disk.
KILLED = """
import os, signal, sys
from pathlib import Path
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.target import Target
from airflow_backup_guard.repository import open_repository
url, data, old, new, after = sys.argv[1:]
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
Target.flush = kill
repository = open_repository(url)
restore(next(iter(catalog.backups(repository))), repository, Path(data), tablespaces={old: Path(new)}, resume=True,
        workers=1, on_progress=lambda done, total: done > int(after) and kill())
"""
KILLS = int(os.environ.get("RESTORE_KILLS", "6"))
# As in test_expire_kill.py: a kill costs no start of Python. A line has the words of a command, and when to kill it.
SERVER = """
import json, os, signal, sys, time
from airflow_backup_guard.cli import main, restore
for line in sys.stdin:
    words, seconds = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(main(words))
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Made(NamedTuple):
    """A backup, where it is, and the location of the one tablespace that it has."""

    record: BackupRecord
    repository: Repository
    space: str

    def parts(self) -> list[StoredPart]:
        """Archives and segments in the order in which one worker writes them."""
        parts = [part for part in self.record.parts if part.kind in ("archive", "wal")]
        return sorted(parts, key=lambda part: -part.content_size)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, role_dsn: Callable[..., str]) -> Made:
    """A backup of a cluster with a tablespace of 5 MB."""
    plan = plan_for(tmp_path_factory.mktemp("repository"))
    repository = open_repository(plan.repository)
    with LocalServer.create(settings=SMALL) as server:
        prepare(server)
        space = server.data_directory.parent / "space"
        space.mkdir()
        account_for(server.data_directory).own(space)
        server.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
        server.sql("CREATE TABLE wide TABLESPACE space AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
        record = back_up(plan, role_dsn(server), repository)
    return Made(record, repository, str(space))


class Counting:
    """A repository that counts the bytes read of each object; one key may fail after some."""

    def __init__(self, repository: Repository, broken: str = "", after: int = 0) -> None:
        self._repository = repository
        self.broken, self.after = broken, after
        self.read: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repository, name)

    def reader(self, key: str) -> Any:
        """The same reader, whose bytes count."""
        return _CountingReader(self, key, self._repository.reader(key))


class _CountingReader:
    def __init__(self, counting: Counting, key: str, reader: Any) -> None:
        self._counting, self._key, self._reader = counting, key, reader

    def read(self, size: int) -> bytes:
        if self._key == self._counting.broken and self._counting.read.get(self._key, 0) >= self._counting.after:
            raise RepositoryUnavailable("The network is gone.")
        data: bytes = self._reader.read(min(size, 65536))
        self._counting.read[self._key] = self._counting.read.get(self._key, 0) + len(data)
        return data

    def close(self) -> None:
        self._reader.close()


class Tried:
    """The restore of one backup into ``data`` and ``space`` of a folder, as often as it takes."""

    def __init__(self, made: Made, folder: Path) -> None:
        self.made, self.folder = made, folder
        self.data, self.space = folder / "data", folder / "space"

    def __call__(self, repository: Any = None, record: BackupRecord | None = None, **options: Any) -> Restored:
        """Resume, with one worker."""
        options = {"tablespaces": {self.made.space: self.space}, "resume": True, "workers": 1, **options}
        return restore(record or self.made.record, repository or self.made.repository, self.data, **options)

    def cut_off(self, after: int) -> None:
        """Stop once more than so many bytes are written."""
        stop = Stop()
        with pytest.raises(BackupStopped) as caught:
            self(stop=stop, on_progress=lambda done, total: done > after and stop.request("seen enough"))
        assert caught.value.remedy == "What was written is kept: the same restore with resume goes on."

    def killed(self, after: int) -> None:
        """The same, by kill -9."""
        places = [str(self.data), self.made.space, str(self.space), str(after)]
        command = [sys.executable, "-c", KILLED, self.made.repository.url, *places]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL

    def tree(self) -> dict[str, Any]:
        """Kind, mode, owner, time and content of everything in both folders."""
        return {str(path.relative_to(self.folder)): _look(path) for path in self.folder.rglob("*")}


def _look(path: Path) -> tuple[Any, ...]:
    status = path.lstat()
    if path.is_symlink():
        return ("link", str(path.readlink()))
    if path.is_dir():
        return ("folder", status.st_mode, status.st_uid)
    # What a restore makes itself has the time of the restore.
    own = path.parent.name == "pg_wal" or path.name in ("backup_manifest", "tablespace_map", "pg_control")
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return ("file", status.st_mode, status.st_uid, None if own else status.st_mtime, content)


@pytest.fixture
def tried(made: Made, tmp_path: Path) -> Tried:
    """Nothing is restored yet."""
    return Tried(made, tmp_path / "restored")


@pytest.fixture
def whole(tried: Tried) -> dict[str, Any]:
    """What a restore that nothing interrupts writes to the very same place, which is free again."""
    assert tried() == Restored(sum(p.size for p in tried.made.record.parts if p.kind != "telemetry"), 0)
    tree = tried.tree()
    shutil.rmtree(tried.folder)
    return tree


def test_a_restore_that_is_killed_again_and_again_ends_as_one_that_is_not(tried: Tried, whole: dict[str, Any]) -> None:
    """In the first archive, in the next one and before the end: each part is fetched to its end once, all is equal."""
    first, *rest = tried.made.parts()
    tried.killed(0)
    assert not (tried.data / "global" / "pg_control").exists()
    tried.killed(first.content_size + 1)
    counting = Counting(tried.made.repository, rest[-1].key)
    with pytest.raises(RepositoryUnavailable):
        tried(counting)
    assert {key for key in counting.read if "manifest" not in key} == {part.key for part in rest[:-1]}
    tried.killed(1 << 60)
    (manifest,) = tried.made.record.parts_of("manifest")
    counting = Counting(tried.made.repository)
    done = tried(counting)
    assert counting.read == {manifest.key: manifest.size}
    assert done == Restored(manifest.size, sum(part.content_size for part in tried.made.parts()))
    assert tried.tree() == whole


def test_a_network_that_is_gone_costs_the_archive_it_broke_in(tried: Tried, whole: dict[str, Any]) -> None:
    """What was kept is said, a restore that is not to go on is refused, and one that is fetches what is missing."""
    first, second, *rest = tried.made.parts()
    with pytest.raises(RepositoryUnavailable, match="What was written is kept"):
        tried(Counting(tried.made.repository, second.key, after=second.size // 2))
    with pytest.raises(RestoreRefused, match="cut off") as caught:
        tried(resume=False)
    assert "--resume" in caught.value.remedy
    counting = Counting(tried.made.repository)
    done = tried(counting, workers=4)
    (manifest,) = tried.made.record.parts_of("manifest")
    # What came after it may have been written before anybody heard that it broke.
    kept = [first, *(part for part in rest if part.key not in counting.read)]
    assert counting.read == {part.key: part.size for part in (manifest, second, *rest) if part not in kept}
    assert done == Restored(sum(counting.read.values()), sum(part.content_size for part in kept))
    assert tried.tree() == whole


def test_what_is_not_right_any_more_is_fetched_again(tried: Tried, whole: dict[str, Any]) -> None:
    """A changed byte, a missing segment, a missing folder, and a journal whose last line was never whole."""
    parts = tried.made.parts()
    (base,) = (part.key for part in parts if part.name == "base")
    (space,) = (part.key for part in parts if part.kind == "archive" and part.name != "base")
    segment = tried.made.record.parts_of("wal")[0]
    tried.killed(1 << 60)
    saved = tried.folder.rename(tried.folder.with_name("saved"))

    def byte() -> None:
        wide = max((p for p in tried.space.rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)
        with wide.open("r+b") as file:
            file.seek(4096)
            file.write(b"\0wrong")

    def torn() -> None:
        journal = tried.data / JOURNAL_FILE
        journal.write_bytes(journal.read_bytes()[:-20])

    (last,) = (json.loads(line)["key"] for line in (saved / "data" / JOURNAL_FILE).read_bytes().splitlines()[-1:])
    damages: list[tuple[Callable[[], object], str]] = [
        (byte, space),
        ((tried.data / "pg_wal" / segment.name).unlink, segment.key),
        ((tried.data / "pg_twophase").rmdir, base),
        (torn, last),
    ]
    for damage, key in damages:
        shutil.copytree(saved, tried.folder, symlinks=True)
        damage()
        counting = Counting(tried.made.repository)
        tried(counting)
        assert {read for read in counting.read if "manifest" not in read} == {key}
        assert tried.tree() == whole
        shutil.rmtree(tried.folder)


def test_a_restore_goes_on_only_with_what_is_its_own(tried: Tried, whole: dict[str, Any], tmp_path: Path) -> None:
    """Another backup, mapping or owner, a server, a file or link of somebody: refused, and nothing is changed."""
    first = tried.made.parts()[0]
    tried.cut_off(first.content_size + 1)
    elsewhere = tmp_path / "elsewhere"

    def refused(message: str, **options: Any) -> None:
        before = tried.tree()
        with pytest.raises(RestoreRefused, match=message):
            tried(**options)
        assert tried.tree() == before
        assert not elsewhere.exists()

    snapshot = dataclasses.replace(tried.made.record.snapshot, backup_id="20200101T000000Z-aaaa")
    refused("of backup 2.* of plan", record=dataclasses.replace(tried.made.record, snapshot=snapshot))
    other = dataclasses.replace(first, sha256="0" * 64)
    parts = tuple(other if part is first else part for part in tried.made.record.parts)
    refused("of the same id and other content", record=dataclasses.replace(tried.made.record, parts=parts))
    refused("with tablespaces elsewhere", tablespaces={tried.made.space: elsewhere})
    refused(f"another owner, user {os.geteuid()}", owner=Owner(os.geteuid() + 1, os.getegid()))
    for name in ("global/pg_control", "postmaster.pid"):
        (tried.data / name).write_text("1")
        refused("a server has used it")
        (tried.data / name).unlink()
    for name in ("notes.txt", "base/notes.txt", "../space/notes.txt"):
        (tried.data / name).write_text("precious")
        refused("notes.txt, which is not of the backup")
        (tried.data / name).unlink()
    elsewhere_folder = tmp_path / "moved"
    (tried.data / "base").rename(elsewhere_folder)
    (tried.data / "base").symlink_to(elsewhere_folder)
    refused("data/base, which is not of the backup")
    (tried.data / "base").unlink()
    elsewhere_folder.rename(tried.data / "base")
    claim = (tried.space / CLAIM_FILE).read_bytes()
    (tried.space / CLAIM_FILE).write_bytes(claim.replace(claim.splitlines()[1], b"0123456789abcdef"))
    refused("space holds .* not the one that left")
    (tried.space / CLAIM_FILE).write_bytes(claim)
    journal = (tried.data / JOURNAL_FILE).rename(tmp_path / "journal")
    refused("its account of what it had written is not there")
    journal.rename(tried.data / JOURNAL_FILE)
    assert tried().kept >= first.content_size
    assert tried.tree() == whole


def test_a_restore_that_was_killed_before_it_had_signed_its_claim(tried: Tried, whole: dict[str, Any]) -> None:
    """Its claim is empty, and nobody holds it: resumed, it goes on; what lies there beside it is nobody's to remove."""
    tried.data.mkdir(0o700, parents=True)
    (tried.data / CLAIM_FILE).touch(0o600)
    with pytest.raises(RestoreRefused, match="just begun or ended") as caught:
        tried(resume=False)
    assert "--resume" in caught.value.remedy
    (tried.data / "notes.txt").write_text("precious")
    with pytest.raises(RestoreRefused):
        tried()
    assert (tried.data / "notes.txt").read_text() == "precious"
    (tried.data / "notes.txt").unlink()
    held = os.open(tried.data / CLAIM_FILE, os.O_WRONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(RestoreRefused, match="Another restore writes"):
        tried()
    os.close(held)
    tried()
    assert tried.tree() == whole


def test_a_claim_that_another_restore_has_taken_over_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that resumes comes between the making of a claim and its lock: the claim is its own then."""
    lock, second = fcntl.flock, Target([tmp_path / "data"], "other")

    def flock(file: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        second.claim(resume=True)
        lock(file, operation)

    first = Target([tmp_path / "data"], "one")
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RestoreRefused, match="Another restore writes"):
        first.claim()
    assert first.undo() == []
    assert (tmp_path / "data" / CLAIM_FILE).is_file()
    second.accept(None)
    second.release()
    assert list((tmp_path / "data").iterdir()) == []


def test_two_do_not_go_on_with_the_same(tried: Tried, whole: dict[str, Any]) -> None:
    """The second is told of the first, which is not disturbed; the first, that there is nothing left to do for both."""
    tried.cut_off(tried.made.parts()[0].content_size + 1)
    asked, may = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def wait(done: int, total: int) -> None:
        asked.set()
        assert may.wait(60)

    def first() -> None:
        try:
            tried(on_progress=wait)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    assert asked.wait(60), errors
    try:
        with pytest.raises(RestoreRefused, match="Another restore writes"):
            tried()
    finally:
        may.set()
        thread.join(60)
    assert errors == []
    assert tried.tree() == whole
    with pytest.raises(RestoreRefused, match="not an empty folder"):
        tried()


def test_what_a_damaged_backup_left_goes_even_so(tried: Tried) -> None:
    """No repetition mends it, so nothing stays to go on with: neither of this restore nor of the one before."""
    tried.cut_off(0)
    copied = tried.folder.parent / "repository"
    shutil.copytree(tried.made.repository.url.removeprefix("file://"), copied)
    part = tried.made.parts()[0]
    content = bytearray((copied / part.key).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / part.key).write_bytes(content)
    with pytest.raises(BackupDamaged, match=part.key):
        tried(open_repository(copied.as_uri()))
    assert [*tried.tree()] in ([], ["data", "space"], ["space", "data"])


def test_kill_9_at_any_moment(tried: Tried, whole: dict[str, Any]) -> None:
    """``backup-guard restore``, with and without ``--resume``, killed up to three times: what looks whole is whole, the
    repository is as it was, and whoever resumes gets what an undisturbed restore writes, or is refused where nothing is
    missing but the control file. RESTORE_KILLS=100 tries harder."""
    source = random.Random(20261128)
    stored = Path(tried.made.repository.url.removeprefix("file://"))

    def look_at_repository() -> dict[Path, tuple[int, int, bytes]]:
        files = [path for path in stored.rglob("*") if path.is_file()]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = look_at_repository()
    words = ["restore", tried.made.record.backup_id, "--repository", tried.made.repository.url, "--to", str(tried.data)]
    words += ["--tablespace-mapping", f"{tried.made.space}={tried.space}"]
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(*options: str, kill_after: float | None = None) -> int:
            assert process.stdin is not None and process.stdout is not None
            print(json.dumps(([*words, *options], kill_after)), file=process.stdin, flush=True)
            return int(process.stdout.readline())

        assert run() == 0
        assert tried.tree() == whole
        shutil.rmtree(tried.folder)
        began = time.monotonic()
        assert run() == 0
        took = time.monotonic() - began
        shutil.rmtree(tried.folder)
        seen: Counter[str] = Counter()
        for _ in range(KILLS):
            resume: list[str] = source.choice([[], ["--resume"]])
            for _ in range(source.choice([1, 1, 2, 3])):
                status = run(*resume, kill_after=source.uniform(0, took))
                seen["killed" if status == -signal.SIGKILL else f"ended with {status}"] += 1
                resume = ["--resume"]
            left = tried.tree() if tried.folder.exists() else {}
            assert look_at_repository() == before
            if left.get("data/global/pg_control") == whole["data/global/pg_control"]:
                assert left == whole
                seen["whole"] += 1
            else:
                seen["in the middle"] += bool(left)
                # Signed claims are there from the first moment on, and go when all but the control file is on the disk.
                claims = [folder / CLAIM_FILE for folder in (tried.data, tried.space)]
                claimed = all(claim.is_file() and claim.stat().st_size for claim in claims)
                if any(path.startswith(("data/", "space/")) for path in left):
                    assert run() != 0
                    assert tried.tree() == left
                if run("--resume") != 0:
                    assert not claimed
                    assert tried.tree() == left
                    seen["refused"] += 1
                    shutil.rmtree(tried.folder)
                    assert run() == 0
                assert tried.tree() == whole
            shutil.rmtree(tried.folder, ignore_errors=True)
    print(f"{dict(seen)} of {KILLS}; {took:.2f} s undisturbed")
    assert seen["killed"]
    assert seen["in the middle"]
