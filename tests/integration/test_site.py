"""The documentation's site: it builds, and no link or anchor in it is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def build(source: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does it."""
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--conf-dir", str(DOCS)]
    command = [sys.executable, "-m", "sphinx", *options, "-d", str(to / "doctrees"), str(source), str(to / "site")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_site_builds_with_each_page_and_what_comes_from_the_code(tmp_path: Path) -> None:
    """No link or anchor is broken, every page is in the navigation, and commands, operators and fields are there."""
    done = build(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert "--max-rate" in (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    operators = (site / "reference" / "airflow.html").read_text(encoding="utf-8")
    assert all(f"operators.{name}" in operators for name in ("ThrottledCopyOperator", "RestoreDrillOperator"))
    assert "BackupPlan.repository" in (site / "reference" / "plan.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["nowhere.md", "there.md#no-such-heading"])
def test_a_broken_link_fails(tmp_path: Path, target: str) -> None:
    """A page, or a heading, that is not there is named, and the build ends badly."""
    source = tmp_path / "docs"
    source.mkdir()
    (source / "index.md").write_text(f"# Pages\n\n## All\n\n* [There](there.md)\n\n[Broken]({target})\n")
    (source / "there.md").write_text("# There\n")
    done = build(source, tmp_path)
    assert done.returncode != 0
    assert "index.md:7" in done.stderr
