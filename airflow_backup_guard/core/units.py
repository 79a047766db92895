"""Sizes, rates and durations that carry their unit: "8GB", "200MB/s", "26h".

Decimal prefixes (kB, MB, GB, TB) are powers of 1000, binary ones (KiB, MiB, GiB, TiB) of 1024. A bare number is
refused: nobody should have to guess whether a 200 in a plan meant bytes, megabytes or seconds.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

from airflow_backup_guard.errors import InvalidPlan

_NUMBER = r"(\d{1,18}(?:\.\d+)?)\s*"
_SIZE = re.compile(_NUMBER + r"(B|[kKMGT]B|[KMGT]iB)", re.ASCII)
_DURATION = re.compile(_NUMBER + r"(ms|s|min|m|h|d|w)", re.ASCII)
_DURATIONS = re.compile(rf"\s*(?:{_DURATION.pattern}\s*)+", re.ASCII)
_FACTOR = {
    "B": 1,
    **{f"{letter}B": 1000 ** (power + 1) for power, letter in enumerate("kMGT")},
    **{f"{letter}iB": 1024 ** (power + 1) for power, letter in enumerate("KMGT")},
    "KB": 1000,
}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


class Size(int):
    """A number of bytes."""

    @classmethod
    def parse(cls, text: str | Size, field: str = "size") -> Size:
        """Read ``"8GB"``; raises :class:`InvalidPlan` naming ``field``."""
        if isinstance(text, Size):
            return text
        match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise InvalidPlan(field, text, 'a size with its unit, such as "500MB", "8GB" or "16MiB"')
        return cls(Decimal(match[1]) * _FACTOR[match[2]])

    def __str__(self) -> str:
        return _decimal(int(self))


class Rate(int):
    """A number of bytes per second."""

    @classmethod
    def parse(cls, text: str | Rate, field: str = "rate") -> Rate:
        """Read ``"200MB/s"``; raises :class:`InvalidPlan` naming ``field``."""
        if isinstance(text, Rate):
            return text
        match = _SIZE.fullmatch(text.strip()[:-2].strip()) if _is_rate(text) else None
        if match is None:
            raise InvalidPlan(field, text, 'a rate with its unit, such as "50MB/s" or "800kB/s"')
        return cls(Decimal(match[1]) * _FACTOR[match[2]])

    def __str__(self) -> str:
        return f"{_decimal(int(self))}/s"


def parse_duration(value: str | timedelta, field: str = "duration") -> timedelta:
    """Read ``"250ms"``, ``"90s"``, ``"15min"``, ``"26h"``, ``"7d"``, ``"1h 30min"`` or take a timedelta as it is.

    Raises :class:`InvalidPlan` naming ``field`` for anything else, and for negative durations.
    """
    allowed = 'a duration with its unit, such as "250ms", "90s", "15min", "26h" or "7d"'
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise InvalidPlan(field, value, "a duration that is not negative")
        return value
    if not isinstance(value, str) or not _DURATIONS.fullmatch(value):
        raise InvalidPlan(field, value, allowed)
    try:
        parts = (timedelta(seconds=float(n) * _SECONDS[unit]) for n, unit in _DURATION.findall(value))
        return sum(parts, timedelta())
    except OverflowError:
        raise InvalidPlan(field, value, allowed) from None


def format_duration(value: timedelta) -> str:
    """Write a duration so that :func:`parse_duration` reads the same one back."""
    parts = []
    for unit in ("d", "h", "min", "s"):
        count, value = divmod(value, timedelta(seconds=_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    if value or not parts:
        parts.append(f"{value / timedelta(milliseconds=1):g}ms")
    return " ".join(parts)


def whole_seconds(value: timedelta, least: int = 0) -> str:
    """Write a duration for people, rounded to seconds, and to ``least`` of them if it is shorter."""
    return format_duration(timedelta(seconds=max(least, round(value.total_seconds()))))


def _is_rate(text: object) -> bool:
    return isinstance(text, str) and text.strip().endswith("/s")


def _decimal(number: int) -> str:
    """Shortest decimal form with at most one digit after the point: 999B, 1.5kB, 200MB."""
    value, unit = float(number), "B"
    for letter in "kMGT":
        if value < 999.95:
            break
        value, unit = value / 1000, f"{letter}B"
    return f"{value:.1f}".removesuffix(".0") + unit
