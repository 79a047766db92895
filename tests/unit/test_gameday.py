"""What is kept of a game day says what happened."""

from __future__ import annotations

from datetime import datetime, timezone

from gameday.summary import Outcome, Played, Summary, as_markdown

BEGAN = datetime(2026, 11, 24, 9, 30, tzinfo=timezone.utc)
DONE = Played("The stop", Outcome.DONE, 12.4, 1, 0.003)
SKIPPED = Played("The lost table", Outcome.SKIPPED, 100.0, 0, None)


def test_only_who_did_every_act_has_passed() -> None:
    """One skipped act is enough not to pass, and both forms of the summary say so."""
    passed = Summary("Ada", BEGAN, False, (DONE,))
    failed = Summary("Ada", BEGAN, False, (DONE, SKIPPED))
    assert passed.passed
    assert passed.to_dict()["passed"]
    assert "every act was done; played by the trainee" in as_markdown(passed)
    assert not failed.passed
    assert not failed.to_dict()["passed"]
    assert "Result: not every act was done" in as_markdown(failed)


def test_the_page_has_trainee_date_and_each_act() -> None:
    """Name, day, and for each act its outcome, time and hints; a run without a person is never taken for one's own."""
    page = as_markdown(Summary("Ada", BEGAN, True, (DONE, SKIPPED)))
    assert "* Trainee: Ada\n* Date: 2026-11-24 09:30 UTC" in page
    assert "played without a person" in page
    assert "| 1 | The stop | done | 12 s | 1 |\n| 2 | The lost table | skipped | 100 s | 0 |" in page
