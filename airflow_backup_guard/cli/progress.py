"""How far a long command is, on stderr: a bar in a terminal, a line about every 15 s anywhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console, RenderableType
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from airflow_backup_guard.cli.answer import duration
from airflow_backup_guard.core.load import Phase
from airflow_backup_guard.core.pace import PaceState
from airflow_backup_guard.core.units import Rate, Size
from airflow_backup_guard.engine.progress import (
    BytesLog,
    CommandProgressLog,
    ProgressLog,
    describe_command,
    describe_late,
)

if TYPE_CHECKING:
    from airflow_backup_guard.engine.command import CommandProgress
    from airflow_backup_guard.engine.copy import Progress

_LINE_SECONDS = 15.0
_REDRAW_SECONDS = 0.1


@contextmanager
def copy_progress(checkpoint: str) -> Iterator[Callable[[Progress], None]]:
    """Shows a copy, and before its first byte what it waits for."""
    if not _in_terminal():
        _write_line("checking the database, and measuring its load")
        yield ProgressLog(_write_line)
        return
    patience = "it takes minutes, and is gentle" if checkpoint == "spread" else "it takes seconds"
    with _Bar("starting", "checking the database, and measuring its load") as bar:

        def show(progress: Progress) -> None:
            pace = progress.pace
            if progress.total == 0:
                bar.show("waiting", 0, 0, f"for the {checkpoint} checkpoint of the server: {patience}")
            elif progress.done >= progress.total:
                bar.show("finishing", progress.done, progress.total, "storing the last WAL, and measuring the load")
            elif progress.late:
                bar.show(pace.state.value, progress.done, progress.total, describe_late(progress))
            elif pace.state is PaceState.RUNNING:
                bar.show("running", progress.done, progress.total)
            else:
                bar.show(pace.state.value, progress.done, progress.total, f"at most {pace.rate}: {pace.reason}")

        yield show


@contextmanager
def command_progress() -> Iterator[tuple[Callable[[CommandProgress], None], Callable[[str], None]]]:
    """Shows a guarded command: what it is held to, and the lines of its log, which stay."""
    if not _in_terminal():
        yield CommandProgressLog(_write_line), lambda line: print(line, file=sys.stderr, flush=True)
        return
    with _Bar("starting", "measuring the load of the database") as bar:

        def show(progress: CommandProgress) -> None:
            state = {Phase.BEFORE: "starting", Phase.AFTER: "finishing"}.get(progress.phase, progress.pace.state.value)
            note = "measuring the load of the database"
            if progress.phase is Phase.DURING:
                held = "" if progress.pace.state is PaceState.RUNNING else f": {progress.pace.reason}"
                note = f"{describe_command(progress)}{held}"
            bar.show(state, progress.done, 0, note)

        yield show, lambda line: bar.console.print(Text.from_ansi(line), soft_wrap=True)


@contextmanager
def byte_progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Shows any other work on bytes that are done, of bytes that there are."""
    if _in_terminal():
        with _Bar(doing) as bar:
            yield lambda done, total: bar.show(doing, done, total)
        return
    yield BytesLog(doing, _write_line)


@contextmanager
def note_progress(doing: str, seconds: float) -> Iterator[Callable[[str], None]]:
    """Shows what is seen meanwhile, and how much is left of the time that it takes."""
    began = time.monotonic()
    if _in_terminal():
        with _Bar(doing) as bar:
            yield lambda note: bar.note(time.monotonic() - began, seconds, note)
        return
    last = began - _LINE_SECONDS

    def write(note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE_SECONDS:
            last = now
            _write_line(f"{doing}: {note}; {duration(max(seconds - (now - began), 0))} left")

    yield write


def _in_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _write_line(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


class _Bar(rich.progress.Progress):
    """One bar, and below it one line that says why it is slow; both are gone when it ends."""

    def __init__(self, state: str, note: str = "") -> None:
        self._note = note  # read by the base class, when it is made
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan", pulse_style="cyan"),
            TextColumn("{task.fields[size]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True, highlight=False, emoji=False),
            transient=True,
            expand=True,
        )
        self._shown_at, self._state = 0.0, state
        self._task = self.add_task(f"{state:<9}", total=None, size="", rate="")

    def show(self, state: str, done: int, total: int, note: str = "") -> None:
        """May be called for every message of a stream: it mostly does nothing."""
        now = time.monotonic()
        if now - self._shown_at < _REDRAW_SECONDS and state == self._state:
            return
        self._shown_at, self._state, self._note = now, state, note
        speed = self.tasks[0].speed
        self.update(
            self._task,
            description=f"{state:<9}",
            completed=done,
            total=max(total, done) or None,
            # As wide as they get, so that the bar beside them keeps its length.
            size=f"{Size(done)!s:>7} of {Size(max(total, done))}" if total else "",
            rate=f"{Rate(speed or 0)!s:>9}" if total else "",
        )

    def note(self, elapsed: float, seconds: float, note: str) -> None:
        """For what takes a time that is known."""
        self._note = note
        self.update(self._task, completed=elapsed, total=seconds)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and the note in one line."""
        yield from super().get_renderables()
        yield Text(self._note, style="dim", no_wrap=True, overflow="ellipsis")
