"""A stream that is made in one thread and taken in another is the same stream."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.repository.read_ahead import ReadAhead


def made(chunks: list[bytes], error: Exception | None = None) -> Generator[bytes, None, None]:
    """These chunks, and then the error."""
    yield from chunks
    if error is not None:
        raise error


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=12), st.integers(1, 30))
def test_what_is_read_is_what_was_made(chunks: list[bytes], size: int) -> None:
    """In pieces of just the size that was asked for, the last one excepted; after the end there is nothing."""
    with ReadAhead(made(chunks)) as stream:
        pieces = list(iter(lambda: stream.read(size), b""))
        assert stream.read(size) == b""
    assert b"".join(pieces) == b"".join(chunks)
    assert all(len(piece) == size for piece in pieces[:-1])


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=12), st.lists(st.integers(1, 30), min_size=1))
def test_what_is_ready_is_read_as_it_was_made(chunks: list[bytes], sizes: list[int]) -> None:
    """Never more than was asked for, and nothing only at the end."""
    with ReadAhead(made(chunks)) as stream:
        pieces = []
        while piece := stream.read1(sizes[len(pieces) % len(sizes)]):
            assert len(piece) <= sizes[len(pieces) % len(sizes)]
            pieces.append(piece)
        assert stream.read1(1) == b""
    assert b"".join(pieces) == b"".join(chunks)


def test_a_chunk_that_is_short_enough_is_not_copied() -> None:
    """It is what most of a large file comes in."""
    chunk = b"x" * 1000
    with ReadAhead(made([chunk])) as stream:
        assert stream.read1(1000) is chunk


def test_both_ways_of_reading_take_turns() -> None:
    """What one leaves of a chunk is the other's."""
    with ReadAhead(made([b"abc", b"defg", b"hi"])) as stream:
        found = [stream.read(2), stream.read1(9), stream.read1(3), stream.read(2), stream.read1(9), stream.read(1)]
    assert found == [b"ab", b"c", b"def", b"gh", b"i", b""]


def test_an_error_comes_in_its_place_and_again() -> None:
    """After the bytes before it, and at each later read, so that it is never taken for the end."""
    with ReadAhead(made([b"ab"], ValueError("broken"))) as stream:
        assert stream.read(2) == b"ab"
        for _ in range(2):
            with pytest.raises(ValueError, match="broken"):
                stream.read(1)


def test_leaving_early_closes_the_source_and_its_thread() -> None:
    """Also where the source has no end, and the reader took nothing."""
    closed = threading.Event()

    def endless() -> Generator[bytes, None, None]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    before = threading.active_count()
    with ReadAhead(endless()):
        pass
    assert closed.is_set()
    assert threading.active_count() == before
