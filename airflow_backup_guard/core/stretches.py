"""Stretches of time, each a start and an end: joined, cut, and searched for one that is long enough."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta

from airflow_backup_guard.core.blackouts import A_CYCLE, Blackout

Stretch = tuple[datetime, datetime]

_YEAR = timedelta(days=365)
_SURE = timedelta(days=16)  # has two windows of each week, of which the clock's jump may skip one


def united(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Make one of sorted stretches that overlap or touch."""
    held: Stretch | None = None
    for start, end in stretches:
        if held and start <= held[1]:
            held = held[0], max(held[1], end)
            continue
        if held:
            yield held
        held = start, end
    if held:
        yield held


def cut(start: datetime, end: datetime, forbidden: Iterable[Stretch]) -> Iterator[Stretch]:
    """What is left of the time from ``start`` to ``end``; what is forbidden is sorted by its start."""
    for opening, closing in forbidden:
        if start < opening:
            yield start, min(opening, end)
        start = max(start, closing)
        if start >= end:
            return
    yield start, end


def whole_day(day: date) -> Stretch:
    """From midnight to midnight."""
    midnight = datetime.combine(day, time())
    return midnight, midnight + timedelta(days=1)


def doubtful_starts(blackouts: Iterable[Blackout]) -> Iterator[datetime]:
    """The starts, by the wall clock, after which no stretch without blackouts is so long that it must have a window."""
    years = set(A_CYCLE)
    for blackout in blackouts:
        if not blackout.yearly and (once := blackout.in_year(0)):
            years.update(range(once[0].year - 1, min(once[0].year + 3, 9998)))
    found = [blackout.in_year(year) for blackout in blackouts for year in (years if blackout.yearly else (0,))]
    closed = list(united(sorted(filter(None, found))))
    following = [start for start, _ in closed[1:]] + [datetime.max]
    free = [end for (_, end), start in zip(closed, following, strict=False) if start - end > _SURE]
    for start, _ in closed:
        if free[bisect_left(free, start)] - start > _YEAR - _SURE:
            yield start
