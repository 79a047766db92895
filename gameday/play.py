"""Plays the acts in the terminal: tells, waits, looks, gives hints; or does them itself."""

from __future__ import annotations

import math
import select
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gameday.acts import Act, ActFailed
from gameday.shop import FIGURES_OF_SECONDS, Shop
from gameday.summary import Outcome, Played

_LOOK_SECONDS = 0.5
_UNATTENDED_SECONDS = 60.0
_HELP = "h + Enter: a hint    s + Enter: skip this act    Ctrl-C: end"


def play(acts: Sequence[Act], shop: Shop, console: Console, *, unattended: bool) -> tuple[Played, ...]:
    """All acts, one after the other. Raises :class:`ActFailed` if one that plays itself is not done by that."""
    played = []
    for number, act in enumerate(acts, 1):
        console.print()
        console.rule(Text(f"Act {number} of {len(acts)}: {act.name}"), align="left")
        console.print(act.story, markup=False, highlight=False)
        act.begin(shop)
        began = time.monotonic()
        try:
            outcome, hints = _show(act, shop, console) if unattended else _ask(act, shop, console)
            seconds = time.monotonic() - began
            if act.settles:
                time.sleep(FIGURES_OF_SECONDS)
            rate, latency = shop.figures()
            if outcome is Outcome.SKIPPED:
                # The acts after this one need what it would have left.
                _perform(act, shop)
        finally:
            act.end(shop)
        felt = latency if math.isfinite(latency) else None
        played.append(Played(act.name, outcome, round(seconds, 1), hints, felt))
        console.print(f"{outcome.value.capitalize()}, after {seconds:.0f} s: {_felt(rate, latency)}", markup=False)
    return tuple(played)


def _show(act: Act, shop: Shop, console: Console) -> tuple[Outcome, int]:
    """What a trainee would read, and then the act as it plays itself."""
    console.print(f"\n{act.task}", style="bold", markup=False, highlight=False)
    console.print("Nobody plays, so this is done here.", style="dim")
    return _perform(act, shop)


def _perform(act: Act, shop: Shop) -> tuple[Outcome, int]:
    typed = act.perform(shop)
    deadline = time.monotonic() + _UNATTENDED_SECONDS
    while not act.done(shop, typed):
        if time.monotonic() > deadline:
            raise ActFailed(f"“{act.name}” was played, and its result is not there")
        time.sleep(_LOOK_SECONDS)
    return Outcome.DONE, 0


def _ask(act: Act, shop: Shop, console: Console) -> tuple[Outcome, int]:
    console.print(f"\n{act.task}", style="bold", markup=False, highlight=False)
    console.print(_HELP, style="dim", markup=False, highlight=False)
    hints, typed = 0, ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not act.done(shop, typed):
            live.update(_dashboard(shop), refresh=True)
            line = _line()
            if line is None:
                continue
            if line == "s":
                return Outcome.SKIPPED, hints
            if line == "h":
                hints += 1
                live.console.print(f"Hint: {act.hint}", style="yellow", markup=False, highlight=False)
                continue
            typed = line or "ready"
            if line and not act.done(shop, typed):
                live.console.print(f"“{line}” is not it.", markup=False, highlight=False)
    return Outcome.DONE, hints


def _line() -> str | None:
    """What was typed, None if nothing was within half a second. Raises KeyboardInterrupt at the end of input."""
    if not select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
        return None
    line = sys.stdin.readline()
    if not line:
        raise KeyboardInterrupt
    return line.strip()


def _dashboard(shop: Shop) -> Table:
    rate, latency = shop.figures()
    table = Table(title="the shop, last 3 seconds", title_justify="left", show_header=False)
    table.add_row("orders a second", f"{rate:.0f}")
    table.add_row("slowest of twenty", "nobody can order" if math.isinf(latency) else f"{latency * 1000:.1f} ms")
    table.add_row("sessions of backups that nobody guards", str(shop.rogue_sessions()))
    return table


def _felt(rate: float, latency: float) -> str:
    if math.isinf(latency):
        return "nobody can order"
    return f"{rate:.0f} orders a second now, one in twenty takes {latency * 1000:.1f} ms or more"
