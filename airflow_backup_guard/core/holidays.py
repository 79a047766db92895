"""Public holidays of countries, of parts of them and of markets. The one home of the ``holidays`` library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from difflib import get_close_matches
from enum import Enum
from functools import cache
from types import ModuleType
from typing import Any

from airflow_backup_guard.errors import ExtraMissing, InvalidPlan

_ALLOWED = 'countries, parts of them or markets, such as "DE", "DE-BY", "US-CA" or "XNYS"'


class OnHolidays(str, Enum):
    """What a public holiday is: a day on which no window opens, or one that is a window as a whole."""

    BUSY = "busy"
    QUIET = "quiet"


def parse_regions(value: str | Iterable[str], field: str = "holidays") -> tuple[str, ...]:
    """Read ``"DE-BY"``, ``"DE-BY, US"`` or a list of such, sorted, each once.

    Raises :class:`InvalidPlan` naming ``field`` and the region that is not known, and :class:`ExtraMissing`
    without the library.
    """
    try:
        parts = value.split(",") if isinstance(value, str) else list(value)
    except TypeError:
        raise InvalidPlan(field, value, _ALLOWED) from None
    return tuple(sorted({_parse_region(part, field) for part in parts}))


def holidays_in(region: str, year: int) -> tuple[tuple[date, str], ...] | None:
    """Days and names, in order; None for a year of which the library knows nothing."""
    found = _calendar_of(region)
    if not found.start_year <= year <= found.end_year:
        return None
    return _days(region, year)


def holidays_between(regions: Iterable[str], first: date, last: date) -> Iterator[tuple[str, date, str]]:
    """Region, day and name of each holiday from ``first`` to ``last``, in the order of days, where they are known."""
    for year in range(first.year, last.year + 1):
        known = [(day, region, name) for region in regions for day, name in holidays_in(region, year) or ()]
        yield from ((region, day, name) for day, region, name in sorted(known) if first <= day <= last)


def _parse_region(text: Any, field: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InvalidPlan(field, text, _ALLOWED)
    country, dash, part = text.strip().partition("-")
    region = f"{country.upper()}{dash}{part}"
    for name in (region, region.upper()):
        try:
            _calendar_of(name)
        except NotImplementedError:
            continue
        return name
    raise InvalidPlan(field, text, f"{_ALLOWED}{_known_instead(country.upper(), part)}")


def _known_instead(country: str, part: str) -> str:
    library = _library()
    parts = library.list_supported_countries().get(country)
    if part and parts:
        return f"; parts of {country} are {', '.join(parts)}"
    if part and parts is not None:
        return f"; {country} has no parts"
    near = get_close_matches(
        country, [*library.list_supported_countries(), *library.list_supported_financial()], cutoff=0.75
    )
    return f"; near are {', '.join(near)}" if near else ""


@cache
def _calendar_of(region: str) -> Any:
    library = _library()
    country, dash, part = region.partition("-")
    if not country.isalnum() or bool(dash) != bool(part):
        raise NotImplementedError
    if part:
        return library.country_holidays(country, subdiv=part, expand=False)
    try:
        return library.country_holidays(country, expand=False)
    except NotImplementedError:
        return library.financial_holidays(country, expand=False)


@cache
def _days(region: str, year: int) -> tuple[tuple[date, str], ...]:
    _, _, part = region.partition("-")
    kind = type(_calendar_of(region))
    # Without a language, the names would follow the locale of whoever asks.
    days = kind(subdiv=part or None, years=year, language="en_US")
    return tuple(sorted((day, name) for day, name in days.items() if day.year == year))


def _library() -> ModuleType:
    try:
        import holidays
    except ImportError as error:
        raise ExtraMissing(
            "Calendars with public holidays need the library holidays.",
            remedy="Install it: pip install 'airflow-backup-guard[holidays]'.",
        ) from error
    return holidays
