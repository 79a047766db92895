"""A runbook says all that it takes, says first what is missing, and no name or secret of anybody gets out of place."""

from __future__ import annotations

import html as html_library
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core import DrillCheck, DrillPolicy
from airflow_backup_guard.core.backup import Tablespace
from airflow_backup_guard.core.fleet import Problem
from airflow_backup_guard.core.runbook import by_hand
from airflow_backup_guard.core.runbook.facts import Facts
from airflow_backup_guard.core.runbook.text import html, markdown
from airflow_backup_guard.core.shell import command, database_option, quoted
from airflow_backup_guard.core.verification import Verdict
from tests.unit.runbook_facts import BEFORE, DRILL, NEWEST, PLAN, good, poor, record_at, status_of, verified
from tests.unit.test_audit_report import Page

GOLDEN = Path(__file__).parent / "golden"
FORMAT = Path(__file__).resolve().parents[2] / "docs" / "format.md"


@pytest.mark.parametrize(("name", "facts"), [("runbook", good()), ("runbook_poor", poor())])
def test_the_runbook_is_the_golden_one(name: str, facts: Facts) -> None:
    """Whoever changes what people read in an emergency sees it in full."""
    assert markdown(facts) == (GOLDEN / f"{name}.md").read_text(encoding="utf-8")
    assert html(facts) == (GOLDEN / f"{name}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("facts", [good(), poor()])
def test_the_html_stands_alone(facts: Facts) -> None:
    """It is well-formed, runs and fetches nothing, and is fit to print."""
    text = html(facts)
    page = Page()
    page.feed(text)
    assert not page.open and not page.active and not page.links
    assert "url(" not in text and "@import" not in text and "@media print" in text


def test_the_way_by_hand_is_that_of_the_page() -> None:
    """The commands that tests run as docs/format.md has them are those of the runbook, in the same order."""
    page = re.findall(r"^```sh\n(.*?)^```$", FORMAT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert page == [
        by_hand.FROM_S3, by_hand.COMPARE, by_hand.UNPACK, by_hand.UNPACK_TABLESPACES, by_hand.CHECK, by_hand.START,
        by_hand.LOOK, by_hand.STOP,
    ]  # fmt: skip


def gaps(**values: Any) -> list[str]:
    """What a runbook begins with whose plan stands so."""
    return [gap.said for gap in good(status=status_of(PLAN, **values)).gaps]


def test_nothing_is_missing_of_a_good_plan() -> None:
    """Then the page does not begin with a list of gaps."""
    assert good().gaps == ()
    assert "missing or wrong" not in markdown(good())


def test_what_is_missing_comes_first() -> None:
    """No backup, an old one, damage, what cannot be read, a drill that failed or was slow, and nobody to call."""
    bad = replace(DRILL, passed=False, rto_seconds=None)
    assert gaps(drill=None) == ["No restore was ever tried: how long it takes, and whether it works, is not known."]
    assert gaps(drill=bad)[0].startswith("The drill failed")
    assert gaps(drill=replace(DRILL, rto_seconds=9000.0)) == ["The last drill took 2h 30min, and the RTO is 2h."]
    assert gaps(damaged=("20261122T013000Z-0000",)) == ["Damaged, and not to be restored: 20261122T013000Z-0000."]
    assert gaps(problems=(Problem("It cannot be read.", ""),)) == ["It cannot be read."]
    late = gaps(recovery_point=BEFORE.snapshot.taken_at)
    assert late == ["The last verified backup is 1d 7h 30min old, and the RPO is 1d 2h."]
    alone = good(attrs.evolve(PLAN, contacts=()))
    assert [gap.said for gap in alone.gaps] == ["The plan names nobody to call."]
    nothing = good(backup=None, before=None, verified=False)
    assert nothing.gaps[0].said == "There is no backup that could be restored."
    page = markdown(nothing)
    assert page.index("There is no backup that could be restored") < page.index("## Whom to call")
    assert "backup-guard restore" not in page and "## Never" in page


def test_a_newer_backup_is_named_with_what_is_known_of_it() -> None:
    """One that was not verified may be worth a try, one that is damaged is not."""
    newer = replace(verified(NEWEST), backup_id="20261124T083000Z-0000", verdict=None)
    page = markdown(good(status=status_of(PLAN, newest=newer)))
    assert "* newer, and not verified: 20261124T083000Z-0000" in page
    page = markdown(good(status=status_of(PLAN, newest=replace(newer, verdict=Verdict.DAMAGED))))
    assert "* newer, and DAMAGED: 20261124T083000Z-0000" in page


def test_times_are_for_the_backup_that_is_restored() -> None:
    """The restore of twice as much takes twice as long, its recovery does not; nothing is said of a drill that never
    came to an answer, or was none."""
    assert "* both: about 10min 12s" in markdown(good())
    assert "* both: about 5min 12s" in markdown(good(drilled_size=None))
    for drill in (None, replace(DRILL, rto_seconds=None, stages=DRILL.stages[:1])):
        assert "at 100MB/s" in markdown(good(status=status_of(PLAN, drill=drill)))


NASTY = st.text(
    st.sampled_from(list("a -=/<>&\"'`$(){}[]*_|;#!\\\n\t\x1b\x7f~é漢")), min_size=1, max_size=20
) | st.sampled_from(["$(reboot)", "`reboot`", "```\n# x", "<script>alert(1)</script>", "'; DROP TABLE x; --", "[a](b)"])


@settings(max_examples=40)
@given(st.lists(NASTY, min_size=1, max_size=6))
def test_bash_takes_each_word_as_it_is(words: list[str]) -> None:
    """Whatever a name holds, a command has it as one word and does nothing else with it; no name breaks a line."""
    line = command("printf", "%s\\0", *words)
    assert len(line.replace(" \\\n    ", "").splitlines()) == 1
    done = subprocess.run(["bash", "-euc", line], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


@given(NASTY)
def test_no_name_becomes_a_connection_string(name: str) -> None:
    """What PostgreSQL's programs would read as keywords or a URI is given as the value of one keyword."""
    option = database_option(name).removeprefix("--dbname=")
    if option != name:
        value = re.fullmatch(r"dbname='((?:[^'\\]|\\.)*)'", option, re.DOTALL)
        assert value is not None and re.sub(r"\\(.)", r"\1", value[1], flags=re.DOTALL) == name
    assert ("=" not in option and "://" not in option) or option.startswith("dbname='")


USUAL = good(
    attrs.evolve(
        PLAN, drill=DrillPolicy(checks={"a": DrillCheck(sql="SELECT 1")}, extensions=["x"]), contacts=[("a", "b")]
    ),
    before=None,
    status=status_of(PLAN, problems=(Problem("x", "y"),)),
)


@settings(max_examples=40)
@given(NASTY, NASTY, NASTY)
def test_no_name_gets_out_of_its_place(database: str, location: str, contact: str) -> None:
    """The page has the same headings, blocks and tags whatever databases, tablespaces and people are called, and its
    blocks are commands that bash can read."""
    checks = {"orders": DrillCheck(database=database if database.strip() else "a", sql=f"SELECT '{contact}'")}
    contacts = (
        [(contact, location)] if all(t.isprintable() and t.strip() for t in (contact, location)) else [("a", "b")]
    )
    drill = DrillPolicy(checks=checks, extensions=[database], superuser=contact if contact.strip() else "a")
    plan = attrs.evolve(PLAN, repository="s3://a@b-c/it's-$(reboot)-<b>", drill=drill, contacts=contacts)
    spaces = (Tablespace(16395, database, f"/{location}", 1),)
    record = record_at(NEWEST.snapshot.taken_at, plan, tablespaces=spaces)
    facts = good(plan, backup=record, before=None, status=status_of(plan, problems=(Problem(location, contact),)))
    assert tags(html(facts)) == tags(html(USUAL))
    assert outline(markdown(facts)) == outline(markdown(USUAL))
    code = "\n".join(re.findall(r"<pre>(.*?)</pre>", html(facts), re.DOTALL))
    subprocess.run(["bash", "-nc", html_library.unescape(code)], capture_output=True, check=True)


def tags(page: str) -> list[str]:
    """All tags of a page, in order."""
    return re.findall(r"<[^>]+>", page.partition("<body>")[2])


def outline(page: str) -> list[str]:
    """Headings of Markdown, and where its blocks of code begin, with those themselves left out."""
    text = re.sub(r"^(`{3,})(\w+)\n.*?^\1$", r"\2", page, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"(?<!\\)[`<>]", text)
    return re.findall(r"^#+ .*$|^(?:sh|text)$", text, re.MULTILINE)


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "text", [f"host=db password={SECRET}", f"host=db password='{SECRET}' x", f"postgresql://guard:{SECRET}@db/shop"]
)
def test_no_password_is_in_it(text: str) -> None:
    """Wherever one was written by mistake: a query, a name, a problem, a place; and a plan's contacts refuse it."""
    checks = {"other": DrillCheck(database=text, sql=f"SELECT * FROM dblink($$ {text} $$)")}
    plan = attrs.evolve(PLAN, drill=DrillPolicy(checks=checks, extensions=[text], superuser=text))
    record = record_at(NEWEST.snapshot.taken_at, plan, tablespaces=(Tablespace(16395, text, f"/{text}", 1),))
    status = status_of(plan, problems=(Problem(text, text),), damaged=(text,))
    facts = good(plan, backup=record, status=status)
    for page in (markdown(facts), html(facts), "\n".join(map(str, facts.gaps))):
        assert SECRET not in page and "***" in page
    with pytest.raises(ValueError, match="contacts") as refused:
        attrs.evolve(PLAN, contacts=[("Alice", text)])
    assert SECRET not in str(refused.value)


def test_a_word_is_quoted_after_its_option() -> None:
    """It is what people are used to read."""
    assert quoted("--command=SELECT 1") == "--command='SELECT 1'"
    assert quoted("plain") == "plain"
