"""What calendars of others forbid, read from iCalendar files (RFC 5545). The one home of icalendar and its expansion.

Reading is for tasks, never for the parsing of DAGs: it waits for disks and for other people's servers.
"""

from __future__ import annotations

import ctypes
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any
from urllib.parse import urlsplit

import attrs
import pendulum

from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.sources import Reading
from airflow_backup_guard.core.wall_clock import shown
from airflow_backup_guard.errors import ExtraMissing

PERIOD = timedelta(days=60)
_LARGEST = 10_000_000  # bytes
_MOST = 5_000  # occurrences in a period
_PATIENCE = 15.0  # seconds for one source to come, and for its events to be found
_TRIES = 50
_MARGIN = timedelta(days=2)  # of days and floating times, which are not the same moments everywhere
_STEP = timedelta(days=16)
_TIMES = ("DTSTART", "DTEND", "RECURRENCE-ID", "RDATE", "EXDATE")


class _Unreadable(Exception):
    """Why it is not known what a source forbids, for people."""


class _TookTooLong(BaseException):
    """Raised in the thread that looks for events; no library takes it for an error of its own."""


def with_sources_read(plan: BackupPlan, now: datetime) -> BackupPlan:
    """The plan, its calendar knowing what its sources forbid; the same plan if it has none."""
    return attrs.evolve(plan, calendar=read_sources(plan.calendar, now)) if plan.calendar.sources else plan


def read_sources(calendar: OffPeakCalendar, now: datetime, period: timedelta = PERIOD) -> OffPeakCalendar:
    """The calendar, knowing what its sources forbid from a day before ``now`` until ``period`` after it.

    A source that cannot be read raises nothing: the calendar then permits nothing, and says why when it is asked.
    Raises :class:`ExtraMissing` where there are sources, but not the libraries to read them.
    """
    start, end = now - timedelta(days=1), now + period
    return calendar.read([read_source(url, start, end, calendar.tz) for url in calendar.sources])


def read_source(url: str, start: datetime, end: datetime, tz: str) -> Reading:
    """What the events at ``url`` forbid; days and times without a zone go by the wall clock of ``tz``.

    Every event counts but those that are cancelled, also one that is marked as free time.
    """
    first, last = start.astimezone(timezone.utc), end.astimezone(timezone.utc)
    try:
        return Reading(url, first, last, periods=parse_events(_fetch(url), first, last, tz))
    except _Unreadable as problem:
        return Reading(url, first, last, problem=str(problem))


def parse_events(data: bytes, start: datetime, end: datetime, tz: str) -> tuple[tuple[datetime, datetime, str], ...]:
    """Start, end and title of all events between two moments, in UTC; raises ``_Unreadable`` if in doubt.

    A rule can be such that the search for its next event has no end (``INTERVAL=0``), or one in millennia (the 30th of
    February of any day), so it has a thread and a time of its own.
    """
    libraries = _libraries()
    found: list[tuple[tuple[datetime, datetime, str], ...] | Exception] = []

    def read() -> None:
        try:
            found.append(_events(libraries, data, start, end, tz))
        except _TookTooLong:
            pass
        except Exception as error:  # raised where it is waited for
            found.append(error)

    reading = threading.Thread(target=read, name="ical", daemon=True)
    reading.start()
    reading.join(_PATIENCE)
    for _ in range(_TRIES):  # one may come while there is none to take it
        if not reading.is_alive() or reading.ident is None:
            break
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(reading.ident), ctypes.py_object(_TookTooLong))
        reading.join(0.1)
    if not found:
        raise _Unreadable(f"its events cannot be found within {_PATIENCE:.0f} s")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _events(
    libraries: tuple[Any, Any], data: bytes, start: datetime, end: datetime, tz: str
) -> tuple[tuple[datetime, datetime, str], ...]:
    icalendar, recurring_ical_events = libraries
    try:
        calendar = icalendar.Calendar.from_ical(data)
        _check(calendar)
        query = recurring_ical_events.of(calendar)
        zone = pendulum.timezone(tz)
        found: set[tuple[datetime, datetime, str]] = set()
        first, last = start - _MARGIN, end + _MARGIN
        while first < last:  # in small steps, so that an endless repetition is noticed before memory ends
            for event in query.between(first, min(first + _STEP, last)):
                found.add(_period(event, zone))
            if len(found) > _MOST:
                raise _Unreadable(f"it has more than {_MOST} events in {(end - start).days} days")
            first += _STEP
    except _Unreadable:
        raise
    except Exception as error:  # whatever else is wrong with the text of strangers, what it forbids is not known
        raise _Unreadable(f"it is no proper iCalendar file: {_one_line(error)}") from error
    return tuple(sorted(item for item in found if item[0] < item[1] and item[0] < end and item[1] > start))


def _check(calendar: Any) -> None:
    if calendar.name != "VCALENDAR":
        raise _Unreadable(f"it is no proper iCalendar file: it holds a {_one_line(calendar.name)}")
    for event in calendar.walk():
        if event.name in ("VEVENT", "VTIMEZONE") and event.errors:
            name, problem = event.errors[0]
            raise _Unreadable(f"the {_one_line(name or 'line')} of an event cannot be read: {_one_line(problem)}")
    for event in calendar.walk("VEVENT"):
        if "DTSTART" not in event:
            raise _Unreadable("an event has no start")
        for name, value in _values(event, _TIMES):
            zone = value.params.get("TZID")
            times = [item.dt for item in getattr(value, "dts", [value])]
            if zone and any(isinstance(when, datetime) and when.tzinfo is None for when in times):
                raise _Unreadable(f"the {name} of an event is in a time zone that is not known, {zone!r}")
        for _, rule in _values(event, ("RRULE",)):
            often = {str(each).upper() for each in rule.get("FREQ", [])}
            if not often or {"SECONDLY", "MINUTELY"} & often:
                raise _Unreadable("the RRULE of an event has no FREQ, or repeats it every minute or second")


def _values(event: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name in names:
        values = event.get(name, [])
        yield from ((name, value) for value in (values if isinstance(values, list) else [values]))


def _period(event: Any, zone: tzinfo) -> tuple[datetime, datetime, str]:
    first, last = event["DTSTART"].dt, event["DTEND"].dt
    start, end = min(_moments(first, zone)), max(_moments(last, zone))
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        end = start
    return start, end, _one_line(event.get("SUMMARY", "")) or "without a title"


def _moments(when: date, zone: tzinfo) -> list[datetime]:
    """Each moment, in UTC, at which the clock shows ``when``."""
    if not isinstance(when, datetime):
        when = datetime.combine(when, datetime.min.time())
    if when.tzinfo is None:
        return [shown(when, zone, again=again) for again in (False, True)]
    return [when.replace(fold=fold).astimezone(timezone.utc) for fold in (0, 1)]


def _fetch(url: str) -> bytes:
    try:
        data = _read(url)
    except urllib.error.HTTPError as error:
        raise _Unreadable(f"its server answers {error.code} {_one_line(error.reason)}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise _Unreadable(f"it cannot be reached: {_one_line(reason)}") from error
    if len(data) > _LARGEST:
        raise _Unreadable(f"it is larger than {_LARGEST // 1_000_000} MB")
    return data


def _read(url: str) -> bytes:
    """At most one byte more than may be there."""
    if urlsplit(url).scheme == "file":
        with open(urllib.request.url2pathname(urlsplit(url).path), "rb") as file:  # noqa: PTH123
            return file.read(_LARGEST + 1)
    # Without urllib's handlers of file: and ftp:, to which a redirection could lead.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    deadline = time.monotonic() + _PATIENCE
    data = b""
    with opener.open(urllib.request.Request(url, headers={"Accept": "text/calendar"}), timeout=_PATIENCE) as answer:  # noqa: S310
        while len(data) <= _LARGEST and (piece := answer.read1(1 << 16)):
            data += piece
            if time.monotonic() > deadline:
                raise TimeoutError(f"it takes more than {_PATIENCE:.0f} s")
        if answer.length:
            raise http.client.IncompleteRead(data, answer.length)
    return data


def _one_line(text: object) -> str:
    """For a label or a message: one line, not too long, without what has a meaning in the text of a calendar."""
    plain = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return " ".join(plain.split())[:120]


def _libraries() -> tuple[Any, Any]:
    try:
        import icalendar
        import recurring_ical_events
    except ImportError as error:
        raise ExtraMissing(
            "Calendars with iCalendar files need icalendar and recurring-ical-events.",
            remedy="Install them: pip install 'airflow-backup-guard[ical]'.",
        ) from error
    return icalendar, recurring_ical_events
