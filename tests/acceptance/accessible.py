"""What keeps people from reading or using a page: little contrast, things without a name, keys that lead nowhere."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Frame, Page

_SCRIPT = Path(__file__).with_name("accessible.js").read_text().rstrip().rstrip(";")


def faults(page: Page | Frame) -> list[str]:
    """All that is wrong with what is seen now."""
    return list(page.evaluate(f"{_SCRIPT}.faults()"))


def walk(page: Page) -> list[str]:
    """Go through the page by the tab key: each stop must be reached, in order, and be seen."""
    wanted, reached, first, last = page.evaluate(f"{_SCRIPT}.stops()"), 0, None, -1
    page.evaluate("document.documentElement.tabIndex = -1; document.documentElement.focus()")  # begin at the top
    wrong: list[str] = []
    for _ in range(3 * wanted + 10):
        page.keyboard.press("Tab")
        focused = page.evaluate(f"{_SCRIPT}.focused()")
        if focused is None or focused[0] == first:
            break
        place, outlined, stop = focused
        first = place if first is None else first
        wrong += [f"stop {place} comes after {last}"] * (place < last) + [f"stop {place} is not seen"] * (not outlined)
        last, reached = place, reached + stop
    return [*wrong, *([f"{reached} of {wanted} stops are reached"] if reached != wanted else [])]
