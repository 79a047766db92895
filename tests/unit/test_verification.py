"""The verdict over a backup: nothing passes that was not looked at, and what is wrong outranks what is unknown."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.verification import ObjectState, ObjectVerdict, Verdict, Verification, judge

WRONG = [ObjectState.MISSING, ObjectState.RESIZED, ObjectState.CHANGED, ObjectState.INCONSISTENT]


def judged(states: list[ObjectState], answers: list[CheckStatus]) -> Verdict:
    """The verdict over objects in these states and checks with these answers."""
    return judge([ObjectVerdict("k", state) for state in states], [Check("c", answer, "") for answer in answers])


def test_all_right_is_verified() -> None:
    """Every object and every check; a warning is for people, and no reason to doubt."""
    assert judged([ObjectState.OK] * 3, [CheckStatus.OK, CheckStatus.WARNING]) is Verdict.VERIFIED


@pytest.mark.parametrize("state", WRONG)
def test_one_wrong_object_is_damage(state: ObjectState) -> None:
    """Among any number of right ones."""
    assert judged([ObjectState.OK, state, ObjectState.OK], [CheckStatus.OK]) is Verdict.DAMAGED


def test_one_failed_check_is_damage() -> None:
    """Even if every object is as it was written: a segment may never have been written."""
    assert judged([ObjectState.OK], [CheckStatus.OK, CheckStatus.FAILED]) is Verdict.DAMAGED


def test_what_was_not_delivered_is_unknown() -> None:
    """A repository that does not answer says nothing about the backup."""
    assert judged([ObjectState.OK, ObjectState.UNREADABLE], [CheckStatus.OK]) is Verdict.UNKNOWN
    assert judged([ObjectState.LOCKED, ObjectState.UNREADABLE], [CheckStatus.OK]) is Verdict.UNKNOWN


def test_a_check_without_answer_is_unknown() -> None:
    """It is never a pass."""
    assert judged([ObjectState.OK], [CheckStatus.OK, CheckStatus.UNKNOWN]) is Verdict.UNKNOWN


def test_encrypted_content_without_identity_is_readable() -> None:
    """Its bytes are right, and what needs a look inside has no answer for that reason."""
    assert judged([ObjectState.OK, ObjectState.LOCKED], [CheckStatus.OK, CheckStatus.UNKNOWN]) is Verdict.READABLE


def test_nothing_read_is_no_pass() -> None:
    """A backup of no objects has not been verified by reading all of them."""
    assert judged([], []) is Verdict.UNKNOWN
    assert judged([], [CheckStatus.OK]) is Verdict.UNKNOWN


@given(st.lists(st.sampled_from(ObjectState), min_size=1), st.lists(st.sampled_from(CheckStatus)))
def test_the_worst_decides(states: list[ObjectState], answers: list[CheckStatus]) -> None:
    """Damage is never hidden, and only what is all right is verified."""
    verdict = judged(states, answers)
    assert (verdict is Verdict.DAMAGED) == (bool(set(states) & set(WRONG)) or CheckStatus.FAILED in answers)
    assert (verdict is Verdict.VERIFIED) == (
        set(states) == {ObjectState.OK} and set(answers) <= {CheckStatus.OK, CheckStatus.WARNING}
    )
    if verdict is Verdict.READABLE:
        assert set(states) <= {ObjectState.OK, ObjectState.LOCKED}


def test_every_problem_is_one_line() -> None:
    """What is right is not listed; each other thing tells what it is and what is wrong with it."""
    verification = Verification(
        format=1,
        backup_id="20240601T190000Z-00af",
        verdict=Verdict.DAMAGED,
        verified_at=datetime(2024, 6, 1, tzinfo=timezone.utc),
        seconds=1.0,
        bytes_read=10,
        files=1,
        objects=(ObjectVerdict("a", ObjectState.OK), ObjectVerdict("b", ObjectState.RESIZED, "9 bytes are stored")),
        checks=(
            Check("snapshot", CheckStatus.OK, "fine"),
            Check("WAL", CheckStatus.FAILED, "a segment is missing.", "Use another backup."),
        ),
    )
    assert verification.problems == ["b: resized, 9 bytes are stored", "WAL: a segment is missing. Use another backup."]
