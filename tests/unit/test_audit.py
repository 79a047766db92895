"""Each check of an audit fails for its own reason and no other, and what is not known never passes."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import (
    AcceptedRisk,
    AlertRules,
    BackupPlan,
    LoadLimits,
    OffPeakCalendar,
    RetentionPolicy,
    WatchdogPolicy,
)
from airflow_backup_guard.core.audit.catalogue import CHECKS
from airflow_backup_guard.core.audit.examine import compared, examine, parse_accepted, with_accepted
from airflow_backup_guard.core.audit.facts import Bucket, DecryptionProof, Facts, PublicAccess, RogueSeen, Slot, Stock
from airflow_backup_guard.core.audit.of_change import differences, plan_digest
from airflow_backup_guard.core.audit.of_database import SUPPORT_ENDS
from airflow_backup_guard.core.audit.values import Absent, Change, Fact, Unknown, Verdict
from airflow_backup_guard.core.backup import Impact, Latency
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.errors import InvalidPlan
from airflow_backup_guard.postgres.check import OLDEST_MAJOR
from tests.unit.audit_facts import (
    BUCKET,
    DATABASE,
    DRILL,
    IMPACT,
    NOW,
    PLAN,
    RUN,
    START,
    SUMMARY,
    TEST_MESSAGE,
    audit_of,
    facts,
    known,
    open_checks,
)

DAY = timedelta(days=1)
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
FAIL, UNKNOWN = Verdict.FAIL, Verdict.UNKNOWN


def run_at(began: datetime, **values: Any) -> Fact[Any]:
    """One run that began then and took an hour."""
    return known((replace(RUN, **{"started_at": began, "ended_at": began + timedelta(hours=1), **values}),))


def impact(throttled: float = 0.0, **seconds_at: float) -> Impact:
    """What the load was, for how many seconds."""
    return Impact(Latency(0), Latency(0), Latency(0), seconds_throttled=throttled, seconds_at=seconds_at)


def bucket(**spoiled: Any) -> Bucket:
    """The good bucket, but for one value."""
    return replace(BUCKET, **{name: known(value) for name, value in spoiled.items()})


def database(**spoiled: Any) -> Fact[Any]:
    """The good server, but for what is given."""
    return known(replace(DATABASE, **spoiled))


def without_check(name: str, status: CheckStatus = CheckStatus.FAILED) -> tuple[Check, ...]:
    """The preflight's answers, one of them bad."""
    return tuple(replace(one, status=status, detail="Not so.") if one.name == name else one for one in DATABASE.checks)


def plan(**values: Any) -> BackupPlan:
    """The good plan, but for what is given."""
    return attrs.evolve(PLAN, **values)


SPOILED: list[tuple[str, Facts, dict[str, Verdict]]] = [
    ("it ran at noon", facts(runs=run_at(NOON)), {"BG001": FAIL}),
    ("no windows", facts(plan(calendar=OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC"))), {"BG001": FAIL}),
    ("it went on", facts(runs=run_at(NOON.replace(hour=4, minute=30))), {"BG002": FAIL}),
    ("it has no end", facts(runs=run_at(NOON.replace(hour=4), ended_at=None)), {"BG002": FAIL}),
    ("it did not give way", facts(runs=known((replace(RUN, impact=impact(high=60, critical=9)),))), {"BG003": FAIL}),
    ("unknown load", facts(runs=known((replace(RUN, impact=impact(unknown=60)),))), {"BG003": FAIL}),
    ("no account of the load", facts(runs=known((replace(RUN, impact=impact()),))), {"BG003": UNKNOWN}),
    ("no RPO", facts(plan(rpo=None)), {"BG004": FAIL}),
    ("no verified backup", facts(recovery_point=known(None)), {"BG004": FAIL}),
    ("too old", facts(recovery_point=known(NOW - 2 * DAY)), {"BG004": FAIL}),
    ("no drill", facts(drills=known(())), {"BG005": FAIL}),
    ("an old drill", facts(drills=known((replace(DRILL, ended_at=START - DAY),))), {"BG005": FAIL}),
    ("a failed drill", facts(drills=known((replace(DRILL, passed=False),))), {"BG005": FAIL}),
    ("no RTO", facts(plan(rto=None)), {"BG006": FAIL}),
    ("too slow", facts(drills=known((replace(DRILL, rto_seconds=7201.0),))), {"BG006": FAIL}),
    ("overdue", facts(stock=known(Stock((SUMMARY,), overdue=("x",)))), {"BG007": FAIL}),
    ("no retention", facts(plan(retention=RetentionPolicy())), {"BG007": FAIL}),
    ("an unreadable record", facts(stock=known(Stock((SUMMARY,), (), ("x",)))), {"BG007": UNKNOWN}),
    ("no channels", facts(plan(alerts=AlertRules())), {"BG008": FAIL}),
    ("no test", facts(deliveries=known(())), {"BG008": FAIL}),
    ("an old test", facts(deliveries=known((replace(TEST_MESSAGE, at=START - DAY),))), {"BG008": FAIL}),
    (
        "a real alert is no test",
        facts(deliveries=known((replace(TEST_MESSAGE, transition="raised"),))),
        {"BG008": FAIL},
    ),
    ("a broken channel", facts(deliveries=known((replace(TEST_MESSAGE, problem="404"),))), {"BG008": FAIL}),
    ("no threshold of writes", facts(plan(limits=LoadLimits())), {"BG009": FAIL}),
    ("nothing critical", facts(plan(limits=LoadLimits(commit_latency="20ms", wal_rate="1MB/s"))), {"BG009": FAIL}),
    ("a rogue", facts(rogues=known((RogueSeen(NOW - DAY, "pg_dump", "rogues/shop/x.json"),))), {"BG010": FAIL}),
    ("a superuser", facts(database=database(superuser=True, may_end=True)), {"BG011": FAIL}),
    ("too much", facts(database=database(surplus=("CREATEDB",))), {"BG011": FAIL}),
    ("may end others", facts(database=database(may_end=True)), {"BG011": FAIL}),
    ("no REPLICATION", facts(database=database(checks=without_check("replication privilege"))), {"BG012": FAIL}),
    ("may not end", facts(plan(watchdog=WatchdogPolicy(policy="terminate"))), {"BG012": FAIL}),
    ("no TLS", facts(database=database(tls="")), {"BG013": FAIL}),
    ("http", facts(bucket=bucket(endpoint="http://s3.example.com")), {"BG014": FAIL}),
    ("no checksums", facts(database=database(checks=without_check("data checksums"))), {"BG015": FAIL}),
    ("no slot limit", facts(database=database(checks=without_check("slot WAL limit"))), {"BG016": FAIL}),
    ("an orphan", facts(database=database(slots=(Slot("old", False, False, 1 << 30, None),))), {"BG017": FAIL}),
    ("idle for days", facts(database=database(slots=(Slot("old", False, False, 0, NOW - DAY),))), {"BG017": FAIL}),
    ("older than any that we know", facts(database=database(server_version=140020)), {"BG018": UNKNOWN}),
    ("not heard of", facts(database=database(server_version=990001)), {"BG018": UNKNOWN}),
    ("an old worker", facts(runs=known((replace(RUN, written_by="airflow-backup-guard 0.0.9"),))), {"BG019": FAIL}),
    ("public", facts(bucket=bucket(public_access=PublicAccess(("BlockPublicAcls",), ("READ",)))), {"BG020": FAIL}),
    ("not encrypted", facts(bucket=bucket(encryption="")), {"BG021": FAIL}),
    ("no versions", facts(bucket=bucket(versioning=False)), {"BG022": FAIL}),
    ("no locks", facts(bucket=bucket(object_lock="")), {"BG023": FAIL}),
    ("uploads stay", facts(bucket=bucket(incomplete_uploads_days=None)), {"BG024": FAIL}),
    ("in clear", facts(stock=known(Stock((replace(SUMMARY, encrypted=False),)))), {"BG025": FAIL}),
    ("no key", facts(decryption=known(DecryptionProof(None))), {"BG026": FAIL}),
    ("no runbook", facts(runbook=known(None)), {"BG029": FAIL}),
    ("an old runbook", facts(runbook=known(DRILL.ended_at - timedelta(minutes=6))), {"BG029": FAIL}),
    ("an old proof", facts(decryption=known(DecryptionProof(START - DAY, "x", "x"))), {"BG026": FAIL}),
    ("another plan", facts(runs=known((replace(RUN, plan=plan(max_rate="1GB/s").to_dict()),))), {"BG027": FAIL}),
    ("a changed plan", facts(previous=known(audit_of(facts(plan(rpo="1h"))))), {"BG028": FAIL}),
]


def test_a_set_up_that_keeps_its_promises_passes() -> None:
    """All checks pass, but for the comparison with an audit that there is not."""
    found = examine(facts())
    assert open_checks(found) == {}
    assert [one.check for one in found if one.verdict is not Verdict.PASS] == ["BG028"]
    assert audit_of(facts()).good


@pytest.mark.parametrize(("spoiled", "expected"), [pytest.param(f, e, id=name) for name, f, e in SPOILED])
def test_what_is_wrong_fails_its_check_and_no_other(spoiled: Facts, expected: dict[str, Verdict]) -> None:
    """One thing is not as it should be, and exactly one check says so, with evidence and a remedy."""
    found = examine(spoiled)
    assert open_checks(found) == expected
    for finding in found:
        assert finding.evidence and all(one.said and one.source for one in finding.evidence)
        assert bool(finding.remedy) == finding.verdict.is_open
    assert not audit_of(spoiled).good


def test_every_check_was_seen_to_fail() -> None:
    """No check of the catalogue is one that always passes; their ids are in order and used once."""
    seen = {check for _, _, expected in SPOILED for check in expected}
    assert [check.id for check in CHECKS] == [f"BG{number:03}" for number in range(1, len(CHECKS) + 1)]
    assert seen == {check.id for check in CHECKS}


FACTS = [field.name for field in fields(Facts) if field.name not in ("plan", "start", "end", "version", "bucket")]
SETTINGS = [field.name for field in fields(Bucket)]


@given(st.sets(st.sampled_from([*FACTS, *SETTINGS]), min_size=1), st.booleans())
def test_what_cannot_be_read_is_never_a_pass(lost: set[str], gone: bool) -> None:
    """Whatever facts are missing, the checks about them are unknown with the reason, or not applicable where there is
    no such thing; all others are as they were."""
    nothing: Fact[Any] = Absent("why", NOW, "where") if gone else Unknown("why", NOW, "where")
    settings = replace(BUCKET, **dict.fromkeys(lost & set(SETTINGS), nothing))
    spoiled = facts(bucket=settings, **dict.fromkeys(lost & set(FACTS), nothing))  # type: ignore[arg-type]
    expected = Verdict.NOT_APPLICABLE if gone else UNKNOWN
    before = {one.check: one for one in examine(facts())}
    touched = 0
    for check, found in zip(CHECKS, examine(spoiled), strict=True):
        if check.fact(spoiled) is nothing:
            touched += 1
            assert (found.verdict, found.said) == (expected, "why")
        else:
            assert found == before[check.id]
    assert touched >= len(lost)


def test_no_run_is_unknown() -> None:
    """A period without a run proves nothing of runs."""
    assert open_checks(examine(facts(runs=known(())))) == dict.fromkeys(
        ("BG001", "BG002", "BG003", "BG019", "BG027"), UNKNOWN
    )


def test_a_calendar_that_could_not_be_read_is_unknown() -> None:
    """A run inside of the windows, while nobody knows what a source forbade then, neither passes nor fails."""
    calendar = OffPeakCalendar.parse("daily 01:00-05:00; except https://example.com/busy.ics", tz="UTC")
    assert open_checks(examine(facts(plan(calendar=calendar)))) == {"BG001": UNKNOWN}
    assert open_checks(examine(facts(plan(calendar=calendar), runs=run_at(NOON))))["BG001"] is FAIL


def test_a_preflight_that_ended_early_leaves_its_questions_unknown() -> None:
    """What it did not come to is not taken for good."""
    failed = Check("version", CheckStatus.FAILED, "PostgreSQL 9 is too old.")
    found = examine(facts(database=database(checks=(failed,))))
    assert open_checks(found) == {"BG012": UNKNOWN, "BG015": UNKNOWN, "BG016": UNKNOWN}


def test_support_ends_on_its_day() -> None:
    """On the day of the final release a version is supported, on the next it is not; all that we back up are known."""
    assert min(SUPPORT_ENDS) == OLDEST_MAJOR
    last = datetime.combine(SUPPORT_ENDS[15], datetime.min.time(), timezone.utc)
    old = database(server_version=150018)
    for moment, verdict in ((last, Verdict.PASS), (last + DAY, FAIL)):
        found = {one.check: one for one in examine(replace(facts(database=old), end=moment))}
        assert found["BG018"].verdict is verdict


def test_slots_that_are_in_use_or_ours_are_no_orphans() -> None:
    """A temporary slot, our own, and one whose reader left a minute ago are left in peace."""
    slots = (
        Slot("a", False, True, 0, None),
        Slot("backup_guard", False, False, 0, None),
        Slot("b", False, False, 0, NOW - timedelta(minutes=1)),
    )
    assert open_checks(examine(facts(database=database(slots=slots)))) == {}


def test_a_backup_that_somebody_removed_is_missed() -> None:
    """The last audit saw it, the retention keeps it, and it is gone; one that the retention lets go is not missed."""
    yesterday = replace(SUMMARY, backup_id="20261123T013000Z-a98c", taken_at=SUMMARY.taken_at - DAY)
    long_ago = replace(SUMMARY, backup_id="20261001T013000Z-a98c", taken_at=SUMMARY.taken_at - 54 * DAY)
    week = [
        replace(SUMMARY, backup_id=f"202611{24 - n:02}T013000Z-a98c", taken_at=SUMMARY.taken_at - n * DAY)
        for n in range(8)
    ]
    before = audit_of(facts(stock=known(Stock((*week, yesterday, long_ago)))))
    kept = known(Stock(tuple(one for one in week if one.backup_id != yesterday.backup_id)))
    found = {one.check: one for one in examine(facts(stock=kept, previous=known(before)))}
    assert found["BG007"].verdict is FAIL and yesterday.backup_id in found["BG007"].said
    whole = {one.check: one for one in examine(facts(stock=known(Stock(tuple(week))), previous=known(before)))}
    assert whole["BG007"].verdict is Verdict.PASS


def test_a_little_time_over_the_limits_is_no_failure() -> None:
    """From a sample to the pace that answers it passes a moment."""
    assert open_checks(examine(facts(runs=known((replace(RUN, impact=impact(high=4)),))))) == {}
    held = replace(RUN, impact=impact(throttled=55, high=60))
    assert open_checks(examine(facts(runs=known((held,))))) == {}


def test_a_runbook_may_be_dated_by_another_clock() -> None:
    """The store's and the worker's may differ by some minutes, and without any drill a runbook of any age will do."""
    for found in (
        facts(runbook=known(DRILL.ended_at - timedelta(minutes=4))),
        facts(runbook=known(START), drills=known(())),
    ):
        assert "BG029" not in open_checks(examine(found))


def test_findings_are_new_fixed_or_still_open() -> None:
    """Compared with the last audit; without one there is nothing to compare with."""
    bad, good = examine(facts(rogues=known((RogueSeen(NOW, "x", "x"),)))), examine(facts())
    assert {one.change for one in bad} == {None}

    def of_rogues(now: Any, then: Any) -> Change | None:
        return next(one.change for one in compared(now, then) if one.check == "BG010")

    assert of_rogues(bad, good) is Change.NEW
    assert of_rogues(good, bad) is Change.FIXED
    assert of_rogues(bad, bad) is Change.STILL_OPEN
    assert of_rogues(good, good) is None


def test_an_accepted_risk_covers_until_its_last_day() -> None:
    """Then it fails again, and says whose it was. It covers its own check and plan, and nothing that is well."""
    found = examine(facts(bucket=bucket(object_lock="")))
    today = NOW.date()
    risk = AcceptedRisk("BG023", "alice", today, "moving", "shop")

    def problems(*risks: AcceptedRisk) -> list[str]:
        return [one.check for one in with_accepted(found, "shop", risks, today) if one.is_problem]

    assert problems() == ["BG023"]
    assert problems(risk) == problems(replace(risk, plan=None)) == []
    assert problems(replace(risk, plan="other")) == problems(replace(risk, check="BG022")) == ["BG023"]
    over = replace(risk, until=today - DAY)
    assert problems(over) == ["BG023"]
    assert problems(over, risk) == []
    (finding,) = [one for one in with_accepted(found, "shop", [over], today) if one.expired]
    assert finding.check == "BG023" and finding.expired == over
    everything = [replace(risk, check=check.id) for check in CHECKS]
    assert [one.check for one in with_accepted(found, "shop", everything, today) if one.accepted] == ["BG023"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"check": "BG999"}, "accepted.check"),
        ({"owner": " "}, "accepted.owner"),
        ({"reason": 1}, "accepted.reason"),
        ({"until": "soon"}, "accepted.until"),
        ({"until": None}, "accepted.until"),
        ({"plan": 3}, "accepted.plan"),
        ({"severity": "none"}, "accepted"),
    ],
)
def test_a_risk_needs_an_owner_a_last_day_and_a_reason(change: dict[str, Any], field: str) -> None:
    """What is missing or wrong is refused by name."""
    risk = {"check": "BG023", "owner": "alice", "until": "2027-01-31", "reason": "moving"}
    (parsed,) = parse_accepted([risk])
    assert parsed == AcceptedRisk("BG023", "alice", date(2027, 1, 31), "moving")
    assert parse_accepted([parsed]) == (parsed,)
    with pytest.raises(InvalidPlan) as refused:
        parse_accepted([{**risk, **change}])
    assert refused.value.field == field


def test_the_digest_of_a_plan_is_of_what_it_says() -> None:
    """The order of its fields is no matter, any value is."""
    values = PLAN.to_dict()
    assert plan_digest(values) == plan_digest(dict(reversed(values.items())))
    assert plan_digest(values) != plan_digest(plan(rpo="27h").to_dict())


def test_plans_differ_in_what_they_promise() -> None:
    """What an older release did not write is its default, and the command line names no connection."""
    values = PLAN.to_dict()
    older = {name: value for name, value in values.items() if name != "window_first"}
    assert differences(older, values) == []
    assert differences({**values, "connection": "command-line"}, values) == []
    assert differences({**values, "connection": "other"}, values) == ["connection"]
    assert differences({**values, "of a later release": 1}, values) is None
    assert IMPACT.seconds_at
