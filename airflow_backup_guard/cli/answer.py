"""What a command answers: one JSON document for programs, or lines and tables that fit the terminal for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from airflow_backup_guard.core.units import format_duration

_GAP = 2
_UNBOUNDED = 10_000
_STYLES = {
    **dict.fromkeys(("ok", "pass", "verified"), "green"),
    **dict.fromkeys(("warning", "unknown", "readable", "locked", "unreadable"), "yellow"),
    **dict.fromkeys(("fail", "failed", "damaged", "missing", "resized", "changed", "inconsistent"), "red"),
}


class Command(str):
    """A command to copy and run: it is never broken into lines."""


@dataclass(frozen=True)
class Answer:
    """``good`` decides the exit status, unless there is a ``status``; each piece of ``text`` is a paragraph, a
    :class:`Command` or a table. It goes to stderr if stdout is for something else (``aside``)."""

    document: dict[str, Any]
    text: Sequence[RenderableType]
    good: bool = True
    status: int | None = None
    aside: bool = False

    def show(self, as_json: bool) -> None:
        """Write it."""
        if as_json:
            print(json.dumps(self.document, indent=2, ensure_ascii=False))
            return
        where = sys.stderr if self.aside else sys.stdout
        terminal = where.isatty() or "COLUMNS" in os.environ
        console = Console(
            file=where, highlight=False, markup=False, emoji=False, width=None if terminal else _UNBOUNDED
        )
        with console.capture() as captured:
            for piece in self.text:
                console.print(piece, soft_wrap=isinstance(piece, Command))
        # rich fills up every cell, the last of a row, too.
        print("\n".join(line.rstrip() for line in captured.get().splitlines()), file=where)


def word(text: str) -> Text:
    """A status, state or verdict, in its colour."""
    return Text(text, style=_STYLES.get(text, ""))


def duration(seconds: float) -> str:
    """``4.2s`` or ``1h 3min 20s``."""
    return f"{seconds:.1f}s" if seconds < 60 else format_duration(timedelta(seconds=round(seconds)))


def age(moment: datetime, now: datetime) -> str:
    """``3d``, ``5h``, ``12min``: how long ago that was, in its largest unit."""
    seconds = max((now - moment).total_seconds(), 0)
    unit, size = next(((u, s) for u, s in (("d", 86400), ("h", 3600), ("min", 60)) if seconds >= s), ("s", 1))
    return f"{int(seconds // size)}{unit}"


def lines(rows: Iterable[Sequence[RenderableType]]) -> RenderableType:
    """Rows under each other, indented; the last column takes what is left and wraps within itself."""
    listed = list(rows)
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for cells in list(zip(*listed, strict=True))[:-1]:
        grid.add_column(no_wrap=True, min_width=max(len(str(cell)) for cell in cells))
    grid.add_column(overflow="fold")
    for row in listed:
        grid.add_row(*row)
    return Padding(grid, (0, 0, 0, _GAP), expand=False)


@dataclass(frozen=True)
class Column:
    """One column of a :class:`FittingTable`. The highest ``rank`` gives way first; 0 always stays."""

    title: str
    cells: Sequence[str]
    rank: int = 0
    right: bool = False

    @property
    def width(self) -> int:
        """What it takes to show every cell whole."""
        return max(map(len, [self.title, *self.cells]))


@dataclass(frozen=True)
class FittingTable:
    """A table that leaves columns out, rather than break its cells, where the terminal is narrow."""

    columns: Sequence[Column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(self.columns)
        while sum(column.width + _GAP for column in shown) - _GAP > options.max_width:
            last = max(shown, key=lambda column: column.rank)
            if last.rank == 0:
                break
            shown.remove(last)
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
        for column in shown:
            table.add_column(column.title, no_wrap=True, justify="right" if column.right else "left")
        for row in zip(*(column.cells for column in shown), strict=True):
            table.add_row(*map(word, row))
        yield table
