"""When the runs of an off-peak calendar begin: one, or a few, in each of its windows.

Each window is divided into as many parts of equal length as there are runs in it. A run begins in the first share of
its part, at a place that a hash of a key decides: the same one every night, another one for every key. So a fleet
that shares one calendar does not begin at once, and most of the window is left to each.

A window longer than a day has a run for every day: it is cut at each midnight that is six hours or more from both of
its ends. That is also what becomes of a calendar that is always open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, time, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

import attrs
import pendulum

from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.units import format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

_DAY = timedelta(days=1)
_FROM_ENDS = timedelta(hours=6)
# A piece of a window is never longer than two days, and a day more where a zone repeated a date; so what is cut off
# this long ago changes no piece that lasts until now.
_BACK = timedelta(days=5)
_HORIZON = timedelta(days=731)
_PERCENT = re.compile(r"(\d{1,3})\s*%", re.ASCII)
_SPREAD = "25%"


class Part(NamedTuple):
    """The part of a window that has one run, from ``begin`` up to but not including ``end``, and the run's ``start``.

    All in UTC.
    """

    begin: pendulum.DateTime
    start: pendulum.DateTime
    end: pendulum.DateTime


def _percent(value: Any) -> int:
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) > 100:
        raise InvalidPlan("spread", value, 'a share of the window, from "0%" (all begin as it opens) to "100%"')
    return int(match[1])


def _min_window(value: Any) -> timedelta:
    duration = parse_duration(value, "min_window")
    if duration > _DAY:
        raise InvalidPlan("min_window", value, "a duration of 24h or less")
    return duration


@attrs.frozen(kw_only=True)
class OffPeakSchedule:
    """Which moments of a calendar a run begins at; built by :meth:`of`. Raises :class:`InvalidPlan` for bad values.

    :param calendar: no run begins outside of its windows
    :param key: what the place within the window is derived from; None only if all begin as it opens
    :param spread: the first share of the window, or of each part of it, that starts are spread over, such as ``"25%"``
    :param runs_per_window: 1 to 24 runs, evenly
    :param min_window: a window shorter than this, such as what a blackout leaves of one, has no run
    """

    calendar: OffPeakCalendar = attrs.field()
    key: str | None = attrs.field(default=None)
    spread: int = attrs.field(converter=_percent)
    runs_per_window: int = attrs.field(default=1)
    min_window: timedelta = attrs.field(default=timedelta(0), converter=_min_window)

    @key.validator
    def _check_key(self, attribute: Any, value: Any) -> None:
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise InvalidPlan("key", value, "a text, such as the id of the DAG")

    @runs_per_window.validator
    def _check_runs_per_window(self, attribute: Any, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 24:
            raise InvalidPlan("runs_per_window", value, "a whole number from 1 to 24")

    def __attrs_post_init__(self) -> None:
        if self.spread and self.key is None:
            raise InvalidPlan("key", None, f"a text, such as the id of the DAG, for a spread of {self.spread}%")

    @classmethod
    def of(
        cls,
        when: BackupPlan | OffPeakCalendar,
        *,
        key: str | None = None,
        spread: str | None = None,
        runs_per_window: int = 1,
        min_window: str | timedelta = timedelta(0),
    ) -> OffPeakSchedule:
        """The schedule of a plan, with its name as the key, or of a calendar.

        Starts are spread over the first quarter unless told otherwise; without any key there is no spread.
        """
        if isinstance(when, BackupPlan):
            calendar, key = when.calendar, when.name if key is None else key
        elif isinstance(when, OffPeakCalendar):
            calendar = when
        else:
            raise InvalidPlan("schedule", when, "a BackupPlan or an OffPeakCalendar")
        return cls(
            calendar=calendar,
            key=key,
            spread=(_SPREAD if key is not None else "0%") if spread is None else spread,
            runs_per_window=runs_per_window,
            min_window=min_window,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OffPeakSchedule:
        """Read what :meth:`to_dict` wrote; raises :class:`InvalidPlan`."""
        return cls(**{**data, "calendar": OffPeakCalendar.from_dict(data["calendar"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` reads back to an equal schedule."""
        return {
            "calendar": self.calendar.to_dict(),
            "key": self.key,
            "spread": f"{self.spread}%",
            "runs_per_window": self.runs_per_window,
            "min_window": format_duration(self.min_window),
        }

    def __str__(self) -> str:
        """A few words for a column of a table."""
        times = f"{self.runs_per_window} × " if self.runs_per_window > 1 else ""
        return f"{times}off-peak: {self._hours(most=80)}"

    def describe(self) -> str:
        """A sentence of less than 1000 characters: how often, at which place in the window, and the windows."""
        runs, unit = self.runs_per_window, "day" if self.calendar.always_open else "off-peak window"
        often = "Once" if runs == 1 else f"{runs} times"
        whole = "it" if runs == 1 else f"each of {runs} equal parts"
        passed, by = self.spread * self._place() / (1 << 48), _shortened(f"{self.key!r}", 80)
        place = f"when {passed:.1f}% of {whole} has passed (spread by {by})" if self.spread else f"as {whole} begins"
        longer = f" of {format_duration(self.min_window)} or more" if self.min_window else ""
        return f"{often} in each {unit}{longer}, {place}: {self._hours(most=600)}"

    def _hours(self, most: int) -> str:
        return f"{_shortened(str(self.calendar), most)} ({self.calendar.tz})"

    def check(self, now: datetime) -> None:
        """Raise :class:`InvalidPlan` if no run would begin within two years from now."""
        if self.next_start(last=None, earliest=None, latest=None, catchup=False, now=now) is None:
            longest = f"a duration that a window of {self.calendar} ({self.calendar.tz}) has within two years"
            raise InvalidPlan("min_window", format_duration(self.min_window), longest)

    def next_start(
        self,
        *,
        last: datetime | None,
        earliest: datetime | None,
        latest: datetime | None,
        catchup: bool,
        now: datetime,
    ) -> pendulum.DateTime | None:
        """When the run after ``last`` begins, in UTC; None if that is after ``latest`` or not within two years.

        No part of a window has a second run, whatever the key or the spread was when it had the first. Without
        ``catchup``, parts that have ended are passed over; the one that is under way still has its run, even if its
        moment has just passed. ``earliest`` and ``latest`` are allowed moments themselves.
        """
        known = [_utc(moment) for moment in (last, earliest) if moment is not None]
        for part in self.parts(max(known) if catchup and known else max([_utc(now), *known])):
            if last is not None and part.begin <= last:
                continue
            if earliest is not None and part.start < earliest:
                continue
            return None if latest is not None and part.start > latest else part.start
        return None

    def parts(self, after: datetime) -> Iterator[Part]:
        """The parts that end after a moment, in order, for two years."""
        for opening, closing in self._windows(_utc(after)):
            # In whole seconds, so that no start is rounded out of its part.
            length = int((closing - opening).total_seconds())
            edges = [length * number // self.runs_per_window for number in range(self.runs_per_window + 1)]
            for begin, end in pairwise(edges):
                start = begin + ((end - begin) * self.spread * self._place() // (100 << 48))
                part = Part(*(opening.add(seconds=seconds) for seconds in (begin, start, end)))
                if part.begin < part.end and part.end > after:
                    yield part

    def _windows(self, after: pendulum.DateTime) -> Iterator[tuple[pendulum.DateTime, pendulum.DateTime]]:
        """The windows that end after a moment, in UTC, the long ones in pieces of about a day."""
        for window in self.calendar.windows(after - _BACK, after + _HORIZON):
            opening = _utc(window.start)
            if _utc(window.end) - opening < self.min_window:
                continue
            for edge in self._cuts(window.start, window.end):
                if edge > after:
                    yield opening, edge
                opening = edge

    def _cuts(self, opening: datetime, closing: datetime) -> Iterator[pendulum.DateTime]:
        """The ends of the pieces of a window: midnights far enough from its own ends, and its end."""
        zone = pendulum.timezone(self.calendar.tz)
        start, end = _utc(opening), _utc(closing)
        # By the clock on the wall, so that a window of a day stays whole in the night that has 25 hours.
        first, last = (moment.astimezone(zone).replace(tzinfo=None) for moment in (start, end))
        if last - first > _DAY:
            date = first.date()
            while (midnight := _utc(datetime.combine(date, time(), zone))) <= end - _FROM_ENDS:
                if midnight >= start + _FROM_ENDS:
                    start = midnight
                    yield midnight
                date += _DAY
        yield end

    def _place(self) -> int:
        """Where the key belongs within the spread, in 48 bits, by a hash that is the same in every process."""
        return int.from_bytes(sha256((self.key or "").encode()).digest()[:6], "big")


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _utc(moment: datetime) -> pendulum.DateTime:
    return pendulum.instance(moment.astimezone(pendulum.UTC))
