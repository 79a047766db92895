"""The hours in which backups may run: weekly windows of wall-clock time in one time zone.

A window opens when the clock on a wall in that zone shows its start and closes when it shows its end. Where
the clock jumps, the narrower reading holds: a backup outside its window does harm, one that waits does not.

* Forward: a start or end that is skipped counts at the jump; a window skipped whole does not open that day.
* Back: a start shown twice counts the second time, an end shown twice the first time after the start.

So a window is one piece, opens at most once, and is never open while the clock shows a time outside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import count, pairwise
from typing import Any, NamedTuple

import pendulum

from airflow_backup_guard.errors import InvalidPlan

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = 24 * 60
_WEEK = 7 * _DAY
_TIMES = re.compile(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)", re.ASCII)


class Window(NamedTuple):
    """An unbroken stretch of time, from ``start`` up to but not including ``end``."""

    start: pendulum.DateTime
    end: pendulum.DateTime


@dataclass(frozen=True)
class OffPeakCalendar:
    """Weekly windows in the time zone ``tz``, built by :meth:`parse`; equal if open at the same times in it.

    ``spans`` are (start, end) in minutes since Monday 00:00, sorted and apart; an end past Sunday is in the
    next week. Moments passed in must know their time zone, else :class:`InvalidPlan` is raised; moments
    returned are in ``tz``: compare them in UTC, as Python ignores an hour's repetition within one zone.
    """

    spans: tuple[tuple[int, int], ...]
    tz: str

    @classmethod
    def parse(cls, text: str, tz: str, field: str = "calendar") -> OffPeakCalendar:
        """Read ``"Mon-Thu 01:00-05:00, 22:00-23:00; Fri,Sat 22:00-08:00"`` or ``"daily 00:00-24:00"``.

        An end before its start is on the next day; windows that touch, and a night that runs into windows of the next
        day, become one. Raises :class:`InvalidPlan` naming ``field``, the text and the part of it that is wrong, also
        where two windows of one day overlap.
        """
        try:
            pendulum.timezone(tz if isinstance(tz, str) else "")
        except (ValueError, OSError):
            allowed = 'the name of a time zone, such as "UTC" or "America/Los_Angeles"'
            raise InvalidPlan(f"{field}, time zone", tz, allowed) from None
        if not isinstance(text, str) or not text.strip():
            raise InvalidPlan(field, text, 'windows, such as "Mon-Fri 01:00-05:00; Fri,Sat 22:00-08:00"')
        try:
            windows = [window for clause in text.split(";") for window in _parse_clause(clause.strip())]
            return cls(_join(sorted(windows)), tz)
        except ValueError as problem:
            raise InvalidPlan(field, text, str(problem)) from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], field: str = "calendar") -> OffPeakCalendar:
        """Read what :meth:`to_dict` wrote; raises :class:`InvalidPlan` naming ``field``."""
        return cls.parse(data.get("windows", ""), data.get("tz", ""), field)

    def to_dict(self) -> dict[str, str]:
        """``{"windows": "Mon-Fri 01:00-05:00", "tz": "America/Los_Angeles"}``."""
        return {"windows": str(self), "tz": self.tz}

    def __str__(self) -> str:
        """The windows as text that :meth:`parse` reads back to an equal calendar."""
        days_of: dict[tuple[int, int], set[int]] = {}
        for start, end in (window for span in self.spans for window in _split(*span)):
            days_of.setdefault((start % _DAY, (end - 1) % _DAY + 1), set()).add(start // _DAY % 7)
        times_of: dict[tuple[int, ...], list[str]] = {}
        for (start, end), days in sorted(days_of.items()):
            times = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
            times_of.setdefault(tuple(sorted(days)), []).append(times)
        return "; ".join(f"{_format_days(days)} {', '.join(all_)}" for days, all_ in sorted(times_of.items()))

    @property
    def always_open(self) -> bool:
        """Whether the windows fill the whole week."""
        return self.spans == ((0, _WEEK),)

    def contains(self, moment: datetime) -> bool:
        """Whether a backup may run at ``moment``: a window's start is inside, its end is outside."""
        return self.window_end(moment) is not None

    def window_end(self, moment: datetime) -> pendulum.DateTime | None:
        """When the window around ``moment`` closes, or None outside of windows.

        A calendar that is always open closes with the year 9998, so that the time left is always a number.
        """
        utc = _to_utc(moment)
        if self.always_open:
            return pendulum.datetime(9999, 1, 1, tz=self.tz)
        start, end = next(self._windows_after(utc))
        return self._local(end) if start <= utc else None

    def next_start(self, moment: datetime) -> pendulum.DateTime | None:
        """The first opening of a window at or after ``moment``, or None if the calendar is always open.

        Inside a window this is the opening of a later one: ask :meth:`contains` first whether to start now.
        """
        utc = _to_utc(moment)
        if self.always_open:
            return None
        return next(self._local(start) for start, _ in self._windows_after(utc) if start >= utc)

    def windows(self, start: datetime, end: datetime) -> Iterator[Window]:
        """The open parts of the time from ``start`` up to ``end``, in order; windows are cut off at both."""
        first, last = _to_utc(start), _to_utc(end)
        for opening, closing in [(first, last)] if self.always_open else self._windows_after(first):
            opening, closing = max(opening, first), min(closing, last)
            if opening >= closing:
                return
            yield Window(self._local(opening), self._local(closing))

    def _windows_after(self, utc: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the windows that end after ``utc``, in UTC, in order, without end; not for one always open."""
        local = utc.astimezone(pendulum.timezone(self.tz))
        # From a week back, because the window around this moment may have opened almost that long ago.
        monday = datetime.combine(local.date(), time()) - timedelta(days=local.weekday() + 7)
        held: tuple[datetime, datetime] | None = None
        for week, span in ((week, span) for week in count() for span in self.spans):
            opening, closing = (monday + timedelta(weeks=week, minutes=minutes) for minutes in span)
            start, end = self._shown(opening, again=True), self._shown(closing, again=False)
            if end < start:
                end = self._shown(closing, again=True)
            if start == end:
                continue
            if held and held[1] == start:  # the jump skipped all that lay between
                start = held[0]
            elif held and held[1] > utc:
                yield held
            held = start, end

    def _shown(self, wall: datetime, again: bool) -> datetime:
        """When, in UTC, the clock shows ``wall``, the first time or ``again``; if it never does, the jump."""
        zone = pendulum.timezone(self.tz)
        while True:
            utc = wall.replace(tzinfo=zone, fold=int(again)).astimezone(pendulum.UTC)
            if utc.astimezone(zone).replace(tzinfo=None) == wall:
                return utc
            wall += timedelta(minutes=1)

    def _local(self, utc: datetime) -> pendulum.DateTime:
        return pendulum.instance(utc).in_timezone(self.tz)


def _to_utc(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise InvalidPlan("moment", moment, "a moment with its time zone, such as pendulum.now('UTC')")
    return moment.astimezone(pendulum.UTC)


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
        if max(start_minute, end_minute) > 59 or start >= _DAY or end > _DAY:
            raise ValueError(f"times from 00:00 to 23:59, and 24:00 as an end, instead of {times!r}")
        if start == end:
            raise ValueError(f"an end that is not the start (00:00-24:00 is a whole day), instead of {times!r}")
        length = (end - start) % _DAY or _DAY
        for day in days:
            yield day * _DAY + start, day * _DAY + start + length, f"{_DAYS[day]} {times}"


def _parse_days(text: str, clause: str) -> Iterator[int]:
    """Yield each day of ``"Mon,Wed-Fri"`` or ``"daily"``, 0 for Monday."""
    for part in ("Mon-Sun" if text.lower() == "daily" else text).split(","):
        ends = [day.strip().capitalize() for day in part.split("-")]
        if len(ends) > 2 or not set(ends) <= set(_DAYS):
            allowed = f"days ({', '.join(_DAYS)}, ranges such as Mon-Fri, or daily) before the times"
            raise ValueError(f"{allowed}, instead of {part.strip()!r} in {clause!r}")
        first, last = _DAYS.index(ends[0]), _DAYS.index(ends[-1])
        yield from (day % 7 for day in range(first, first + (last - first) % 7 + 1))


def _join(windows: list[tuple[int, int, str]]) -> tuple[tuple[int, int], ...]:
    """Make one span of windows that touch, and of a night that runs into the next day's windows.

    Two windows of one day that overlap are refused: whoever wrote them meant something else.
    """
    for (one_start, end, one), (start, _, other) in pairwise(windows):
        if start < end and start // _DAY == one_start // _DAY:
            raise ValueError(f"windows of a day that do not overlap, instead of {one!r} and {other!r}")
    spans: list[tuple[int, int]] = []
    for start, end, _ in windows:
        if spans and start <= spans[-1][1]:
            last_start, last_end = spans.pop()
            start, end = last_start, max(last_end, end)
        spans.append((start, end))
    while len(spans) > 1 and spans[0][0] + _WEEK <= spans[-1][1]:
        _, end = spans.pop(0)
        spans[-1] = (spans[-1][0], max(spans[-1][1], end + _WEEK))
    return ((0, _WEEK),) if spans[0][1] - spans[0][0] >= _WEEK else tuple(spans)


def _split(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a span of 24 hours or more, which the text cannot say as one window, at each midnight."""
    midnight = (start // _DAY + 1) * _DAY
    while end - start >= _DAY and midnight < end:
        yield start, midnight
        start, midnight = midnight, midnight + _DAY
    yield start, end


def _format_days(days: tuple[int, ...]) -> str:
    """Write sorted days as ``"daily"``, ``"Mon-Fri"`` or ``"Mon,Tue,Sat"``."""
    runs: list[list[str]] = []
    for before, day in zip((-2, *days), days, strict=False):
        if day > before + 1:
            runs.append([])
        runs[-1].append(_DAYS[day])
    text = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(run) for run in runs)
    return "daily" if len(days) == 7 else text
