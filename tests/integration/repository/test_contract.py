"""The laws of :mod:`airflow_backup_guard.repository.base`, held by every kind of repository."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from airflow_backup_guard.errors import InvalidPlan, ObjectExists, ObjectMissing
from airflow_backup_guard.repository.base import ObjectWriter, Repository, StoredObject
from airflow_backup_guard.repository.s3_writer import part_size

if TYPE_CHECKING:
    from tests.integration.repository.conftest import Place

PART = part_size(1)


def keys(repository: Repository, prefix: str = "") -> list[str]:
    """The keys that a listing shows."""
    return [info.key for info in repository.list(prefix)]


def read(repository: Repository, key: str) -> bytes:
    """The whole of an object."""
    with repository.reader(key) as reader:
        return reader.read()


@pytest.mark.parametrize("size", [0, 1, 65536, PART - 1, PART, PART + 1, 20_000_000, 2 * PART + 5])
def test_round_trip(place: Place, size: int) -> None:
    """What is read is what was written, in chunks of any size, and the writer knows its size and digest."""
    data = os.urandom(size)
    with place.repository.writer("cluster/base.tar.zst") as writer:
        for start in range(0, size, 262_143):
            writer.write(memoryview(data)[start : start + 262_143])
        stored = writer.commit()
    assert stored == StoredObject("cluster/base.tar.zst", size, hashlib.sha256(data).hexdigest())
    assert read(place.repository, stored.key) == data
    (info,) = place.repository.list("")
    assert (info.key, info.size) == (stored.key, size)
    assert abs(datetime.now(timezone.utc) - info.modified) < timedelta(minutes=1)
    assert place.leftovers() == 0


def test_reader_in_pieces(place: Place) -> None:
    """A reader gives the object in the pieces asked for, and nothing at its end."""
    place.repository.put("key", b"0123456789")
    with place.repository.reader("key") as reader:
        assert [reader.read(4), reader.read(4), reader.read(4), reader.read(4)] == [b"0123", b"4567", b"89", b""]


def test_invisible_until_commit(place: Place) -> None:
    """Nobody sees an object that is being written."""
    with place.repository.writer("a/b") as writer:
        writer.write(bytes(PART + 1))
        assert keys(place.repository) == []
        with pytest.raises(ObjectMissing):
            place.repository.reader("a/b")
        writer.commit()
    assert keys(place.repository) == ["a/b"]


@pytest.mark.parametrize("size", [0, 1, 2 * PART + 1])
def test_leaving_without_commit(place: Place, size: int) -> None:
    """A writer that is left without a commit leaves nothing behind, and takes no more."""
    with place.repository.writer("a/b") as writer:
        writer.write(bytes(size))
    assert keys(place.repository) == []
    assert place.leftovers() == 0
    writer.abort()
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"more")
    with pytest.raises(ValueError, match="closed"):
        writer.commit()


def test_abort_after_commit(place: Place) -> None:
    """An abort after the commit does nothing."""
    with place.repository.writer("a/b") as writer:
        writer.write(b"whole")
        writer.commit()
        writer.abort()
    assert read(place.repository, "a/b") == b"whole"


def test_commit_replaces(place: Place) -> None:
    """A commit replaces what was there; an abort does not."""
    place.repository.put("a/b", b"old")
    with place.repository.writer("a/b") as writer:
        writer.write(b"given up")
    assert read(place.repository, "a/b") == b"old"
    with place.repository.writer("a/b") as writer:
        writer.write(b"new")
        writer.commit()
    assert read(place.repository, "a/b") == b"new"


def test_put(place: Place) -> None:
    """A put replaces, unless it may only create."""
    assert place.repository.put("a", b"1", if_absent=True).sha256 == hashlib.sha256(b"1").hexdigest()
    with pytest.raises(ObjectExists, match="a"):
        place.repository.put("a", b"2", if_absent=True)
    assert read(place.repository, "a") == b"1"
    place.repository.put("a", b"3")
    assert read(place.repository, "a") == b"3"
    assert place.leftovers() == 0


def test_concurrent_puts(place: Place) -> None:
    """Of many who claim the same key at once, exactly one gets it, and its content stands."""

    def claim(who: int) -> int | None:
        try:
            place.repository.put(f"claims/{round_}", b"%d" % who, if_absent=True)
        except ObjectExists:
            return None
        return who

    with ThreadPoolExecutor(8) as pool:
        for round_ in range(10):
            (winner,) = [who for who in pool.map(claim, range(8)) if who is not None]
            assert read(place.repository, f"claims/{round_}") == b"%d" % winner


def test_list(place: Place) -> None:
    """A listing is sorted by key, and its prefix is that of a string, wherever it ends."""
    for key in ("b/2", "b/1", "a", "b/10/x", "ba", "b-1/y", "c"):
        place.repository.put(key, b"")
    assert keys(place.repository) == ["a", "b-1/y", "b/1", "b/10/x", "b/2", "ba", "c"]
    assert keys(place.repository, "b/") == ["b/1", "b/10/x", "b/2"]
    assert keys(place.repository, "b/1") == ["b/1", "b/10/x"]
    assert keys(place.repository, "b/10/") == ["b/10/x"]
    assert keys(place.repository, "b") == ["b-1/y", "b/1", "b/10/x", "b/2", "ba"]
    assert keys(place.repository, "b/1/") == []
    assert keys(place.repository, "nothing/here") == []


def test_list_is_complete(place: Place) -> None:
    """A listing goes on past what one answer of S3 holds (1,000 keys)."""
    names = [f"wal/{number:04}" for number in range(1001)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: place.repository.put(key, b""), names))
    assert keys(place.repository, "wal/") == names


def test_delete(place: Place) -> None:
    """A deleted object is gone, its neighbours are not, and deleting it again is no error."""
    place.repository.put("a/b/1", b"")
    place.repository.put("a/b/2", b"")
    place.repository.delete("a/b/1")
    place.repository.delete("a/b/1")
    assert keys(place.repository) == ["a/b/2"]
    place.repository.delete("a/b/2")
    place.repository.delete("never/was")
    assert keys(place.repository) == []
    place.repository.put("a/b", b"now an object")


def test_delete_all(place: Place) -> None:
    """Many objects, more than one request of S3 takes, are gone at once; missing ones are no error, others stay."""
    names = [f"wal/{number:04}" for number in range(1001)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: place.repository.put(key, b""), [*names, "wal/kept", "other"]))
    place.repository.delete_all(name for name in ["never/was", *names])
    assert keys(place.repository) == ["other", "wal/kept"]
    place.repository.delete_all([])
    with pytest.raises(InvalidPlan, match="key"):
        place.repository.delete_all(["other", "../etc"])
    place.repository.delete_all(["wal/kept", "other"])
    assert keys(place.repository) == []
    place.repository.put("wal", b"now an object")


def test_abort_in_mid_write(place: Place) -> None:
    """An abort from another thread ends a writer that is busy: its next call raises, and nothing is left."""
    for _ in range(5):
        writer = place.repository.writer("a/b")
        begun = threading.Event()

        def write(writer: ObjectWriter = writer, begun: threading.Event = begun) -> None:
            while True:
                writer.write(bytes(1 << 20))
                begun.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            assert begun.wait(10)
            writer.abort()
            with pytest.raises(ValueError, match="closed"):
                writing.result(10)
    assert keys(place.repository) == []
    assert place.leftovers() == 0


def test_missing(place: Place) -> None:
    """Reading what is not there says so, also where only its folder is."""
    place.repository.put("a/b", b"")
    for key in ("nothing", "a", "a/c"):
        with pytest.raises(ObjectMissing, match=key):
            place.repository.reader(key)


BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    ".hidden",
    "a\\b",
    "a\nb",
    "\ud800",
    "x" * 201,
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys(place: Place, key: str) -> None:
    """Keys that could leave the repository, or that one kind of it could not hold, are refused by all."""
    for use in (
        place.repository.writer,
        place.repository.reader,
        place.repository.delete,
        place.repository.lock_of,
        lambda key: place.repository.delete_all([key]),
        lambda key: place.repository.put(key, b""),
    ):
        with pytest.raises(InvalidPlan, match="key"):
            use(key)


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "..", "a//"])
def test_bad_prefixes(place: Place, prefix: str) -> None:
    """So are prefixes."""
    with pytest.raises(InvalidPlan, match="prefix"):
        list(place.repository.list(prefix))
    with pytest.raises(InvalidPlan, match="prefix"):
        place.repository.abort_writes(prefix)


def test_abort_writes(place: Place) -> None:
    """What a killed writer left is invisible, and dropped under its prefix only, with no harm to the rest."""
    place.repository.put("one/whole", b"1")
    place.abandon("one/a")
    place.abandon("two/a")
    assert place.leftovers() == 2
    assert keys(place.repository) == ["one/whole"]
    assert place.repository.abort_writes("none/") == 0
    assert place.repository.abort_writes("one/") == 1
    assert place.leftovers() == 1
    assert place.repository.abort_writes("") == 1
    assert place.leftovers() == 0
    assert keys(place.repository) == ["one/whole"]


def test_a_tag_changes_with_the_content(place: Place) -> None:
    """Also where size and time stay the same; a listing without a change has the same tags."""
    tags = set()
    for content in (b"one", b"two", b"six"):
        place.repository.put("a", content)
        (first,), (second,) = list(place.repository.list("")), list(place.repository.list(""))
        assert first.tag == second.tag != ""
        tags.add(first.tag)
    assert len(tags) == 3


def test_unfinished_writes(place: Place) -> None:
    """What is being written is listed with its key and a time, under its prefix only, until it is whole or dropped."""
    place.repository.put("one/whole", b"1")
    with place.repository.writer("one/a") as writer, place.repository.writer("two/a") as other:
        for one in (writer, other):
            one.write(bytes(PART + 1))
        (found,) = place.repository.unfinished_writes("one/")
        assert found.key == "one/a"
        # moto dates every upload to the day of an example in S3's documentation.
        assert abs(datetime.now(timezone.utc) - found.since) < timedelta(minutes=1) or found.since.year == 2010
        assert [one.key for one in place.repository.unfinished_writes("")] == ["one/a", "two/a"]
        assert keys(place.repository) == ["one/whole"]
        writer.commit()
        assert list(place.repository.unfinished_writes("one/")) == []
    assert place.leftovers() == 0
    assert list(place.repository.unfinished_writes("")) == []


def test_nothing_is_locked(place: Place) -> None:
    """Where nobody asked for locks, whether the object is there or not."""
    place.repository.put("a", b"")
    assert place.repository.lock_of("a") is None
    assert place.repository.lock_of("nothing") is None


def test_free_bytes(place: Place) -> None:
    """The space left is a number where there is an end, else unknown."""
    free = place.repository.free_bytes()
    assert free is None or free > 0
