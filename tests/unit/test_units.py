"""Sizes, rates and durations: what is read, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.units import Rate, Size, format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
ARABIC_THREE = "\N{ARABIC-INDIC DIGIT THREE}"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("17B", 17),
        ("800kB", 800_000),
        ("800KB", 800_000),
        ("1.5MB", 1_500_000),
        ("8GB", 8_000_000_000),
        ("2TB", 2_000_000_000_000),
        ("16KiB", 16_384),
        ("16MiB", 16_777_216),
        ("0.5GiB", 536_870_912),
        ("1TiB", 1_099_511_627_776),
        ("  8 GB ", 8_000_000_000),
        ("1.001kB", 1001),
        ("4.1MB", 4_100_000),
    ],
)
def test_a_size_is_read_exactly(text: str, size: int) -> None:
    """Decimal and binary prefixes are told apart, and no byte is lost to floating point."""
    assert Size.parse(text) == size
    assert Rate.parse(f"{text.strip()}/s") == size


@given(st.integers(0, 10**15))
def test_thousandths_of_a_unit_are_exact(number: int) -> None:
    """A decimal fraction of a unit is exactly that many bytes."""
    text = f"{number // 1000}.{number % 1000:03}"
    assert Size.parse(f"{text}kB") == number
    assert Rate.parse(f"{text}GB/s") == number * 1_000_000
    assert Size.parse(f"{number}B") == number


@pytest.mark.parametrize(
    "value",
    [
        200,
        1.5,
        None,
        True,
        b"5MB",
        "200",
        "",
        "MB",
        "-5MB",
        "+5MB",
        "1e3MB",
        "5mb",
        "5 XB",
        "5.MB",
        "1,5MB",
        "5MB/s",
        "5MB 3kB",
        f"{ARABIC_THREE}MB",
        "inf MB",
        "nanMB",
        "9" * 400 + "GB",
    ],
)
def test_what_is_no_size_is_refused(value: Any) -> None:
    """Bare numbers and unknown units are refused with the field, the value, and an example."""
    with pytest.raises(InvalidPlan) as refused:
        Size.parse(value, "limit")
    assert str(refused.value).startswith(f"limit: {value!r} is not valid.")
    assert '"8GB"' in str(refused.value)


@pytest.mark.parametrize("value", [50, 5e6, None, "50", "50MB", "50MB/h", "50MB/min", "/s", "MB/s", "-1MB/s", "50MBps"])
def test_what_is_no_rate_is_refused(value: Any) -> None:
    """A rate needs its size unit and its ``/s``; the message names the field, the value, and an example."""
    with pytest.raises(InvalidPlan) as refused:
        Rate.parse(value, "max_rate")
    assert str(refused.value).startswith(f"max_rate: {value!r} is not valid.")
    assert '"50MB/s"' in str(refused.value)


def test_what_is_parsed_already_is_taken_as_it_is() -> None:
    """A Size or Rate passes through; one is not taken for the other."""
    assert Size.parse(Size(5)) == 5
    assert Rate.parse(Rate(5)) == 5
    with pytest.raises(InvalidPlan):
        Rate.parse(Size(5))  # type: ignore[arg-type]
    with pytest.raises(InvalidPlan):
        Size.parse(Rate(5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1500, "1.5kB"),
        (1549, "1.5kB"),
        (999_949, "999.9kB"),
        (999_950, "1MB"),
        (200_000_000, "200MB"),
        (8_500_000_000, "8.5GB"),
        (1_000_000_000_000, "1TB"),
        (2_000_000_000_000_000, "2000TB"),
    ],
)
def test_a_size_is_shown_short(size: int, text: str) -> None:
    """One digit after the point at most, and never 1000 of a smaller unit."""
    assert str(Size(size)) == f"{Size(size)}" == text
    assert str(Rate(size)) == f"{Rate(size)}" == f"{text}/s"


@given(st.integers(0, 10**18))
def test_what_is_shown_can_be_read(number: int) -> None:
    """The short text is a size by itself, right to a twentieth of its unit."""
    assert abs(Size.parse(str(Size(number))) - number) <= max(number * 0.05, 0.5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("250ms", 0.25),
        ("0.4ms", 0.0004),
        ("90s", 90),
        ("15m", 900),
        ("15min", 900),
        ("1.5h", 5400),
        ("26h", 93_600),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1h 30min", 5400),
        ("1h30min", 5400),
        ("1d 2h 3min 4s 5ms", 93_784.005),
        ("  15  min  ", 900),
        (timedelta(minutes=3), 180),
    ],
)
def test_a_duration_is_read(text: str | timedelta, seconds: float) -> None:
    """Every unit that is documented, alone and after one another."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        90,
        1.5,
        None,
        True,
        "",
        " ",
        "90",
        "s",
        "-5s",
        "5 parsecs",
        "1h 30",
        "30 1h",
        "1e3s",
        "5 M",
        "inf s",
        "5sec",
        f"5{NO_BREAK_SPACE}min",
        f"{ARABIC_THREE}h",
        f"1h {ARABIC_THREE}s",
        "99999999999w",
        "9" * 400 + "s",
    ],
)
def test_what_is_no_duration_is_refused(value: Any) -> None:
    """Nothing is guessed, and what cannot be read never counts as zero."""
    with pytest.raises(InvalidPlan) as refused:
        parse_duration(value, "quiet_for")
    assert str(refused.value).startswith(f"quiet_for: {value!r} is not valid.")
    assert '"15min"' in str(refused.value)


def test_a_negative_duration_is_refused() -> None:
    """Also when it comes as a timedelta."""
    with pytest.raises(InvalidPlan, match=r"quiet_for: .* is not valid. Allowed: a duration that is not negative"):
        parse_duration(timedelta(microseconds=-1), "quiet_for")


def test_a_long_wrong_duration_is_refused_at_once() -> None:
    """Spaces between many parts can be matched in one way only; in 3 to the 60th, this test would never end."""
    with pytest.raises(InvalidPlan):
        parse_duration("1s  " * 60 + "x")


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0ms"),
        (timedelta(microseconds=1), "0.001ms"),
        (timedelta(microseconds=2500), "2.5ms"),
        (timedelta(milliseconds=999), "999ms"),
        (timedelta(seconds=1), "1s"),
        (timedelta(seconds=1, microseconds=500), "1s 0.5ms"),
        (timedelta(seconds=90), "1min 30s"),
        (timedelta(hours=26), "1d 2h"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5), "1d 2h 3min 4s 5ms"),
    ],
)
def test_a_duration_is_written_for_people(duration: timedelta, text: str) -> None:
    """Whole units, the largest first, and those of no count left out."""
    assert format_duration(duration) == text


@given(st.timedeltas(timedelta(0), timedelta.max))
def test_a_duration_is_written_without_loss(duration: timedelta) -> None:
    """What is written is read back to the microsecond."""
    assert parse_duration(format_duration(duration)) == duration
