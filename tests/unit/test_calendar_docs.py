"""The page about calendars is true: its Python runs, its forms are read, its table makes a calendar."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_backup_guard.core.blackouts import Blackout
from airflow_backup_guard.core.calendar import Because, OffPeakCalendar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "calendar.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The page's code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_python_runs(tmp_path: Path) -> None:
    """From top to bottom, with files of nobody in place of the sources, and the text is what the page shows."""
    pytest.importorskip("holidays")
    pytest.importorskip("icalendar")
    code = "".join(blocks("python"))
    for url in ("https://ops.example/maintenance.ics", "file:///srv/calendars/sales.ics"):
        code = code.replace(url, (tmp_path / "none.ics").as_uri())
    names: dict[str, Any] = {}
    exec(compile(code, "docs/calendar.md", "exec"), names)
    reasons, text = (block.strip() for block in blocks("text"))
    assert names["text"] == text
    unknown = [reason for reason in names["known"].why_closed(names["now"]) if reason.because is Because.UNKNOWN]
    assert unknown
    assert unknown[-1].text.startswith("it is not known what ")
    assert reasons.split(" forbids: ")[1].startswith("it cannot be reached: ")
    assert " forbids: it cannot be reached: " in unknown[-1].text
    assert names["calendar"].open_time(names["start"], names["end"]) > timedelta(0)


def test_its_blackouts_are_read() -> None:
    """Each form of the table is one that the calendar writes, too, but for the one that is the same as another."""
    section = PAGE.partition("## Blackouts")[2].partition("## ")[0]
    forms = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
    assert len(forms) == 11
    for form in forms:
        assert str(Blackout.parse(form)) == form.replace("..+3d", "..2026-11-30" if form[0] == "2" else "..+3d")


def test_its_table_is_a_calendar() -> None:
    """What stands in a plan file is read, and written with the same names."""
    pytest.importorskip("holidays")
    (table,) = blocks("toml")
    data = tomllib.loads(table)["calendar"]
    assert OffPeakCalendar.from_dict(data).to_dict().keys() == data.keys()
