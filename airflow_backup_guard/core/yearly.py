"""Days named by a rule, such as ``12-24`` or ``Fri after 4th Thu of Nov``, and the date that each is in a year."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

from airflow_backup_guard.core.weekly import DAYS

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ORDINALS = ("1st", "2nd", "3rd", "4th", "5th", "last")
_MONTH_DAY = re.compile(r"(\d\d)-(\d\d)", re.ASCII)
_NTH = re.compile(rf"(?:the )?({'|'.join(_ORDINALS)}) ({'|'.join(DAYS)}) of ({'|'.join(_MONTHS)})", re.IGNORECASE)
_BESIDE = re.compile(rf"(?:the )?({'|'.join(DAYS)}) (after|before) (.+)", re.IGNORECASE)


@dataclass(frozen=True)
class MonthDay:
    """``12-24``. Where there is no February 29, it starts with March 1 and ends with February 28."""

    month: int
    day: int

    def date_in(self, year: int, *, as_end: bool = False) -> date:
        """The date in ``year``, as the first or as the last day of a range."""
        try:
            return date(year, self.month, self.day)
        except ValueError:
            return date(year, 2, 28) if as_end else date(year, 3, 1)

    def __str__(self) -> str:
        return f"{self.month:02}-{self.day:02}"


@dataclass(frozen=True)
class NthWeekday:
    """``4th Thu of Nov``; ``nth`` counts from 0, -1 is the last, ``weekday`` is 0 for Monday."""

    nth: int
    weekday: int
    month: int

    def date_in(self, year: int, *, as_end: bool = False) -> date | None:
        """The date in ``year``, None if the month has no fifth such day."""
        if self.nth == -1:
            following = date(year + self.month // 12, self.month % 12 + 1, 1)
            return following - timedelta(days=(following.weekday() - self.weekday - 1) % 7 + 1)
        first = date(year, self.month, 1)
        found = first + timedelta(days=(self.weekday - first.weekday()) % 7, weeks=self.nth)
        return found if found.month == self.month else None

    def __str__(self) -> str:
        return f"{_ORDINALS[self.nth]} {DAYS[self.weekday]} of {_MONTHS[self.month - 1]}"


@dataclass(frozen=True)
class Beside:
    """``Fri after 4th Thu of Nov``: the nearest such weekday, never the other day itself."""

    weekday: int
    after: bool
    other: YearlyDay

    def date_in(self, year: int, *, as_end: bool = False) -> date | None:
        """The date that belongs to ``year``, which may lie in the next or in the one before."""
        other = self.other.date_in(year, as_end=as_end)
        if other is None:
            return None
        if self.after:
            return other + timedelta(days=(self.weekday - other.weekday() - 1) % 7 + 1)
        return other - timedelta(days=(other.weekday() - self.weekday - 1) % 7 + 1)

    def __str__(self) -> str:
        return f"{DAYS[self.weekday]} {'after' if self.after else 'before'} {self.other}"


YearlyDay = MonthDay | NthWeekday | Beside


def parse_yearly_day(text: str) -> YearlyDay | None:
    """Read one of the forms above; None if ``text`` is none of them."""
    if match := _MONTH_DAY.fullmatch(text):
        month, day = map(int, match.groups())
        return MonthDay(month, day) if _is_date(month, day) else None
    if match := _NTH.fullmatch(text):
        nth = _ORDINALS.index(match[1].lower())
        weekday, month = DAYS.index(match[2].capitalize()), _MONTHS.index(match[3].capitalize()) + 1
        return NthWeekday(-1 if nth == len(_ORDINALS) - 1 else nth, weekday, month)
    if match := _BESIDE.fullmatch(text):
        other = parse_yearly_day(match[3])
        return other and Beside(DAYS.index(match[1].capitalize()), match[2].lower() == "after", other)
    return None


def _is_date(month: int, day: int) -> bool:
    try:
        date(2000, month, day)
    except ValueError:
        return False
    return True
