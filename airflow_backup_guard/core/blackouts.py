"""Blackouts: times by the wall clock, on dates or every year, in which no backup may run.

========================================  ==================================================================
``2026-12-24``                            the whole day
``2026-11-27..2026-11-30``                whole days, the last one included
``2026-11-27T18:00..2026-11-28T06:00``    from one moment up to, but not including, the other
``2026-11-27T18:00..22:00``               the same within one day; ``24:00`` is allowed as an end
``2026-11-27..+3d``                       up to the day three days later
``yearly 12-24..12-26``                   every year; ``12-30..01-02`` runs into the next year
``yearly 4th Thu of Nov..+4d``            1st to 5th or last weekday of a month
``yearly Fri after 4th Thu of Nov 18:00..+1d 06:00``
``… (a label)``                           why, for people; shown wherever the blackout is
========================================  ==================================================================

A start without a time is the start of its day, an end without one is the end of its day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Any

from airflow_backup_guard.core.weekly import DAY
from airflow_backup_guard.core.yearly import YearlyDay, parse_yearly_day
from airflow_backup_guard.errors import InvalidPlan

_ALLOWED = (
    'a date "2026-12-24", a range "2026-11-27..2026-11-30" or "2026-11-27T18:00..2026-11-28T06:00", '
    'or each year "yearly 12-24..12-26" or "yearly 4th Thu of Nov..+4d", with a label as in "2026-12-24 (Christmas)"'
)
_YEARS = "years from 1970 to 9998"
_LABELLED = re.compile(r"([^()]*?)\s*(?:\(\s*(.*?)\s*\))?", re.DOTALL)
_EDGE = re.compile(r"(?P<day>.*?)(?:(?:T|\s|^)(?P<hour>\d\d):(?P<minute>\d\d))?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LATER = re.compile(r"\+(\d{1,3})d", re.ASCII)
_LONGEST_YEARLY = timedelta(days=184)  # a longer one is a range whose ends were confused
A_CYCLE = range(2000, 2028)  # after 28 years, weekdays and leap days come again


@dataclass(frozen=True)
class OnDate:
    """A day of one year."""

    day: date

    def date_in(self, year: int, *, as_end: bool = False) -> date:
        """The date itself, whatever the year."""
        return self.day

    def __str__(self) -> str:
        return self.day.isoformat()


@dataclass(frozen=True)
class Later:
    """``+4d``: that many days after the first day."""

    days: int

    def __str__(self) -> str:
        return f"+{self.days}d"


@dataclass(frozen=True)
class Blackout:
    """A time that forbids backups, once or yearly, built by :meth:`parse`; times are minutes of their day."""

    first: OnDate | YearlyDay
    last: OnDate | YearlyDay | Later
    opens: int = 0
    closes: int = DAY
    label: str = ""

    @classmethod
    def parse(cls, text: str, field: str = "blackout") -> Blackout:
        """Read one of the forms above; raises :class:`InvalidPlan` naming ``field``, the text and the wrong part."""
        try:
            if not isinstance(text, str):
                raise ValueError(_ALLOWED)
            return cls._parse(text)
        except OverflowError:
            raise InvalidPlan(field, text, _YEARS) from None
        except ValueError as problem:
            raise InvalidPlan(field, text, str(problem)) from None

    @classmethod
    def _parse(cls, text: str) -> Blackout:
        match = _LABELLED.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{_ALLOWED}; the label is last, and in one pair of parentheses")
        rule, label = " ".join(match[1].split()), match[2] or ""
        if ";" in label or not label.isprintable():
            raise ValueError(f"a label of one line and without ';', instead of {label!r}")
        yearly = rule.lower().startswith("yearly ")
        start, dots, end = (part.strip() for part in rule[len("yearly ") if yearly else 0 :].partition(".."))
        first, opens = _parse_edge(start, yearly)
        last, closes = _parse_edge(end, yearly, first) if dots else (first, None)
        if first is None or last is None or isinstance(first, Later):
            raise ValueError(f"{_ALLOWED}, instead of {(start if first is None else end) or rule!r}")
        if not dots and opens is not None:
            raise ValueError(f"a moment with an end, such as {rule + '..22:00'!r}")
        if isinstance(first, OnDate) and first.day.year < 1970:
            raise ValueError(_YEARS)
        if opens == DAY:
            raise ValueError(f"a start from 00:00 to 23:59, instead of {start!r}")
        blackout = cls(first, last, opens or 0, DAY if closes is None else closes, label)
        blackout._check_length()
        return blackout

    def _check_length(self) -> None:
        same_day = self.first == self.last
        if same_day and self.closes <= self.opens:
            raise ValueError("a blackout that ends after it starts")
        for year in A_CYCLE if self.yearly else (0,):
            found = self.in_year(year)
            if found is None:
                continue
            start, end = found
            if not self.yearly and end <= start:
                raise ValueError(f"a blackout that ends after it starts, instead of at {end:%Y-%m-%d %H:%M}")
            if self.yearly and end - start > _LONGEST_YEARLY:
                days = f"instead of {start:%Y-%m-%d} to {end:%Y-%m-%d}"
                raise ValueError(
                    f"a yearly blackout that ends after it starts, within {_LONGEST_YEARLY.days} days, {days}"
                )

    @cached_property
    def _once(self) -> tuple[datetime, datetime] | None:
        return self.in_year(0)

    @property
    def yearly(self) -> bool:
        """Whether it comes every year."""
        return not isinstance(self.first, OnDate)

    def in_year(self, year: int) -> tuple[datetime, datetime] | None:
        """Start and end, by the wall clock, of the one that belongs to ``year``; None if there is none."""
        first = self.first.date_in(year)
        if first is None:
            return None
        start = datetime.combine(first, time()) + timedelta(minutes=self.opens)
        if isinstance(self.last, Later):
            return start, self._end_on(first + timedelta(days=self.last.days))
        last = self.last.date_in(year, as_end=True)
        if last is not None and self.yearly and self._end_on(last) <= start:
            last = None if self.first == self.last else self.last.date_in(year + 1, as_end=True)
        return None if last is None else (start, self._end_on(last))

    def between(self, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Starts and ends, by the wall clock, of those that touch the time from ``first`` to ``last``."""
        # One may begin in the year before, and its rule may lead from that year's end into the next.
        years = range(max(first.year - 1, 1), min(last.year + 1, 9997) + 1)
        for found in map(self.in_year, years) if self.yearly else (self._once,):
            if found is not None and found[0] <= last and found[1] >= first:
                yield found

    def __str__(self) -> str:
        """The text that :meth:`parse` reads back to an equal blackout."""
        joint = " " if self.yearly else "T"
        text = f"yearly {self.first}" if self.yearly else str(self.first)
        text += f"{joint}{_clock(self.opens)}" if self.opens else ""
        if self.first == self.last:
            text += f"..{_clock(self.closes)}" if self.opens or self.closes != DAY else ""
        else:
            space = " " if isinstance(self.last, Later) else joint
            text += f"..{self.last}" + (f"{space}{_clock(self.closes)}" if self.closes != DAY else "")
        return f"{text} ({self.label})" if self.label else text

    def _end_on(self, last: date) -> datetime:
        return datetime.combine(last, time()) + timedelta(minutes=self.closes)


def _parse_edge(text: str, yearly: bool, first: Any = None) -> tuple[Any, int | None]:
    """Day and minute of a start or, where the ``first`` day is known, of an end; the day is None if it is none."""
    match = _EDGE.fullmatch(text)
    if match is None:
        return None, None
    minute = None if match["hour"] is None else int(match["hour"]) * 60 + int(match["minute"])
    if minute is not None and (minute > DAY or int(match["minute"]) > 59):
        raise ValueError(f"times from 00:00 to 23:59, and 24:00 as an end, instead of {text!r}")
    day = match["day"].strip()
    if first is not None and (later := _LATER.fullmatch(day)):
        return _later(first, int(later[1])), minute
    if first is not None and not day and minute is not None:
        return first, minute
    if yearly:
        return parse_yearly_day(day), minute
    try:
        return (OnDate(date.fromisoformat(day)) if _DATE.fullmatch(day) else None), minute
    except ValueError:
        return None, minute


def _later(first: OnDate | YearlyDay, days: int) -> OnDate | YearlyDay | Later:
    if isinstance(first, OnDate):
        return OnDate(first.day + timedelta(days=days))
    return Later(days) if days else first


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
