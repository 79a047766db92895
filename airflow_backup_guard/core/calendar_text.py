"""The clauses of a calendar's text, and the arguments that say the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from airflow_backup_guard.core.holidays import OnHolidays, parse_regions
from airflow_backup_guard.errors import InvalidPlan


class Clauses(NamedTuple):
    """The clauses of a text by their kind, each without the words that tell it."""

    windows: list[str]
    blackouts: list[str]
    busy: list[str]
    quiet: list[str]

    @classmethod
    def of(cls, text: str) -> Clauses:
        clauses = cls([], [], [], [])
        for clause in (part.strip() for part in text.split(";")):
            word, _, rest = clause.partition(" ")
            excepted = word.lower() == "except"
            of_what, _, regions = (rest.strip() if excepted else clause).partition(" ")
            if of_what.lower() == "holidays":
                (clauses.busy if excepted else clauses.quiet).append(regions)
            elif excepted:
                clauses.blackouts.append(rest.strip())
            else:
                clauses.windows.append(clause)
        return clauses


def parse_holidays(
    clauses: Clauses, holidays: str | Iterable[str] | None, on_holidays: str | None, field: str
) -> tuple[tuple[str, ...], OnHolidays]:
    """Regions and what their holidays are, by the text or by the arguments."""
    if (clauses.busy and clauses.quiet) or (holidays is not None and (clauses.busy or clauses.quiet)):
        raise InvalidPlan(f"{field}, holidays", holidays or clauses.quiet[0], "holidays that are all busy or all quiet")
    try:
        day = OnHolidays(on_holidays or (OnHolidays.QUIET if clauses.quiet else OnHolidays.BUSY))
    except ValueError:
        raise InvalidPlan(f"{field}, on_holidays", on_holidays, '"busy" or "quiet"') from None
    if on_holidays is not None and holidays is None:
        allowed = 'a value only beside holidays, such as holidays="DE-BY"'
        raise InvalidPlan(f"{field}, on_holidays", on_holidays, allowed)
    if holidays is None:
        holidays = [part for text in clauses.busy + clauses.quiet for part in text.split(",")]
    regions = parse_regions(holidays, f"{field}, holidays")
    return regions, day if regions else OnHolidays.BUSY


def listed(items: Any, field: str) -> list[Any]:
    """The items of a list, or the one that was given as a text; raises :class:`InvalidPlan` naming ``field``."""
    try:
        return [items] if isinstance(items, str) else list(items)
    except TypeError:
        raise InvalidPlan(field, items, 'a list of texts, such as ["2026-12-24", "yearly 12-31"]') from None
