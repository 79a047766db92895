"""The files of the pages: whole, nothing inline, nothing from outside; and what tasks tell the pages of themselves."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from pathlib import Path

import pytest

import airflow_backup_guard
from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.errors import RepositoryUnavailable
from airflow_backup_guard.hooks.shown import FIELD, read_shown
from airflow_backup_guard.operators import BackupAuditOperator, ThrottledCopyOperator
from airflow_backup_guard.sensors import WriteLoadSensor
from airflow_backup_guard.ui.reading import Remembered, problem_text, within

STATIC = Path(airflow_backup_guard.__file__).parent / "ui/static"
UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


def plan(name: str) -> BackupPlan:
    """A plan of this name."""
    calendar = OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC")
    return BackupPlan(name=name, connection="shop_primary", repository="file:///srv/backups", calendar=calendar)


def test_the_chart_library_is_the_one_that_is_recorded() -> None:
    """Byte for byte, with its licence and where it is from."""
    for name, expected in UPLOT.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == expected
    assert "MIT" in (STATIC / "uPlot.LICENSE.txt").read_text()
    assert "1.6.32" in (STATIC / "uPlot.README.md").read_text()


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.html")), ids=lambda path: path.name)
def test_a_page_has_nothing_inline_and_all_its_files(path: Path) -> None:
    """The policy would refuse it; and what it names is there, its scripts' imports included."""
    text = path.read_text()
    assert not re.search(r"<style|<script(?! )|\s(?:on\w+|style)=", text)
    named = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert named and all(name.startswith("static/") for name in named)
    for name in named:
        script = (STATIC / name.removeprefix("static/")).read_text()
        for imported in re.findall(r'from "\./([^"]+)"', script):
            assert (STATIC / imported).is_file()


@pytest.mark.parametrize("path", sorted(STATIC.glob("[a-z]*.js")), ids=lambda path: path.name)
def test_our_scripts_make_no_markup_of_text(path: Path) -> None:
    """An id with HTML in it is text wherever it is shown: nothing turns text into nodes or into a program."""
    if path.name in UPLOT:
        return
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", path.read_text()
    )


def test_a_task_tells_the_pages_its_step_and_its_plans() -> None:
    """Through the field that Airflow serializes; what others wrote there is none of ours."""
    copy = ThrottledCopyOperator(task_id="copy", plan=plan("shop"), snapshot={})
    gate = WriteLoadSensor(task_id="gate", plan=plan("shop"))
    audit = BackupAuditOperator(task_id="audit", plan=[plan("shop"), plan("orders")])
    for task, step, names in ((copy, "copy", ["shop"]), (gate, "gate", ["shop"]), (audit, "audit", ["shop", "orders"])):
        assert FIELD in task.get_serialized_fields()
        found = read_shown(getattr(task, FIELD))
        assert found is not None
        assert (found[0], [BackupPlan.from_dict(values).name for values in found[1]]) == (step, names)
    for other in (None, "", "[]", "{}", '{"step": "copy", "plans": 3}', json.dumps({"plans": []})):
        assert read_shown(other) is None


def test_a_repository_that_hangs_does_not_hold_up_a_page() -> None:
    """The page says so after its patience; and what is no error of ours is told with its kind."""
    release = threading.Event()
    with pytest.raises(RepositoryUnavailable, match="has not answered"):
        within(0.01, release.wait)
    release.set()
    assert within(5, lambda: 7) == 7
    assert "KeyError" in problem_text(KeyError("aws_default"))


def test_what_is_remembered_is_made_anew_when_it_is_too_old() -> None:
    """And only so many values are kept."""
    now, made = [0.0], []
    remembered = Remembered[int](10, most=2, clock=lambda: now[0])

    def make() -> int:
        made.append(now[0])
        return len(made)

    assert [remembered.get("a", make), remembered.get("a", make)] == [1, 1]
    now[0] = 10.0
    assert remembered.get("a", make) == 2
    remembered.forget("a")
    assert [remembered.get(key, make) for key in "abca"] == [3, 4, 5, 6]
