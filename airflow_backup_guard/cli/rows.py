"""Rows that several commands show: what was checked, and how far a backup is proven."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.text import Text

from airflow_backup_guard.cli.answer import word
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.verification import Level, Verification


def check_rows(checks: Iterable[Check]) -> Iterator[list[RenderableType]]:
    """A row for each check, with its remedy below what was found."""
    for check in checks:
        remedy = Text(f"\n{check.remedy}" if check.remedy else "", style="dim")
        yield [word(check.status.value), check.name, Text.assemble(check.detail, remedy)]


def level_rows(result: Verification) -> Iterator[list[RenderableType]]:
    """A row for each level: its state, how that is known, and since when."""
    known = {found.level: found for found in result.evidence}
    for level in Level:
        if found := known.get(level):
            known_since = found.status is CheckStatus.OK and level is not Level.STORED
            since = f" ({found.at:%Y-%m-%d %H:%M} UTC)" if known_since else ""
            yield [level.value, word(found.status.value), found.detail + since]
        elif level is Level.RESTORED:
            yield [level.value, word("unknown"), "no drill has restored it yet"]
