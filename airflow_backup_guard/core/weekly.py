"""The text of weekly windows, ``"Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00"``, and the spans of a week that it means.

A span is (start, end) in minutes since Monday 00:00; an end past Sunday is in the next week.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY = 24 * 60
WEEK = 7 * DAY
_TIMES = re.compile(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)", re.ASCII)

Spans = tuple[tuple[int, int], ...]


def parse_spans(clauses: Iterable[str]) -> Spans:
    """Spans, sorted and apart, of clauses such as ``"Mon-Fri 01:00-05:00, 22:00-23:00"``.

    Raises :class:`ValueError` with what is allowed instead of the part that is wrong.
    """
    windows = sorted(window for clause in clauses for window in _parse_clause(clause))
    if not windows:
        raise ValueError('windows, such as "Mon-Fri 01:00-05:00; Fri,Sat 22:00-08:00"')
    return _join(windows)


def format_spans(spans: Spans) -> str:
    """The text whose clauses :func:`parse_spans` reads back to the same spans."""
    days_of: dict[tuple[int, int], set[int]] = {}
    for start, end in (window for span in spans for window in _split(*span)):
        days_of.setdefault((start % DAY, (end - 1) % DAY + 1), set()).add(start // DAY % 7)
    times_of: dict[tuple[int, ...], list[str]] = {}
    for (start, end), days in sorted(days_of.items()):
        times = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
        times_of.setdefault(tuple(sorted(days)), []).append(times)
    return "; ".join(f"{_format_days(days)} {', '.join(all_)}" for days, all_ in sorted(times_of.items()))


def _parse_clause(clause: str) -> Iterator[tuple[int, int, str]]:
    """Yield start and end, in minutes since Monday 00:00, and text of each window of a clause."""
    days_text = re.split("[0-9]", clause, maxsplit=1)[0]
    days = list(_parse_days(days_text.strip(), clause))
    for times in (part.strip() for part in clause[len(days_text) :].split(",")):
        match = _TIMES.fullmatch(times)
        if match is None:
            allowed = 'times such as 01:00-05:00 after the days (";" comes before other days)'
            raise ValueError(f"{allowed}, instead of {times!r} in {clause!r}")
        start_hour, start_minute, end_hour, end_minute = map(int, match.groups())
        start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
        if max(start_minute, end_minute) > 59 or start >= DAY or end > DAY:
            raise ValueError(f"times from 00:00 to 23:59, and 24:00 as an end, instead of {times!r}")
        if start == end:
            raise ValueError(f"an end that is not the start (00:00-24:00 is a whole day), instead of {times!r}")
        length = (end - start) % DAY or DAY
        for day in days:
            yield day * DAY + start, day * DAY + start + length, f"{DAYS[day]} {times}"


def _parse_days(text: str, clause: str) -> Iterator[int]:
    """Yield each day of ``"Mon,Wed-Fri"`` or ``"daily"``, 0 for Monday."""
    for part in ("Mon-Sun" if text.lower() == "daily" else text).split(","):
        ends = [day.strip().capitalize() for day in part.split("-")]
        if len(ends) > 2 or not set(ends) <= set(DAYS):
            allowed = f"days ({', '.join(DAYS)}, ranges such as Mon-Fri, or daily) before the times"
            raise ValueError(f"{allowed}, instead of {part.strip()!r} in {clause!r}")
        first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
        yield from (day % 7 for day in range(first, first + (last - first) % 7 + 1))


def _join(windows: list[tuple[int, int, str]]) -> tuple[tuple[int, int], ...]:
    """Make one span of windows that touch, and of a night that runs into the next day's windows.

    Two windows of one day that overlap are refused: whoever wrote them meant something else.
    """
    for (one_start, end, one), (start, _, other) in pairwise(windows):
        if start < end and start // DAY == one_start // DAY:
            raise ValueError(f"windows of a day that do not overlap, instead of {one!r} and {other!r}")
    spans: list[tuple[int, int]] = []
    for start, end, _ in windows:
        if spans and start <= spans[-1][1]:
            last_start, last_end = spans.pop()
            start, end = last_start, max(last_end, end)
        spans.append((start, end))
    while len(spans) > 1 and spans[0][0] + WEEK <= spans[-1][1]:
        _, end = spans.pop(0)
        spans[-1] = (spans[-1][0], max(spans[-1][1], end + WEEK))
    return ((0, WEEK),) if spans[0][1] - spans[0][0] >= WEEK else tuple(spans)


def _split(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a span of 24 hours or more, which the text cannot say as one window, at each midnight."""
    midnight = (start // DAY + 1) * DAY
    while end - start >= DAY and midnight < end:
        yield start, midnight
        start, midnight = midnight, midnight + DAY
    yield start, end


def _format_days(days: tuple[int, ...]) -> str:
    """Write sorted days as ``"daily"``, ``"Mon-Fri"`` or ``"Mon,Tue,Sat"``."""
    runs: list[list[str]] = []
    for before, day in zip((-2, *days), days, strict=False):
        if day > before + 1:
            runs.append([])
        runs[-1].append(DAYS[day])
    text = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(run) for run in runs)
    return "daily" if len(days) == 7 else text
