"""Drills: what is promised of them is checked early, and what they found is judged by rules that explain themselves."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core import DrillCheck, DrillPolicy
from airflow_backup_guard.core.backup import FORMAT, dump, load
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.drill import DrillResult, Stage, judge_rpo, judge_rto, judge_value, passed
from airflow_backup_guard.core.drill_policy import AmcheckLevel
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.engine.identities import read_identities
from airflow_backup_guard.errors import InvalidPlan, RestoreRefused

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
CHECKS = st.one_of(
    st.builds(DrillCheck, sql=st.just("SELECT 1"), min=st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9)),
    st.builds(DrillCheck, sql=st.just("SELECT now()"), max_age=st.timedeltas(timedelta(0), timedelta(days=9))),
    st.builds(DrillCheck, sql=st.just("SELECT true"), database=st.sampled_from(["shop", "a b"])),
)
POLICIES = st.builds(
    DrillPolicy,
    amcheck=st.sampled_from(AmcheckLevel),
    checks=st.dictionaries(st.sampled_from(["orders", "newest order", "x"]), CHECKS),
    extensions=st.lists(st.sampled_from(["postgis", "hstore"]), unique=True),
    scratch=st.none() | st.just("/srv/drills"),
    max_rate=st.none() | st.integers(32_000, 10**10).map(Rate),
    superuser=st.sampled_from(["postgres", "admin"]),
)


@given(POLICIES)
def test_a_policy_survives_plain_values(policy: DrillPolicy) -> None:
    """What a record keeps of it is read back as it was."""
    assert DrillPolicy.from_dict(policy.to_dict()) == policy


def test_what_is_usual_is_not_written() -> None:
    """A plan that says nothing of drills says nothing of them in its record."""
    assert DrillPolicy().to_dict() == {}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"amcheck": "some"}, "drill.amcheck"),
        ({"extensions": "postgis"}, "drill.extensions"),
        ({"scratch": "drills"}, "drill.scratch"),
        ({"max_rate": "1kB/s"}, "drill.max_rate"),
        ({"superuser": ""}, "drill.superuser"),
        ({"check": {}}, "drill.check"),
        ({"checks": ["SELECT 1"]}, "drill.checks"),
        ({"checks": {"": {"sql": "SELECT 1"}}}, "drill.checks"),
        ({"checks": {"orders": {}}}, "drill.checks.orders.sql"),
        ({"checks": {"orders": {"sql": ""}}}, "drill.checks.sql"),
        ({"checks": {"orders": {"sql": "SELECT 1", "minimum": 1}}}, "drill.checks.orders.minimum"),
        ({"checks": {"orders": {"sql": "SELECT 1", "min": "1"}}}, "drill.checks.min"),
        ({"checks": {"orders": {"sql": "SELECT 1", "min": True}}}, "drill.checks.min"),
        ({"checks": {"orders": {"sql": "SELECT 1", "min": float("nan")}}}, "drill.checks.min"),
        ({"checks": {"orders": {"sql": "SELECT 1", "max_age": "soon"}}}, "drill.checks.max_age"),
        ({"checks": {"orders": {"sql": "SELECT 1", "min": 1, "max_age": "1h"}}}, "drill.checks.max_age"),
        ({"checks": {"orders": {"sql": "SELECT 1", "timeout": "2d"}}}, "drill.checks.timeout"),
    ],
)
def test_bad_policies_are_refused(values: dict[str, Any], field: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidPlan) as caught:
        DrillPolicy.from_dict(values)
    assert caught.value.field == field


def judged(value: object, **limits: Any) -> str:
    """``ok`` or ``failed`` and what was found."""
    found = judge_value("orders", DrillCheck(sql="SELECT 1", **limits), value, NOON)
    return f"{found.status.value}: {found.detail}"


@pytest.mark.parametrize(
    ("value", "limits", "verdict"),
    [
        (True, {}, "ok: true"),
        (False, {}, "failed: false"),
        (None, {"min": 1}, "failed: the query gave NULL"),
        (1000, {"min": 1000}, "ok: 1000, 1000 at least"),
        (Decimal(999), {"min": 1000}, "failed: 999 is less than 1000"),
        (Decimal("NaN"), {"min": 0}, "failed: NaN"),
        (True, {"min": 1}, "failed: the query gave true, which is no number"),
        (7, {}, "failed: 7: without min"),
        ("many", {"min": 1}, "failed: the query gave 'many'"),
        ("2026-06-01", {"max_age": "1h"}, "failed: the query gave '2026-06-01', which is no time"),
        (NOON - HOUR, {"max_age": "1h"}, "ok: 2026-06-01 11:00:00 UTC, 1h before the backup's snapshot, 1h allowed"),
        (NOON - 2 * HOUR, {"max_age": "1h"}, "failed: 2026-06-01 10:00:00 UTC, 2h before"),
        (datetime(2026, 6, 1, 11, 30), {"max_age": "1h"}, "ok: 2026-06-01 11:30:00 UTC"),
        (date(2026, 6, 1), {"max_age": "13h"}, "ok: 2026-06-01 00:00:00 UTC"),
    ],
)
def test_values_are_judged_and_shown(value: object, limits: dict[str, Any], verdict: str) -> None:
    """Whatever a query gives is either good by its limit or not, and the value is in the evidence."""
    assert judged(value, **limits).startswith(verdict)


@given(st.floats(0, 1e6), st.integers(1, 10**6))
def test_objectives(seconds: float, allowed: int) -> None:
    """RTO and RPO are met up to the second; a backup that is not the newest is not held against the RPO."""
    objective = timedelta(seconds=allowed)
    expected = CheckStatus.OK if seconds <= allowed else CheckStatus.FAILED
    rto, rpo = judge_rto(seconds, objective), judge_rpo(seconds, objective, newest=True)
    older = judge_rpo(seconds, objective, newest=False)
    assert rto is not None and rpo is not None and older is not None
    assert (rto.status, rpo.status, older.status) == (expected, expected, CheckStatus.OK)
    assert judge_rto(seconds, None) is None and judge_rpo(seconds, None, newest=True) is None


@given(st.lists(st.sampled_from(CheckStatus)))
def test_what_passes(statuses: list[CheckStatus]) -> None:
    """A drill passes if something was looked at, nothing failed, and nothing is unknown."""
    expected = bool(statuses) and not {CheckStatus.FAILED, CheckStatus.UNKNOWN} & set(statuses)
    assert passed([Check("any", status, "found") for status in statuses]) is expected


def test_a_result_is_read_back() -> None:
    """What is stored is what was found, and its summary names what failed."""
    checks = (Check("rto", CheckStatus.FAILED, "too slow.", "Hurry."), Check("software", CheckStatus.OK, "all there."))
    stages = (Stage("restore", 10.0), Stage("recovery", 2.5))
    result = DrillResult(FORMAT, "shop", "id", NOON, NOON + HOUR, "PostgreSQL 18", stages, 12.5, 60.0, checks, False)
    assert load(DrillResult, dump(result), "drill") == result
    assert result.summary == "The drill failed: rto: too slow."


def test_identities_of_a_file(tmp_path: Path) -> None:
    """Keys are found among comments; whatever else is in the file is refused, and never shown."""
    file = tmp_path / "age.key"
    file.write_text("# made today\nAGE-SECRET-KEY-1ABC\n\n")
    assert read_identities(file) == ("AGE-SECRET-KEY-1ABC",)
    for content in ("", "password\n"):
        file.write_text(content)
        with pytest.raises(RestoreRefused) as caught:
            read_identities(file)
        assert "password" not in str(caught.value)
    with pytest.raises(RestoreRefused, match="cannot be read"):
        read_identities(tmp_path)
