"""Members of an archive become files: whole, with their mode and time, whichever piece is written first."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_backup_guard.engine.archive import Member, Piece
from airflow_backup_guard.engine.member_writer import MemberWriter, Owner

BASE = Piece(Member("base", 0o750, 1_717_268_400.0, True), 0, b"")


def pieces_of(path: str, content: bytes, size: int) -> list[Piece]:
    """A file's content in pieces; one that is empty if there is none."""
    member = Member(path, 0o640, 1_717_268_400.0, False, len(content))
    starts = range(0, len(content), size) or [0]
    return [Piece(member, at, content[at : at + size]) for at in starts]


@pytest.fixture(autouse=True)
def _no_file_left_open(tmp_path: Path) -> Iterator[None]:
    yield
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            assert not descriptor.readlink().is_relative_to(tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_in_any_order(tmp_path: Path, seed: int) -> None:
    """Told of in turn; several files at the same time."""
    chance = random.Random(seed)
    files = {f"base/{number}": chance.randbytes(chance.choice([0, 1, 10, 1000])) for number in range(5)}
    owner = Owner(os.geteuid(), os.getegid())
    with MemberWriter(tmp_path, owner) as writer:
        writer.begin(BASE)()
        writes = [writer.begin(piece) for path, content in files.items() for piece in pieces_of(path, content, 100)]
        chance.shuffle(writes)
        for write in writes:
            write()
    assert {f"base/{path.name}": path.read_bytes() for path in (tmp_path / "base").iterdir()} == files
    for path in (tmp_path / "base").iterdir():
        assert (path.stat().st_mode & 0o7777, path.stat().st_mtime) == (0o640, 1_717_268_400)
    assert (tmp_path / "base").stat().st_mode & 0o7777 == 0o750
    assert writer.folders == ["base"]


def test_a_file_of_which_not_all_came(tmp_path: Path) -> None:
    """It is left as it is, and closed."""
    with MemberWriter(tmp_path, None) as writer:
        writer.begin(BASE)()
        first, _, last = [writer.begin(piece) for piece in pieces_of("base/1", b"abc", 1)]
        last()
        first()
    assert (tmp_path / "base/1").read_bytes() == b"a\0c"


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """Whoever made it, even the archive itself."""
    (tmp_path / "base").mkdir()
    with MemberWriter(tmp_path, None) as writer:
        writer.begin(BASE)()
        [write] = [writer.begin(piece) for piece in pieces_of("base/1", b"first", 10)]
        write()
        [again] = [writer.begin(piece) for piece in pieces_of("base/1", b"second", 10)]
        with pytest.raises(FileExistsError, match="base/1"):
            again()
        with pytest.raises(FileExistsError, match="base/1"):
            writer.begin(Piece(Member("base/1", 0o700, 0.0, True), 0, b""))
    assert (tmp_path / "base/1").read_bytes() == b"first"


def test_a_full_disk(tmp_path: Path) -> None:
    """The error comes to whoever writes, and no descriptor is left."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base/1").symlink_to("/dev/full")
    with MemberWriter(tmp_path, None) as writer:
        [write] = [writer.begin(piece) for piece in pieces_of("base/1", b"x", 10)]
        with pytest.raises(FileExistsError):  # links are not followed, either
            write()
    with MemberWriter(Path("/dev"), None) as writer:
        [write] = [writer.begin(piece) for piece in pieces_of("no/1", b"x", 10)]
        with pytest.raises(FileNotFoundError, match="no/1"):
            write()
