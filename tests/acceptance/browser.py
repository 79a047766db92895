"""A real browser for the tests of the pages: Debian's chromium, or what BACKUP_GUARD_TEST_BROWSER names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.acceptance.conftest import TOP

PICTURES = TOP / "build/ui"
"""Where the tests leave pictures of the pages."""

# Airflow shows every plugin's page in such a frame, asks for its settings before anybody has logged in, and has inputs
# that a browser has advice for.
_OF_AIRFLOW = ("escape its sandboxing", "/ui/config", "autocomplete")


def need_browser() -> str:
    """The program; skips, with the reason, where there is none."""
    named = os.environ.get("BACKUP_GUARD_TEST_BROWSER")
    found = named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("NO BROWSER: the pages are not tested. Install chromium, or name one in BACKUP_GUARD_TEST_BROWSER")
    return found


class Window:
    """A page of a browser, and what its console complained of."""

    def __init__(self, browser: Browser, url: str, width: int = 1280, height: int = 960) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.page: Page = browser.new_context(viewport={"width": width, "height": height}).new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def log_in(self, name: str) -> None:
        """As people do."""
        self.page.goto(f"{self.url}/")
        self.page.fill("input[name=username]", name)
        self.page.fill("input[name=password]", f"{name}-secret")
        self.page.click("button[type=submit]")
        self.page.wait_for_url(f"{self.url}/")

    def picture(self, name: str) -> None:
        """Leave one for people to look at."""
        leave_picture(self.page, name)

    def _note(self, message: ConsoleMessage) -> None:
        text = f"{message.text} {message.location}"
        if message.type in ("error", "warning") and not any(known in text for known in _OF_AIRFLOW):
            self.complaints.append(text)


def leave_picture(page: Page, name: str, *, full_page: bool = False) -> None:
    """What a page looks like, as a small file that is fit for the documentation."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with Image.open(BytesIO(page.screenshot(full_page=full_page))) as taken:
        few = taken.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(PICTURES / f"{name}.png", optimize=True)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a screen."""
    program = need_browser()
    with sync_playwright() as playwright:
        # As root, as in a container, Chromium runs only without its sandbox; the pages are our own.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=Path(program), args=options)
        expect.set_options(timeout=60_000)
        try:
            yield started
        finally:
            started.close()
