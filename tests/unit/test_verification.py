"""The verdict over a backup: nothing passes that was not looked at, and what is wrong outranks what is unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.verification import (
    Evidence,
    Level,
    ObjectReading,
    ObjectState,
    ObjectVerdict,
    Verdict,
    Verification,
    evidence,
    is_fresh,
    judge,
    with_evidence,
)

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


NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
OLD = """{
  "format": 1, "backup_id": "20240601T190000Z-00af", "verdict": "%s", "verified_at": "2024-06-01T20:00:00Z",
  "seconds": 1.5, "bytes_read": 10, "files": 1,
  "objects": [{"key": "a", "state": "ok", "detail": ""}], "checks": []
}"""


def read(state: ObjectState = ObjectState.OK, level: Level = Level.CONSISTENT, at: datetime = NOON) -> ObjectVerdict:
    """An object in this state, read at this time and as far as this."""
    return ObjectVerdict(f"{state.value}-{level.value}", state, "", level, ObjectReading(at, "tag", files=2, pages=30))


def verification(*objects: ObjectVerdict, checks: tuple[Check, ...] = ()) -> Verification:
    """What these objects and checks of the content amount to."""
    return Verification(
        format=1,
        backup_id="20240601T190000Z-00af",
        verdict=judge(objects, checks),
        verified_at=NOON,
        seconds=1.0,
        bytes_read=10,
        files=1,
        objects=objects,
        checks=checks,
        evidence=evidence(objects, (), checks, "by its size", NOON),
    )


@pytest.mark.parametrize(
    ("objects", "level", "verdict"),
    [
        ([read()], Level.CONSISTENT, Verdict.VERIFIED),
        ([read(), read(level=Level.READABLE)], Level.READABLE, Verdict.READABLE),
        ([read(), read(ObjectState.LOCKED, Level.READABLE)], Level.READABLE, Verdict.READABLE),
        ([read(), ObjectVerdict("b", ObjectState.OK, "", Level.STORED)], Level.STORED, Verdict.UNKNOWN),
        ([read(), read(ObjectState.INCONSISTENT)], Level.READABLE, Verdict.DAMAGED),
        ([read(), read(ObjectState.CHANGED)], Level.STORED, Verdict.DAMAGED),
        ([read(), ObjectVerdict("b", ObjectState.MISSING, "", Level.STORED)], None, Verdict.DAMAGED),
        ([read(), ObjectVerdict("b", ObjectState.UNREADABLE, "", Level.STORED)], None, Verdict.UNKNOWN),
        ([], None, Verdict.UNKNOWN),
    ],
    ids=["all", "not inside", "locked", "not read", "inconsistent", "changed", "missing", "unreadable", "nothing"],
)
def test_the_level_is_as_high_as_all_objects_reach(
    objects: list[ObjectVerdict], level: Level | None, verdict: Verdict
) -> None:
    """And the verdict says what that level is worth."""
    found = verification(*objects)
    assert (found.level, found.verdict) == (level, verdict)
    assert [known.level for known in found.evidence] == [Level.STORED, Level.READABLE, Level.CONSISTENT]


def test_evidence_names_what_is_wrong_and_counts_what_is_right() -> None:
    """In the level that it belongs to; what comes after that is not known."""
    stored, readable, consistent = verification(read(), read(ObjectState.CHANGED)).evidence
    assert stored.status is CheckStatus.OK
    assert (readable.status, readable.detail) == (CheckStatus.FAILED, "not right: changed-consistent")
    assert (consistent.status, consistent.detail) == (CheckStatus.UNKNOWN, "changed-consistent is changed")
    *_, consistent = verification(read(), read(at=NOON - DAY)).evidence
    assert "4 files" in consistent.detail
    assert "60 pages" in consistent.detail
    assert consistent.at == NOON - DAY
    failed = Check("identity", CheckStatus.FAILED, "system 5")
    *_, consistent = verification(read(), checks=(failed,)).evidence
    assert (consistent.status, consistent.detail) == (CheckStatus.FAILED, "not right: identity")


def test_a_drill_adds_the_highest_level() -> None:
    """Also to what nobody could look into here; one that failed is a problem, and leaves what is known before it."""
    passed = Evidence(Level.RESTORED, CheckStatus.OK, NOON, "PostgreSQL 18.6 ran on it")
    failed = Evidence(Level.RESTORED, CheckStatus.FAILED, NOON, "the extension postgis is missing")
    sound, locked = verification(read()), verification(read(ObjectState.LOCKED, Level.READABLE))
    assert with_evidence(sound, passed).level is Level.RESTORED
    assert with_evidence(locked, passed).level is Level.RESTORED
    again = with_evidence(with_evidence(sound, passed), failed)
    assert (again.level, again.verdict) == (Level.CONSISTENT, Verdict.VERIFIED)
    assert again.problems == ["restored: the extension postgis is missing"]
    damaged = verification(read(), read(ObjectState.CHANGED))
    assert with_evidence(damaged, passed).level is Level.STORED


@pytest.mark.parametrize(
    ("text", "level"),
    [("verified", Level.CONSISTENT), ("readable", Level.READABLE), ("damaged", None), ("unknown", None)],
)
def test_what_was_stored_before_there_were_levels_is_read(text: str, level: Level | None) -> None:
    """Its verdict says how far it looked; an age it has, too, but none of its objects is fresh."""
    old = backup.load(Verification, (OLD % text).encode(), "verifications/x.json")
    assert old.level is level
    assert old.read_at == (old.verified_at if level else None)
    assert not is_fresh(old.objects[0], Level.READABLE, 10000 * DAY, NOON)


def test_what_is_new_is_passed_over_by_older_releases() -> None:
    """The fields that they know are as they were, so the format stays the same."""
    stored = json.loads(backup.dump(verification(read())))
    assert stored["format"] == 1
    assert stored["verdict"] == "verified"
    assert stored["objects"][0]["state"] == "ok"
    assert backup.load(Verification, json.dumps(stored).encode(), "x") == verification(read())
    assert backup.load(Verification, json.dumps({**stored, "of_the_future": 1}).encode(), "x") == verification(read())


@pytest.mark.parametrize(
    ("found", "fresh"),
    [
        (read(at=NOON - 7 * DAY), True),
        (read(at=NOON - 7 * DAY - timedelta(seconds=1)), False),
        (read(at=NOON + DAY), False),
        (read(ObjectState.CHANGED), False),
        (read(level=Level.READABLE), False),
        (replace(read(), reading=None), False),
    ],
    ids=["young", "old", "of the future", "wrong", "not inside", "never read"],
)
def test_only_what_was_read_lately_far_enough_and_right_is_not_read_again(found: ObjectVerdict, fresh: bool) -> None:
    """A clock that was wrong makes nothing fresh."""
    assert is_fresh(found, Level.CONSISTENT, 7 * DAY, NOON) is fresh
    assert not is_fresh(found, Level.CONSISTENT, None, NOON)


@given(st.lists(st.builds(read, st.sampled_from(ObjectState), st.sampled_from(Level)), min_size=1))
def test_level_and_verdict_never_disagree(objects: list[ObjectVerdict]) -> None:
    """What is verified is consistent, what is readable just that, and damage is proven at no level that it is at."""
    found = verification(*objects)
    assert (found.verdict is Verdict.VERIFIED) == found.reaches(Level.CONSISTENT)
    assert (found.verdict is Verdict.READABLE) <= (found.level is Level.READABLE)
    if ObjectState.MISSING in {o.state for o in objects}:
        assert found.level is None
