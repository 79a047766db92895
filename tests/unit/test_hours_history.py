"""What is kept of the load: entries, what they say between them, and packed days."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.core.load_history import (
    Counters,
    LoadEntry,
    day_of,
    entry_key,
    packed,
    packed_key,
    readings,
    summarize,
)
from airflow_backup_guard.errors import BackupDamaged

AT = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
ALL = {"wal_rate": 5e6, "commit_rate": 100.0, "commit_latency": 0.002}

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(timezone.utc))
numbers = st.floats(0, 1e15)
entries = st.builds(
    LoadEntry,
    moments,
    st.dictionaries(st.sampled_from(sorted(ALL)), numbers),
    st.dictionaries(st.sampled_from(sorted(ALL)), st.text(max_size=20)),
    st.none() | st.builds(Counters, st.text(max_size=20), numbers, st.none() | numbers),
    st.sampled_from([True, False, None]),
)


def entry(minutes: float, wal: float, *, origin: str = "one", commits: float | None = 0.0, **fields: Any) -> LoadEntry:
    """An entry that sampled ALL, so many minutes after AT."""
    return LoadEntry(AT + minutes * MINUTE, ALL, {}, Counters(origin, wal, commits), **{"backup": False, **fields})


def sample(values: dict[str, float], **unavailable: str) -> LoadSample:
    """A sample of the probe."""
    return LoadSample(AT, values, unavailable)


# Entries as lines


@given(entries)
def test_a_line_says_all(one: LoadEntry) -> None:
    """An entry reads back from its line as it was, and the line is one."""
    assert LoadEntry.from_line(one.to_line(), "it") == one
    assert len(one.to_line().splitlines()) == 1


@given(entries, entries)
def test_lines_sort_by_time(one: LoadEntry, other: LoadEntry) -> None:
    """The earlier entry's line is the smaller one."""
    if one.at < other.at:
        assert one.to_line() < other.to_line()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"at": 3}',
        b"\xff",
        entry(0, 1).to_line()[:-5],
        entry(0, 1).to_line().replace(b"5000", b'"'),
    ],
)
def test_a_line_that_is_none_is_named(line: bytes) -> None:
    """Whatever is wrong with it, the error says where it was."""
    with pytest.raises(BackupDamaged, match="load/shop/x"):
        LoadEntry.from_line(line, "load/shop/x")


def test_a_newer_format_is_refused() -> None:
    """It is not misread."""
    newer = entry(0, 1).to_line().replace(b'"format":1', b'"format":2')
    with pytest.raises(BackupDamaged, match="format 2"):
        LoadEntry.from_line(newer, "it")


# From samples to an entry


def test_an_entry_has_medians() -> None:
    """Of each signal that most samples have, to four digits."""
    samples = [sample({"wal_rate": 1e6, "commit_latency": value}) for value in (0.001, 0.0023456789, 5.0)]
    one = summarize(samples, AT, None, False)
    assert one.values == {"wal_rate": 1e6, "commit_latency": 0.002346}
    assert one.unavailable == {"commit_rate": "not measured"}
    assert not one.unknown


def test_what_most_samples_lack_is_unknown() -> None:
    """One commit that came back among many that did not is no quiet database; the reason is kept."""
    hung = sample({"wal_rate": 10.0}, commit_latency="no answer for 5 s")
    one = summarize([sample({"wal_rate": 10.0, "commit_latency": 0.001}), hung, hung], AT, None, False)
    assert "commit_latency" not in one.values
    assert one.unknown == {"commit_latency": "no answer for 5 s"}


def test_a_database_that_does_not_answer_is_an_entry() -> None:
    """It has no values, and reasons."""
    one = summarize([LoadSample.failed(AT, "connection refused")], AT, None, None)
    assert one.values == {}
    assert set(one.unknown.values()) == {"connection refused"}


# What entries say between them


def test_a_burst_between_two_entries_is_not_missed() -> None:
    """Counters tell of it, though no sample met it, and it lies between the two."""
    _, reading = readings([entry(0, 0, commits=0), entry(5, 3e9, commits=6000)])
    assert reading.values == {"wal_rate": 1e7, "commit_rate": 20.0, "commit_latency": 0.002}
    assert reading.at == AT + 2.5 * MINUTE


@pytest.mark.parametrize(
    "later",
    [entry(5, 10, origin="two"), entry(5, -1), entry(20, 10), entry(0.1, 10), LoadEntry(AT + 5 * MINUTE, ALL)],
    ids=["another server", "smaller", "too late", "too soon", "no counters"],
)
def test_counters_that_cannot_be_compared_are_not(later: LoadEntry) -> None:
    """What was sampled counts then, at its own time."""
    _, reading = readings([entry(0, 0), later])
    assert reading.values == ALL
    assert reading.at == later.at


def test_commits_that_are_not_counted_are_unknown() -> None:
    """They are not taken for none."""
    values = {"wal_rate": 1.0, "commit_latency": 0.001}
    one, other = (LoadEntry(AT + n * 5 * MINUTE, values, {}, Counters("one", n)) for n in range(2))
    assert "commit_rate" not in readings([one, other])[1].values


def test_a_backup_at_either_end_is_a_backup_between() -> None:
    """Counters were touched by it."""
    assert [one.backup for one in readings([entry(0, 0, backup=True), entry(5, 9), entry(10, 9)])] == [
        True,
        True,
        False,
    ]


@given(st.lists(entries, max_size=8), st.randoms())
def test_order_and_repetition_do_not_matter(some: list[LoadEntry], random: Any) -> None:
    """Readings are the same however entries come, and in order of time."""
    shuffled = some + some[:3]
    random.shuffle(shuffled)
    assert readings(shuffled) == readings(some)


# Keys and packed days

lines = st.lists(st.binary(min_size=1, max_size=4).filter(lambda line: not set(line) & {10, 13}), max_size=6)
contents = lines.map(lambda some: b"".join(line + b"\n" for line in some))


@given(contents, contents, contents)
def test_packing_loses_nothing_in_any_order(one: bytes, two: bytes, three: bytes) -> None:
    """Packing what was packed before, twice, or in another order, comes to the same; every line is there once."""
    whole = packed([one, two, three])
    assert packed([packed([three, one]), two, whole]) == whole
    assert packed([three, packed([two, one])]) == whole
    found = whole.splitlines()
    assert sorted(set(found)) == found
    assert set(found) == {line for content in (one, two, three) for line in content.splitlines()}


def test_keys_name_their_day() -> None:
    """That of an entry and that of a packed day; whatever else lies there has none."""
    key = entry_key("shop", AT, 0xA98C)
    assert key == "load/shop/20261123T090000Z-a98c.json"
    assert day_of(key) == "20261123"
    assert day_of(packed_key("shop", "20261122", b"x\n")) == "20261122"
    assert day_of("load/shop/README.json") is None
    assert packed_key("shop", "20261122", b"x\n") != packed_key("shop", "20261122", b"y\n")
