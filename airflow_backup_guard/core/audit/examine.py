"""One plan's audit: all checks, held against the last audit and against the risks that somebody has accepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from airflow_backup_guard.core.audit.catalogue import CHECKS
from airflow_backup_guard.core.audit.facts import Facts
from airflow_backup_guard.core.audit.values import AcceptedRisk, Change, Finding, Known
from airflow_backup_guard.errors import InvalidPlan

_FIELDS = ("check", "owner", "until", "reason")


def examine(facts: Facts, accepted: Iterable[AcceptedRisk] = ()) -> tuple[Finding, ...]:
    """The findings of all checks, in the order of the catalogue."""
    findings = [check.finding(facts) for check in CHECKS]
    if isinstance(facts.previous, Known):
        findings = compared(findings, facts.previous.value.findings)
    return with_accepted(findings, facts.plan.name, list(accepted), facts.end.date())


def compared(findings: Sequence[Finding], before: Iterable[Finding]) -> list[Finding]:
    """The same findings, each with how it differs from that of the last audit."""
    was_open = {finding.check: finding.verdict.is_open for finding in before}

    def change(finding: Finding) -> Change | None:
        was = was_open.get(finding.check, False)
        if finding.verdict.is_open:
            return Change.STILL_OPEN if was else Change.NEW
        return Change.FIXED if was else None

    return [replace(finding, change=change(finding)) for finding in findings]


def with_accepted(
    findings: Sequence[Finding], plan_name: str, accepted: Sequence[AcceptedRisk], today: date
) -> tuple[Finding, ...]:
    """The same findings, the open ones with the risk that covers them. One whose last day is past covers nothing."""

    def covered(finding: Finding) -> Finding:
        risks = [risk for risk in accepted if risk.covers(finding.check, plan_name)]
        if not finding.verdict.is_open or not risks:
            return finding
        longest = max(risks, key=lambda risk: risk.until)
        return replace(finding, expired=longest) if longest.is_over(today) else replace(finding, accepted=longest)

    return tuple(covered(finding) for finding in findings)


def parse_accepted(values: Any) -> tuple[AcceptedRisk, ...]:
    """Risks from a list of tables or of :class:`AcceptedRisk`; raises :class:`InvalidPlan` for a check that there is
    not, and for one without an owner, a last day or a reason."""
    if not isinstance(values, list | tuple):
        raise InvalidPlan("accepted", values, f"a list of tables with {', '.join(_FIELDS)}, and plan")
    return tuple(_risk(value) for value in values)


def _risk(value: Any) -> AcceptedRisk:
    given = vars(value) if isinstance(value, AcceptedRisk) else value
    if not isinstance(given, Mapping) or not set(_FIELDS) <= set(given) <= {*_FIELDS, "plan"}:
        raise InvalidPlan("accepted", value, f"tables with {', '.join(_FIELDS)}; only plan may be left out")
    known = [check.id for check in CHECKS]
    if given["check"] not in known:
        raise InvalidPlan("accepted.check", given["check"], f"a check from {known[0]} to {known[-1]}")
    for name in ("owner", "reason"):
        if not isinstance(given[name], str) or not given[name].strip():
            raise InvalidPlan(f"accepted.{name}", given[name], "some text")
    plan = given.get("plan")
    if plan is not None and not isinstance(plan, str):
        raise InvalidPlan("accepted.plan", plan, "the name of a plan, or none for all")
    return AcceptedRisk(given["check"], given["owner"], _day(given["until"]), given["reason"], plan)


def _day(value: Any) -> date:
    allowed = "a day, such as 2027-01-31"
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise InvalidPlan("accepted.until", value, allowed) from None
    if type(day) is not date:
        raise InvalidPlan("accepted.until", value, allowed)
    return day
