"""A backup that an attacker made or changed: it is refused with an error of ours, and nothing is written elsewhere."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.report import record_lines
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError
from tests.security.conftest import FUZZ
from tests.security.hostile import (
    BASE,
    IN_TABLESPACE,
    OID,
    SPACE,
    WAL,
    Hostile,
    changed,
    manifest_of,
    member,
    members,
    mutated,
    pax,
    sealed,
    tar,
)

OUTSIDE = Path(tempfile.gettempdir(), "backup-guard-hostile-backups")
"""What absolute names of hostile members lead to."""


IN_MEMORY = next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)
"""Where an fsync costs nothing, if there is such a place."""


class Jail:
    """A folder with a target and a tablespace in it, and things of others that must stay as they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "in" / "target"
        self.space = folder / "in" / "space"
        (folder / "in").mkdir()
        (folder / "in" / "others").write_text("not ours")
        (folder / "others").write_text("not ours")
        self._before = self._others()

    def _others(self) -> set[tuple[str, int]]:
        found = set()
        for place in (self.folder, OUTSIDE):
            for parent, folders, files in os.walk(place):
                at = Path(parent)
                folders[:] = [name for name in folders if at / name not in (self.target, self.space)]
                found |= {(str(at / name), (at / name).lstat().st_mtime_ns) for name in (*files, *folders)}
        # Folders that hold what is ours change their times.
        return {(path, time if Path(path).is_file() else 0) for path, time in found}

    def attempt(self, hostile: Hostile, record: BackupRecord) -> bool:
        """Verify, restore and show it; whether it could be restored. Anything but an error of ours fails the test."""
        with suppress(BackupGuardError):
            verify(record, hostile.repository, workers=1)
        try:
            restore(record, hostile.repository, self.target, workers=1)
            restored = True
        except BackupGuardError as error:
            str(error).encode()  # it must be possible to log it
            restored = False
        assert self._others() == self._before
        if restored:
            for parent, folders, files in os.walk(self.target):
                for path in (Path(parent, name) for name in (*folders, *files)):
                    assert not path.is_symlink() or path.readlink() == self.space
        else:
            assert not self.target.exists() and not self.space.exists(), "a refused backup leaves nothing"
        return restored


@contextmanager
def jail() -> Iterator[tuple[Jail, Hostile]]:
    """A new jail, and a backup whose tablespace goes into it."""
    with tempfile.TemporaryDirectory(prefix="backup-guard-jail-", dir=IN_MEMORY) as folder:
        inside = Jail(Path(folder))
        yield inside, Hostile(inside.space)


@pytest.fixture(scope="module", autouse=True)
def outside() -> Iterator[None]:
    """A folder that hostile members name by its absolute path; it is there, and must stay empty."""
    OUTSIDE.mkdir(exist_ok=True)
    yield
    assert list(OUTSIDE.iterdir()) == []
    OUTSIDE.rmdir()


def test_the_whole_backup_that_is_changed_here_can_be_restored() -> None:
    """So that the tests below do not fail it for another reason."""
    with jail() as (inside, hostile):
        record = hostile.fill()
        assert inside.attempt(hostile, record)
        assert (inside.space / IN_TABLESPACE / "1").read_bytes() == b"row" * 99
        assert (inside.target / "base" / "1").read_bytes() == b"page" * 3000


@given(st.lists(members(OUTSIDE), max_size=5), st.lists(members(OUTSIDE), max_size=3))
@example([member("link", kind=b"2", link=".."), member("link/escaped", b"x")], [])
@example([member("link", kind=b"2", link=str(OUTSIDE)), member("link/escaped", b"x")], [])
@example([member("hard", kind=b"1", link="../others"), member("hard", b"x")], [])
@example([pax({"path": "../escaped"}), member("a", b"x")], [])
@example([member("././@LongLink", b"../escaped\0", kind=b"L"), member("a", b"x")], [])
@example([], [pax({"size": "99999999999999999999"}), member(f"{IN_TABLESPACE}/2", b"x")])
@example([member("a", b"x", mtime=1 << 80)], [])
@example([member(f"pg_tblspc/{OID}/authorized_keys", b"x")], [])
@example([], [member("authorized_keys", b"x")])
@example([member("base/1", b"page" * 3000)], [])
@FUZZ
def test_hostile_archives(base: list[bytes], space: list[bytes]) -> None:
    """Paths that lead out, links, devices, duplicates, claimed sizes and extensions of tar, which the manifest agrees
    with: nothing outside of the target changes, whatever is refused leaves nothing, no link is made but that to the
    tablespace."""
    with jail() as (inside, hostile):
        record = hostile.fill(base=BASE[:-1024] + tar(*base), space=SPACE[:-1024] + tar(*space))
        inside.attempt(hostile, record)


@pytest.mark.parametrize("archive", ["base", "space", "wal"])
@given(st.data())
@FUZZ
def test_mutated_content(archive: str, data: st.DataObject) -> None:
    """Any bytes of an archive or a segment changed, the record and the manifest agreeing: the same holds."""
    content = {"base": BASE, "space": SPACE, "wal": WAL}[archive]
    with jail() as (inside, hostile):
        inside.attempt(hostile, hostile.fill(**{archive: data.draw(mutated(content))}))


MANIFEST = manifest_of({"base/1": b"page" * 3000, f"pg_tblspc/{OID}/{IN_TABLESPACE}/1": b"row" * 99})


@given(changed(MANIFEST).map(sealed) | mutated(sealed(MANIFEST)))
@example(sealed({**MANIFEST, "Files": [{"Path": "base/1", "Size": float("inf")}]}))
@FUZZ
def test_hostile_manifests(manifest: bytes) -> None:
    """A manifest with anything in it, its own checksum right or not: the same holds."""
    with jail() as (inside, hostile):
        inside.attempt(hostile, hostile.fill(manifest=manifest))


RECORD = json.loads(backup.dump(Hostile(Path("/nowhere")).fill()))


@given(changed(RECORD))
@FUZZ
def test_hostile_records(document: object) -> None:
    """A record with anything in it can be read, shown, verified and restored, or is refused; the same holds."""
    with jail() as (inside, hostile):
        hostile.fill()
        text = json.dumps(document).replace("/nowhere", str(inside.space))
        hostile.repository.put(hostile.key, text.encode())
        try:
            record = catalog.record_of(hostile.repository, hostile.record.plan_name, hostile.record.backup_id)
            "\n".join(f"{name} {value}" for name, value in record_lines(record)).encode()
        except BackupGuardError:
            return
        inside.attempt(hostile, record)


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", "..", "", "x", "../../../in/others"])
def test_a_segment_or_an_archive_by_another_name_makes_no_record(name: str) -> None:
    """Their names become paths of the target."""
    for kind in ("wal", "archive"):
        document = json.loads(json.dumps(RECORD))
        for part in document["parts"]:
            if part["kind"] == kind:
                part["name"] = name
        with pytest.raises(BackupDamaged, match="cannot be read"):
            backup.load(BackupRecord, json.dumps(document).encode(), "a record")


def test_a_file_that_is_in_an_archive_twice_is_found() -> None:
    """Which of the two was restored would be chance."""
    with jail() as (inside, hostile):
        record = hostile.fill(base=BASE[:-1024] + tar(member("base/1", b"page" * 3000)))
        assert "more than once" in str(verify(record, hostile.repository).objects)
        assert not inside.attempt(hostile, record)
