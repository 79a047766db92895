"""The hours in which backups may run: weekly windows of wall-clock time in one time zone, less the blackouts.

A window opens when the clock on a wall in that zone shows its start and closes when it shows its end. Where
the clock jumps, the narrower reading holds: a backup outside its window does harm, one that waits does not.

* Forward: a start or end that is skipped counts at the jump; a window skipped whole does not open that day.
* Back: a start shown twice counts the second time, an end shown twice the first time after the start.

So a window is one piece, opens at most once, and is never open while the clock shows a time outside it.

A blackout forbids, so the wider reading holds: from the first time that the clock shows its start to the last
time that it shows its end. What blackouts leave of a window are windows of their own.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import Enum
from itertools import count, product
from typing import Any, NamedTuple

import pendulum

from airflow_backup_guard.core.blackouts import Blackout
from airflow_backup_guard.core.calendar_text import Clauses, listed, parse_holidays
from airflow_backup_guard.core.holidays import OnHolidays, holidays_between, holidays_in
from airflow_backup_guard.core.sources import Reading, is_source, parse_source, shown_source
from airflow_backup_guard.core.stretches import Stretch, cut, doubtful_starts, united, whole_day
from airflow_backup_guard.core.wall_clock import shown, widest
from airflow_backup_guard.core.weekly import WEEK, format_spans, parse_spans
from airflow_backup_guard.errors import InvalidPlan

_DAY = timedelta(days=1)
_YEAR = timedelta(days=365)
_HORIZON = 2 * _YEAR
_FURTHEST = 2 * _DAY  # of a clock from UTC, with room to spare
_FOREVER = datetime(9999, 1, 1, tzinfo=pendulum.UTC)


class Window(NamedTuple):
    """An unbroken stretch of time, from ``start`` up to but not including ``end``."""

    start: pendulum.DateTime
    end: pendulum.DateTime


class Because(str, Enum):
    """Why a calendar is closed."""

    OUTSIDE = "outside of windows"
    BLACKOUT = "blackout"
    HOLIDAY = "holiday"
    UNKNOWN = "unknown"


class Closed(NamedTuple):
    """One reason for which a calendar is closed; ``text`` is for people."""

    because: Because
    text: str

    def __str__(self) -> str:
        return self.text


class Forbidden(NamedTuple):
    """A stretch of time in which no backup may run, whatever the windows say."""

    start: pendulum.DateTime
    end: pendulum.DateTime
    because: Because
    text: str


@dataclass(frozen=True)
class OffPeakCalendar:
    """Windows and blackouts in the time zone ``tz``, built by :meth:`parse`; a value, equal if these are the same.

    ``spans`` are (start, end) in minutes since Monday 00:00, sorted and apart; an end past Sunday is in the
    next week. ``sources`` are URLs of iCalendar files whose events forbid, too, and ``readings`` what was found there.

    Two kinds of questions differ where a source has not been read (:meth:`read`). :meth:`contains`, :meth:`window_end`
    and :meth:`why_closed` permit, and what is not known is not permitted. :meth:`next_start`, :meth:`windows`,
    :meth:`open_time` and :meth:`forbidden` foretell as much as is known.

    Moments passed in must know their time zone, else :class:`InvalidPlan` is raised; moments returned are in ``tz``:
    compare them in UTC, as Python ignores an hour's repetition within one zone.
    """

    spans: tuple[tuple[int, int], ...]
    tz: str
    blackouts: tuple[Blackout, ...] = ()
    holidays: tuple[str, ...] = ()
    on_holidays: OnHolidays = OnHolidays.BUSY
    sources: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()

    @classmethod
    def parse(
        cls,
        text: str,
        tz: str,
        field: str = "calendar",
        *,
        blackouts: Iterable[str] = (),
        holidays: str | Iterable[str] | None = None,
        on_holidays: str | None = None,
    ) -> OffPeakCalendar:
        """Read ``"Mon-Thu 01:00-05:00, 22:00-23:00; Fri,Sat 22:00-08:00"`` or ``"daily 00:00-24:00"``.

        An end before its start is on the next day; windows that touch, and a night that runs into windows of the next
        day, become one. The text may go on as :meth:`__str__` writes it: ``"; except yearly 12-24..12-26 (Christmas);
        except holidays DE-BY"``, or ``"; holidays DE-BY"`` for quiet ones.

        :param blackouts: texts that :meth:`Blackout.parse` reads, and URLs of iCalendar files
        :param holidays: regions whose public holidays count, such as ``"DE-BY"``; needs the extra ``holidays``
        :param on_holidays: ``"busy"``, the default, opens no window on them; ``"quiet"`` makes each day a window

        Raises :class:`InvalidPlan` naming ``field``, the text and the part of it that is wrong, also where two windows
        of one day overlap, and where blackouts leave no window within a year.
        """
        try:
            pendulum.timezone(tz if isinstance(tz, str) else "")
        except (ValueError, OSError):
            allowed = 'the name of a time zone, such as "UTC" or "America/Los_Angeles"'
            raise InvalidPlan(f"{field}, time zone", tz, allowed) from None
        if not isinstance(text, str) or not text.strip():
            raise InvalidPlan(field, text, 'windows, such as "Mon-Fri 01:00-05:00; Fri,Sat 22:00-08:00"')
        clauses = Clauses.of(text)
        try:
            spans = parse_spans(clauses.windows)
        except ValueError as problem:
            raise InvalidPlan(field, text, str(problem)) from None
        items = [*clauses.blackouts, *listed(blackouts, f"{field}, blackouts")]
        sources = {parse_source(item, f"{field}, blackouts") for item in items if is_source(item)}
        rules = {Blackout.parse(item, f"{field}, blackouts") for item in items if not is_source(item)}
        regions, day = parse_holidays(clauses, holidays, on_holidays, field)
        calendar = cls(spans, tz, tuple(sorted(rules, key=str)), regions, day, tuple(sorted(sources)))
        calendar._check_windows_are_left(f"{field}, blackouts")
        return calendar

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], field: str = "calendar") -> OffPeakCalendar:
        """Read what :meth:`to_dict` wrote; raises :class:`InvalidPlan` naming ``field``."""
        for name, value in data.items():
            if name not in ("windows", "tz", "blackouts", "holidays", "on_holidays"):
                raise InvalidPlan(f"{field}, {name}", value, "windows, tz, blackouts, holidays and on_holidays")
        more = {name: data[name] for name in ("blackouts", "holidays", "on_holidays") if name in data}
        return cls.parse(data.get("windows", ""), data.get("tz", ""), field, **more)

    def to_dict(self) -> dict[str, Any]:
        """``{"windows": "Mon-Fri 01:00-05:00", "tz": "Europe/Berlin"}`` and, where there are any, ``"blackouts"``,
        ``"holidays"`` and ``"on_holidays"``. Readings are left out, as they hold for a while only.
        """
        data: dict[str, Any] = {"windows": format_spans(self.spans), "tz": self.tz}
        if self.blackouts or self.sources:
            data["blackouts"] = [*map(str, self.blackouts), *self.sources]
        if self.holidays:
            data |= {"holidays": ", ".join(self.holidays), "on_holidays": self.on_holidays.value}
        return data

    def __str__(self) -> str:
        """All but the zone as text that :meth:`parse` reads back to an equal calendar."""
        holidays = f"{'except ' if self._busy else ''}holidays {', '.join(self.holidays)}"
        excepted = [f"except {item}" for item in (*self.blackouts, *self.sources)]
        return "; ".join([format_spans(self.spans), *([holidays] if self.holidays else []), *excepted])

    @property
    def always_open(self) -> bool:
        """Whether the windows fill the whole week, and nothing is excepted."""
        return self._whole_week and not (self.blackouts or self._busy or self.sources)

    def read(self, readings: Iterable[Reading]) -> OffPeakCalendar:
        """The same calendar, with what its sources were found to forbid."""
        return replace(self, readings=tuple(reading for reading in readings if reading.source in self.sources))

    def contains(self, moment: datetime) -> bool:
        """Whether a backup may run at ``moment``: a window's start is inside, its end is outside."""
        return self.window_end(moment) is not None

    def window_end(self, moment: datetime) -> pendulum.DateTime | None:
        """When the window around ``moment`` closes, or None outside of windows.

        A calendar that is always open closes with the year 9998, so that the time left is always a number. What
        a source forbids is known up to a moment only; no window is known to be open beyond it.
        """
        utc = _to_utc(moment)
        if self.always_open:
            return pendulum.datetime(9999, 1, 1, tz=self.tz)
        known = [max((r.end for r in self._readings_at(source, utc)), default=None) for source in self.sources]
        if None in known:
            return None
        start, end = next(self._windows_after(utc, utc), (_FOREVER, _FOREVER))
        return self._local(min([end, *filter(None, known)])) if start <= utc else None

    def next_start(self, moment: datetime) -> pendulum.DateTime | None:
        """The first opening of a window at or after ``moment``; None if the calendar is always open, or if it will not
        open within two years, which :meth:`parse` refuses as far as it can be known.

        Inside a window this is the opening of a later one: ask :meth:`contains` first whether to start now.
        """
        utc = _to_utc(moment)
        if self.always_open:
            return None
        until = min(utc, _FOREVER - _HORIZON) + _HORIZON
        start = next((start for start, _ in self._windows_after(utc, until) if start >= utc), until)
        return self._local(start) if start < until else None

    def windows(self, start: datetime, end: datetime) -> Iterator[Window]:
        """The open parts of the time from ``start`` up to ``end``, in order; windows are cut off at both."""
        for opening, closing in self._open_between(_to_utc(start), _to_utc(end)):
            yield Window(self._local(opening), self._local(closing))

    def open_time(self, start: datetime, end: datetime) -> timedelta:
        """How much window time lies between ``start`` and ``end``; zero if they are in the wrong order."""
        found = self._open_between(_to_utc(start), _to_utc(end))
        return sum((closing - opening for opening, closing in found), timedelta())

    def forbidden(self, start: datetime, end: datetime) -> Iterator[Forbidden]:
        """Blackouts and busy holidays that touch the time from ``start`` to ``end``, each whole, by their start."""
        first, last = _to_utc(start), _to_utc(end)
        for opening, closing, because, text in self._forbidden_between(first, last):
            if opening < last and closing > first:
                yield Forbidden(self._local(opening), self._local(closing), because, text)

    def why_closed(self, moment: datetime) -> tuple[Closed, ...]:
        """Each reason for which no backup may run at ``moment``; none exactly if the calendar contains it."""
        utc = _to_utc(moment)
        forbidden = self._forbidden_between(utc, utc)
        reasons = [Closed(because, text) for start, end, because, text in forbidden if start <= utc < end]
        weekly = replace(self, blackouts=(), holidays=() if self._busy else self.holidays, sources=(), readings=())
        if not weekly.contains(utc):
            reasons.append(Closed(Because.OUTSIDE, f"outside of {weekly} ({self.tz})"))
        for source in self.sources:
            if not any(self._readings_at(source, utc)):
                problems = [r.problem for r in self.readings if r.source == source and r.problem]
                text = (
                    f"it is not known what {shown_source(source)} forbids: {(problems or ['it has not been read'])[0]}"
                )
                reasons.append(Closed(Because.UNKNOWN, text))
        return tuple(reasons)

    @property
    def _whole_week(self) -> bool:
        return self.spans == ((0, WEEK),)

    @property
    def _busy(self) -> bool:
        return bool(self.holidays) and self.on_holidays is OnHolidays.BUSY

    def _readings_at(self, source: str, utc: datetime) -> Iterator[Reading]:
        return (reading for reading in self.readings if reading.source == source and reading.covers(utc))

    def _open_between(self, first: datetime, last: datetime) -> Iterator[Stretch]:
        for opening, closing in [(first, last)] if self.always_open else self._windows_after(first, last):
            opening, closing = max(opening, first), min(closing, last)
            if opening >= closing:
                return
            yield opening, closing

    def _windows_after(self, utc: datetime, until: datetime) -> Iterator[Stretch]:
        """Yield the windows that end after ``utc``, in UTC, in order: those that start by ``until``, and maybe more."""
        held: Stretch | None = None
        for start, end in self._whole_weeks(utc) if self._whole_week else self._openings(utc, until):
            if start > until and not (held and held[1] == start):
                break
            forbidden = self._forbidden_between(start, end)
            for piece in cut(start, end, ((opening, closing) for opening, closing, _, _ in forbidden)):
                if held and held[1] == piece[0]:  # the jump skipped all that lay between
                    held = held[0], piece[1]
                    continue
                if held and held[1] > utc:
                    yield held
                held = piece
        if held and held[1] > utc:
            yield held

    def _openings(self, utc: datetime, until: datetime) -> Iterator[Stretch]:
        """Yield weekly windows and quiet holidays from a week before ``utc`` on, in UTC, in order, without end."""
        zone = pendulum.timezone(self.tz)
        local = utc.astimezone(zone)
        # From a week back, because the window around this moment may have opened almost that long ago.
        monday = datetime.combine(local.date(), time()) - timedelta(days=local.weekday() + 7)
        weekly = (
            (monday + timedelta(weeks=week, minutes=opening), monday + timedelta(weeks=week, minutes=closing))
            for week in count()
            for opening, closing in self.spans
        )
        for opening, closing in united(
            heapq.merge(weekly, self._quiet_days(monday.date(), min(until, _FOREVER - _YEAR).date() + _YEAR))
        ):
            start, end = shown(opening, zone, again=True), shown(closing, zone, again=False)
            if end < start:
                end = shown(closing, zone, again=True)
            if start != end:
                yield start, end

    def _whole_weeks(self, utc: datetime) -> Iterator[Stretch]:
        """Yield years that touch, from the day before ``utc`` on, and all time in one where no blackout is left."""
        once = [blackout.in_year(0) for blackout in self.blackouts if not blackout.yearly]
        ends = [found[1].replace(tzinfo=pendulum.UTC) + _FURTHEST for found in once if found]
        ends += [end for reading in self.readings for _, end, _ in reading.periods]
        recurring = self._busy or any(blackout.yearly for blackout in self.blackouts)
        start = utc - _DAY
        while start < _FOREVER:
            nothing_left = not recurring and all(end <= start for end in ends)
            end = _FOREVER if nothing_left else min(start + _YEAR, _FOREVER)
            yield start, end
            start = end

    def _quiet_days(self, first: date, last: date) -> Iterator[Stretch]:
        if self.holidays and not self._busy:
            for _, day, _ in holidays_between(self.holidays, first, last):
                yield whole_day(day)

    def _forbidden_between(self, first: datetime, last: datetime) -> list[tuple[datetime, datetime, Because, str]]:
        """What touches the time from ``first`` to ``last``, each whole, in UTC, by its start."""
        low, high = first.replace(tzinfo=None) - _FURTHEST, last.replace(tzinfo=None) + _FURTHEST
        zone = pendulum.timezone(self.tz)
        found = [
            (*widest(*walls, zone), because, text)
            for walls, because, text in [*self._blackouts_between(low, high), *self._busy_between(low, high)]
        ]
        for reading in self.readings:
            text = f"a blackout of {shown_source(reading.source)}"
            near = (period for period in reading.periods if period[0] <= last and period[1] >= first)
            found += [(start, end, Because.BLACKOUT, f"{text} ({why})") for start, end, why in near]
        return sorted(item for item in found if item[0] < item[1] and item[0] <= last and item[1] >= first)

    def _blackouts_between(self, low: datetime, high: datetime) -> Iterator[_Walls]:
        for blackout in self.blackouts:
            for walls in blackout.between(low, high):
                yield walls, Because.BLACKOUT, f"the blackout {blackout}"

    def _busy_between(self, low: datetime, high: datetime) -> Iterator[_Walls]:
        if not self._busy:
            return
        for region, day, name in holidays_between(self.holidays, low.date(), high.date()):
            yield whole_day(day), Because.HOLIDAY, f"a public holiday of {region} ({name})"
        for region, year in product(self.holidays, range(low.year, high.year + 1)):
            if holidays_in(region, year) is None:
                text = f"the public holidays of {region} are not known for {year}"
                yield (datetime(year, 1, 1), datetime(year + 1, 1, 1)), Because.UNKNOWN, text

    def _check_windows_are_left(self, field: str) -> None:
        """Raise :class:`InvalidPlan` if after the start of a blackout no window opens for a year."""
        known = replace(self, holidays=(), sources=())
        zone = pendulum.timezone(self.tz)
        for wall in doubtful_starts(self.blackouts):
            start = shown(wall, zone, again=False)
            until = pendulum.instance(start).add(years=1)
            found = next(known._windows_after(start, until), None)
            if found is None or found[0] > until:
                texts = sorted({text for *_, text in known._forbidden_between(start, until)})
                raise InvalidPlan(
                    field,
                    ", ".join(text.removeprefix("the blackout ") for text in texts),
                    f"blackouts that leave a window within a year, unlike these from {start:%Y-%m-%d} on",
                )

    def _local(self, utc: datetime) -> pendulum.DateTime:
        return pendulum.instance(utc).in_timezone(self.tz)


_Walls = tuple[Stretch, Because, str]


def _to_utc(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise InvalidPlan("moment", moment, "a moment with its time zone, such as pendulum.now('UTC')")
    return moment.astimezone(pendulum.UTC)
