"""Writing in a thread of its own."""

from __future__ import annotations

import threading

import pytest

from airflow_backup_guard.errors import RepositoryFull
from airflow_backup_guard.repository.base import ObjectWriter, StoredObject
from airflow_backup_guard.repository.memory import MemoryRepository
from airflow_backup_guard.repository.write_behind import WriteBehind

PATIENCE_SECONDS = 30


def names() -> list[str]:
    """Of the threads that live."""
    return [thread.name for thread in threading.enumerate()]


def fill(writer: ObjectWriter) -> None:
    """Write more than can be held."""
    for _ in range(10):
        writer.write(bytes(1 << 20))


class Stuck(ObjectWriter):
    """Takes nothing until it is aborted, and fails then as the protocol says; or fails at once, if it has an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.aborted = threading.Event()
        self.reached = threading.Event()

    def write(self, data: bytes | memoryview) -> None:
        self.reached.set()
        if self.error is not None:
            raise self.error
        assert self.aborted.wait(PATIENCE_SECONDS)
        raise ValueError("the writer is closed")

    def commit(self) -> StoredObject:
        raise AssertionError("what is not whole must not be committed")

    def abort(self) -> None:
        self.aborted.set()


def test_what_is_written_arrives_in_its_order() -> None:
    """The object is the pieces one after the other, and no thread is left."""
    repository = MemoryRepository()
    writer = WriteBehind(repository.writer("a"))
    pieces = [bytes([number % 251]) * (number * 997 % 70_000) for number in range(400)]
    for piece in pieces:
        writer.write(piece)
    assert writer.commit().size == sum(map(len, pieces))
    assert repository.reader("a").read() == b"".join(pieces)
    assert "write-behind" not in names()


def test_a_failure_is_raised_where_it_is_written_to() -> None:
    """What the storage raised comes out of a later write or of the commit, and nothing is committed."""
    writer = WriteBehind(Stuck(RepositoryFull("it is full")))
    with pytest.raises(RepositoryFull):  # at the latest when 4 MiB are held
        fill(writer)
    with pytest.raises(RepositoryFull):
        writer.commit()
    writer.abort()
    assert "write-behind" not in names()


def test_the_last_piece_counts() -> None:
    """A failure that nobody has seen yet when the object is committed is not lost."""
    writer = WriteBehind(Stuck(RepositoryFull("it is full")))
    writer.write(b"the last")
    with pytest.raises(RepositoryFull):
        writer.commit()
    writer.abort()


@pytest.mark.parametrize("waits_in", ["write", "commit"])
def test_an_abort_frees_who_waits(waits_in: str) -> None:
    """Whoever waits for storage that has stopped answering gets ValueError as soon as another thread aborts."""
    stuck = Stuck()
    writer = WriteBehind(stuck)
    writer.write(b"first")
    assert stuck.reached.wait(PATIENCE_SECONDS)

    def abort() -> None:
        # Not before there is more than it holds, or one who commits.
        while waits_in == "write" and writer._held < 4 << 20:
            pass
        while waits_in == "commit" and not writer._complete:
            pass
        writer.abort()

    other = threading.Thread(target=abort)
    other.start()
    with pytest.raises(ValueError, match="closed"):
        fill(writer) if waits_in == "write" else writer.commit()
    other.join()
    assert "write-behind" not in names()
