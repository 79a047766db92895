"""A repository whose disk is full, becomes read-only, or may not be written to any more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.attempt import close_attempt
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.holds import hold
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import PreflightFailed, RepositoryDenied, RepositoryFull
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.local import LocalRepository
from tests.faults.left import assert_verified, ours_in, restored_sql, wait_for_nothing_of_ours, whole_backups
from tests.integration.guarded import BASELINE_SECONDS, CopyInFlight, back_up, plan_for, wait_until
from tests.integration.repository.test_local import mount as mount
from tests.stored import snapshot_at, store_attempt, store_backup, store_parts

Mount = Callable[..., Path]
NOW = datetime.now(timezone.utc)
RANDOM = "CREATE TABLE incompressible AS SELECT n, sha512(n::text::bytea) FROM generate_series(1, 150000) n"


def remount(place: Path, options: str) -> None:
    """Change a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave not one byte free."""
    filler = place / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


def test_a_disk_that_fills_up_in_mid_copy(
    new_server: Callable[..., LocalServer], role_dsn: Callable[..., str], mount: Mount, cluster_folder: Path
) -> None:
    """The error names the disk and what is left of it; not a byte of the attempt stays, the backup that was there is
    whole; with more space the same copy succeeds."""
    server = new_server()
    disk = mount("size=40m")
    plan = plan_for(disk / "backups")
    dsn = role_dsn(server)
    first = back_up(plan, dsn)
    server.sql(RANDOM)
    before = ours_in(server)
    free = shutil.disk_usage(disk).free
    (disk / "others").write_bytes(b"x" * (free - (8 << 20)))
    repository = open_repository(plan.repository)
    snapshot = take_snapshot(plan, dsn, repository)
    with pytest.raises(RepositoryFull, match=r"No space left to write .*base\.tar"):
        copy(plan, snapshot, dsn, repository, stop=Stop(), baseline_seconds=BASELINE_SECONDS)
    wait_for_nothing_of_ours(server, before)
    assert whole_backups(repository) == [first]
    assert {info.key.split("/")[2] for info in repository.list("backups/")} == {first.backup_id}
    assert list(repository.unfinished_writes("")) == []
    fill(disk)
    with pytest.raises(PreflightFailed, match="No space left"):
        take_snapshot(plan, dsn, repository)
    (disk / "filler").unlink()
    remount(disk, "size=200m")
    record = copy(plan, snapshot, dsn, repository, stop=Stop(), baseline_seconds=BASELINE_SECONDS)
    assert whole_backups(repository) == [first, record]
    assert_verified([first, record], repository)
    query = "SELECT count(*) FROM incompressible"
    assert restored_sql(record, repository, cluster_folder / "data", query) == "150000"


def test_a_full_disk_can_be_emptied(mount: Mount) -> None:
    """Of a disk without one free byte an expiry removes what it is told to, and a teardown what a dead copy left."""
    disk = mount("size=4m")
    repository = LocalRepository(disk / "backups")
    records = [store_backup(repository, NOW - timedelta(days=number), suffix=number) for number in range(6)]
    dead = snapshot_at(NOW, 9)
    store_attempt(repository, dead)
    store_parts(repository, dead)
    fill(disk)
    with pytest.raises(RepositoryFull):
        hold(repository, records[5], until=None, reason="", by="me")
    assert close_attempt(plan_for(disk / "backups"), dead, repository, "it died")
    assert not any(dead.backup_id in info.key for info in repository.list("backups/"))
    fill(disk)
    done = expire(propose(repository, "shop", RetentionPolicy(keep_last=2), "UTC"), repository)
    assert not done.failures
    assert whole_ids(repository) == sorted(record.backup_id for record in records[:2])
    again = expire(propose(repository, "shop", RetentionPolicy(keep_last=2), "UTC"), repository)
    assert not again.expired and not again.swept and not again.failures


def whole_ids(repository: LocalRepository) -> list[str]:
    """Of what is visible, each of whose parts must be there."""
    there = {info.key: info.size for info in repository.list("backups/")}
    found = list(catalog.backups(repository))
    assert all(there.get(part.key) == part.size for record in found for part in record.parts)
    assert {key.split("/")[2] for key in there} == {record.backup_id for record in found}
    return [record.backup_id for record in found]


def test_a_retry_on_a_disk_that_a_dead_copy_has_filled(server: LocalServer, guard_dsn: str, mount: Mount) -> None:
    """What was killed can clean up nothing: its retry does so, before it needs a byte for itself."""
    disk = mount("size=30m")
    plan = plan_for(disk / "backups")
    repository = open_repository(plan.repository)
    snapshot = take_snapshot(plan, guard_dsn, repository)
    store_parts(repository, snapshot)
    with repository.writer(f"backups/shop/{snapshot.backup_id}/16384.tar.zst") as writer:
        writer.write(b"x" * (22 << 20))
        writer.commit()
    filler = fill(disk)
    with pytest.raises(RepositoryFull):
        repository.put("checks/one", b"x")
    record = copy(plan, snapshot, guard_dsn, repository, stop=Stop(), baseline_seconds=BASELINE_SECONDS)
    assert filler.exists()
    assert whole_backups(repository) == [record]


def test_a_disk_that_becomes_read_only_in_mid_copy(server: LocalServer, guard_dsn: str, mount: Mount) -> None:
    """As after an error of the disk: the error says so, the database is free at once, and what could not be removed
    is invisible, until the next copy removes it."""
    before = ours_in(server)
    disk = mount("size=100m")
    plan = plan_for(disk / "backups", max_rate="5MB/s", min_rate="5MB/s")
    with CopyInFlight(plan, guard_dsn) as copying:
        server.sql("SELECT pg_switch_wal()")
        wait_until(lambda: any("wal/" in info.key for info in copying.repository.list("backups/")), 60)
        subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
            copying.end(90)
            wait_for_nothing_of_ours(server, before)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    assert isinstance(copying.error, RepositoryDenied), copying.error
    assert "Read-only" in str(copying.error)
    assert whole_backups(copying.repository) == []
    record = back_up(plan_for(disk / "backups"), guard_dsn)
    assert whole_backups(open_repository(plan.repository)) == [record]
    assert whole_ids(LocalRepository(disk / "backups")) == [record.backup_id]


def test_a_folder_that_may_not_be_written_to_any_more(
    server: LocalServer, guard_dsn: str, cluster_folder: Path, is_root: bool
) -> None:
    """Somebody changes its owner in mid-copy: the command names the folder and who it runs as, and frees the database;
    with the rights back, the next one succeeds and leaves nothing of the first."""
    before = ours_in(server)
    user = 65534 if is_root else os.geteuid()
    home = cluster_folder / "home"
    repository = home / "backups"
    for folder in (home, repository):
        folder.mkdir()
        os.chown(folder, user, -1)
    command = [sys.executable, "-m", "airflow_backup_guard", "backup", "--checkpoint", "fast", "--plan-name", "shop"]
    environment = {
        **os.environ,
        "BACKUP_GUARD_DSN": guard_dsn,
        "BACKUP_GUARD_REPOSITORY": repository.as_uri(),
        "HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    options = {"env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    if is_root:
        options |= {"user": user, "extra_groups": []}
        try:
            subprocess.run([sys.executable, "-c", ""], user=user, extra_groups=[], check=True)
        except (PermissionError, subprocess.CalledProcessError):
            pytest.skip("root may write anywhere, and this Python lies where no other user may run it")
    plan = ["--max-rate", "4MB/s", "--min-rate", "4MB/s"]
    with subprocess.Popen([*command, *plan], **options) as copying:  # type: ignore[call-overload]
        try:
            wait_until(lambda: any(repository.glob("backups/shop/*/*/.*.unfinished")), 60)  # a part has begun
            for folder in (*(path for path in repository.rglob("*") if path.is_dir()), repository):
                folder.chmod(0o500)
                if is_root:
                    os.chown(folder, 0, -1)
            said = copying.communicate(timeout=120)[0]
        finally:
            copying.kill()
    assert copying.returncode == 1, said
    assert "No permission for" in said and f"Give user id {user} read and write access" in said, said
    wait_for_nothing_of_ours(server, before)
    for folder in (repository, *repository.rglob("*")):
        if is_root:
            os.chown(folder, user, -1)
        folder.chmod(0o700)
    assert list(catalog.backups(open_repository(repository.as_uri()))) == []
    done = subprocess.run(command, **options, check=False)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout
    opened = LocalRepository(repository)
    assert len(whole_backups(opened)) == len(whole_ids(opened)) == 1
    assert_verified(whole_backups(opened), opened)
