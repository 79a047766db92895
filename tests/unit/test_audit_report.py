"""Reports are for people who have never seen what made them, and the audits that are kept are a chain."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from airflow_backup_guard.core import AcceptedRisk, backup
from airflow_backup_guard.core.audit.catalogue import CHECKS
from airflow_backup_guard.core.audit.chain import digests_of, verify_chain
from airflow_backup_guard.core.audit.document import PlanAudit, digest_list, file_name
from airflow_backup_guard.core.audit.examine import examine
from airflow_backup_guard.core.audit.facts import RogueSeen
from airflow_backup_guard.core.audit.html import html
from airflow_backup_guard.core.audit.report import NO_PLANS, markdown, title_of
from airflow_backup_guard.core.audit.values import Unknown
from tests.unit.audit_facts import BUCKET, NOW, audit_of, facts, known

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "audit.md"
RISK = AcceptedRisk(
    "BG023", "alice@example.com", NOW.date() + timedelta(days=68), "the bucket moves in January", "shop"
)


def example() -> PlanAudit:
    """The second audit of a plan: something new, something fixed, something unknown, an accepted risk."""
    before = audit_of(facts(drills=known(())))
    spoiled = facts(
        rogues=known((RogueSeen(NOW - timedelta(days=3), "pg_dump <nightly>", "rogues/shop/x.json"),)),
        database=Unknown("PostgreSQL at db.example:5432: connection refused.", NOW, "PostgreSQL at db.example:5432"),
        bucket=replace(BUCKET, object_lock=known("")),
        previous=known(replace(before, at=NOW - timedelta(days=90))),
    )
    digests = digests_of({file_name(1, ".json"): b"one"}, 1)
    found = examine(spoiled, [RISK])
    return audit_of(spoiled, 2, findings=found, before=digests, before_at=NOW - timedelta(days=90))


@pytest.mark.parametrize(("name", "write"), [("audit.md", markdown), ("audit.html", html)])
def test_the_report_is_the_golden_one(name: str, write: Callable[..., str]) -> None:
    """Whoever changes what auditors read sees it in full."""
    assert write([example()]) == (GOLDEN / name).read_text(encoding="utf-8")


def test_the_document_is_read_back_without_loss() -> None:
    """What is stored is what was found."""
    made = example()
    assert backup.load(PlanAudit, backup.dump(made), "it") == made


class Page(HTMLParser):
    """Collects tags that are open, and all that a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.active: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag != "meta":
            self.open.append(tag)
        if tag in ("script", "img", "link", "iframe", "object") or any(name.startswith("on") for name in values):
            self.active.append(tag)
        self.ids += [str(values["id"])] if "id" in values else []
        self.links += [str(values["href"])] if "href" in values else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_html_stands_alone() -> None:
    """It is well-formed, runs and fetches nothing, and its links lead to its own findings; what came from elsewhere is
    text."""
    text = html([example()])
    page = Page()
    page.feed(text)
    assert not page.open and not page.active
    assert set(page.links) <= {f"#{name}" for name in page.ids} and len(page.ids) == len(set(page.ids)) == len(CHECKS)
    assert "url(" not in text and "@import" not in text
    assert "&lt;nightly&gt;" in text and "<nightly>" not in text
    assert "@media print" in text


def test_an_audit_without_plans_says_so() -> None:
    """Both reports do, and do not look like success."""
    assert NO_PLANS in markdown([]) and NO_PLANS in html([])
    assert title_of([]) == "Backup audit: no plan was audited"


def stored(count: int) -> dict[str, bytes]:
    """The files of some audits, as they are made one after the other."""
    files: dict[str, bytes] = {}
    for number in range(1, count + 1):
        made = audit_of(facts(), number, before=digests_of(files, number - 1))
        new = {
            file_name(number, ".json"): backup.dump(made),
            file_name(number, ".html"): html([made]).encode(),
            file_name(number, ".md"): markdown([made]).encode(),
        }
        files |= new
        files[file_name(number, ".sha256")] = digest_list(digests_of(new, number))
    return files


def resealed(files: dict[str, bytes], number: int) -> dict[str, bytes]:
    """The same with a new list of digests, as somebody would make who knows of it."""
    return {**files, file_name(number, ".sha256"): digest_list(digests_of(files, number))}


def removed(files: dict[str, bytes], number: int) -> dict[str, bytes]:
    """The same without one audit."""
    return {name: data for name, data in files.items() if not name.startswith(f"{number:06}")}


def test_a_chain_that_nobody_touched_is_whole() -> None:
    """It tells the SHA-256 of the newest."""
    result = verify_chain("shop", stored(3))
    assert (result.problems, result.audits, result.newest, len(result.sha256)) == ((), 3, 3, 64)
    assert verify_chain("shop", {}).audits == 0


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("suffix", [".json", ".html", ".md"])
def test_a_changed_file_is_found(number: int, suffix: str) -> None:
    """Of any audit; and one that was given new digests, by the audit after it."""
    files = stored(3)
    name = file_name(number, suffix)
    changed = {**files, name: files[name].replace(b"shop", b"shOp")}
    assert verify_chain("shop", changed).problems
    again = resealed({**files, name: files[name] + b"\n"}, number)
    assert bool(verify_chain("shop", again).problems) == (number < 3)


@pytest.mark.parametrize("number", [1, 2])
def test_a_removed_audit_is_found(number: int) -> None:
    """Also if those after it were given other numbers."""
    files = removed(stored(3), number)
    assert any("was removed" in problem for problem in verify_chain("shop", files).problems)
    renamed = {}
    for name, data in files.items():
        old = int(name[:6])
        renamed[f"{old - 1 if old > number else old:06}{name[6:]}"] = data
    assert verify_chain("shop", renamed).problems


def test_an_inserted_audit_is_found() -> None:
    """One of another plan, and one that makes the next one's digests wrong."""
    files = stored(3)
    other = backup.dump(replace(audit_of(facts()), number=2, plan_name="other"))
    assert verify_chain("shop", resealed({**files, "000002.json": other}, 2)).problems
    assert verify_chain("shop", {**files, "note.txt": b""}).problems


def test_that_the_newest_is_gone_takes_a_digest_that_was_kept() -> None:
    """The chain alone cannot tell; with the SHA-256 of the newest it can."""
    files = stored(3)
    newest = verify_chain("shop", files).sha256
    cut = removed(files, 3)
    assert not verify_chain("shop", cut).problems
    assert any("removed or changed" in problem for problem in verify_chain("shop", cut, newest).problems)
    assert not verify_chain("shop", files, newest.upper()).problems


def test_the_page_has_every_check() -> None:
    """docs/audit.md has each with its title, severity, what it protects from and its remedy, in order."""
    page = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^### (BG\d+) (.+)$", page, re.MULTILINE)
    assert headings == [(check.id, check.title) for check in CHECKS]
    for check in CHECKS:
        about = (
            f"### {check.id} {check.title}\n\n{check.severity.value.capitalize()}. Protects from: {check.protects}\n"
        )
        assert about in page, check.id
        assert f"Remedy: {check.remedy}\n" in page, check.id
