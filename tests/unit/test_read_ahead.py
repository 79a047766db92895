"""A stream that is made in one thread and taken in another is the same stream."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.engine.read_ahead import ReadAhead


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
