"""What both forms of an audit's report say, and Markdown: for people who have never seen the tools that made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow_backup_guard.core.audit.document import PlanAudit
from airflow_backup_guard.core.audit.values import Change, Finding, Verdict, moment
from airflow_backup_guard.core.printed import markdown_text

TITLE = "Audit of database backups"
NO_PLANS = "No plan was audited, so nothing is known of any backup. That is a failure."

ABOUT = (
    "Each section below is about the backups of one PostgreSQL database server. A plan says what was promised for it: "
    "when a backup may run, what it may do to the database, how old it may become, how fast it must be restored.",
    "Each check holds one of those promises, or one good practice, against evidence: what backups wrote down of "
    "themselves while they ran, trial restores, test messages, and what the database server and the store say of "
    "themselves. The evidence has its time and its source, so that it can be looked at again.",
)
VERDICTS = (
    (Verdict.PASS, "The evidence shows that it is well."),
    (Verdict.FAIL, "The evidence shows that it is not. The remedy says what to do."),
    (Verdict.UNKNOWN, "The evidence could not be read, or there is too little of it. That is not a pass."),
    (Verdict.NOT_APPLICABLE, "There is nothing of that kind here, and the reason is given."),
)
WORDS = (
    ("RPO", "recovery point objective: how old the last good backup may become, and so how much work may be lost"),
    ("RTO", "recovery time objective: how long it may take until the database answers again"),
    ("off-peak window", "hours in which few people use the database, and a backup may run"),
    ("drill", "a backup restored on trial, on a server that is thrown away afterwards"),
    ("verified", "read back from where it is stored, and found to be what was written"),
    ("accepted risk", "an open finding that a named person has taken on, up to a day"),
)


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """What asks for something first: open before accepted before well, critical before warning, then by id."""

    def place(finding: Finding) -> tuple[int, int, str]:
        rank = 0 if finding.is_problem else 1 if finding.verdict.is_open else 2
        return rank, 0 if rank == 2 or finding.severity.value == "critical" else 1, finding.check

    return sorted(findings, key=place)


def verdict_line(audit: PlanAudit) -> str:
    """One sentence that says how it ended."""
    if audit.good:
        accepted = sum(finding.accepted is not None for finding in audit.findings)
        return "Passed." if not accepted else f"Passed, with {accepted} accepted risk{'s' * (accepted != 1)}."
    failed = sum(finding.verdict is Verdict.FAIL for finding in audit.problems)
    unknown = len(audit.problems) - failed
    parts = [f"{failed} check{'s' * (failed != 1)} failed"] * bool(failed)
    parts += [f"{unknown} could not be answered"] * bool(unknown)
    return f"Not passed: {' and '.join(parts)}." if parts else "Not passed: nothing was checked."


def state(finding: Finding) -> str:
    """The verdict with what is special about it: ``fail (critical), new``."""
    words = finding.verdict.value
    if finding.verdict.is_open:
        words += f" ({finding.severity.value})"
    if finding.accepted is not None:
        words += ", accepted"
    return f"{words}, {finding.change.value}" if finding.change is not None else words


def facts(audit: PlanAudit) -> Iterator[tuple[str, str]]:
    """What there is to say of an audit as a whole."""
    yield "result", verdict_line(audit)
    yield "period", f"{moment(audit.start)} to {moment(audit.at)}"
    yield "backups are stored in", audit.repository
    counts = ", ".join(f"{audit.count(verdict)} {verdict.value}" for verdict in Verdict)
    yield "checks", f"{len(audit.findings)}: {counts}"
    if audit.before_at is None:
        yield "compared with", "no earlier audit: this is the first"
    else:
        changes = ", ".join(f"{_changed(audit, change)} {change.value}" for change in Change)
        yield "compared with", f"audit {audit.number - 1} of {moment(audit.before_at)}: {changes}"
    for one in audit.before:
        yield f"SHA-256 of {one.name}", one.sha256
    yield "made by", f"airflow-backup-guard {audit.by}, audit number {audit.number} of this plan"


def details(finding: Finding) -> Iterator[tuple[str, str]]:
    """What there is to say of one finding."""
    yield "protects from", finding.protects
    yield "found", finding.said
    for one in finding.evidence:
        yield "evidence", f"{one.said} ({moment(one.at)}, from {one.source})"
    if finding.remedy:
        yield "remedy", finding.remedy
    if finding.accepted is not None:
        yield "accepted by", str(finding.accepted)
    if finding.expired is not None:
        yield "was accepted by", f"{finding.expired}. That is over."


def title_of(audits: Sequence[PlanAudit]) -> str:
    """One line for all: ``Backup audit: 1 of 3 plans passed``."""
    if not audits:
        return "Backup audit: no plan was audited"
    passed = sum(audit.good for audit in audits)
    return f"Backup audit: {passed} of {len(audits)} plan{'s' if len(audits) != 1 else ''} passed"


def markdown(audits: Sequence[PlanAudit]) -> str:
    """The report as Markdown."""
    return "\n".join(_markdown(audits)) + "\n"


def _markdown(audits: Sequence[PlanAudit]) -> Iterator[str]:
    yield f"# {TITLE}"
    yield ""
    yield NO_PLANS if not audits else f"{title_of(audits)}."
    for text in ABOUT:
        yield from ("", text)
    yield from ("", *(f"* **{verdict.value}**: {said}" for verdict, said in VERDICTS))
    for audit in audits:
        yield from ("", f"## {audit.plan_name}", "")
        yield from (f"* {name}: {markdown_text(said)}" for name, said in facts(audit))
        yield from ("", "| check | what it is about | verdict |", "|---|---|---|")
        yield from (f"| {one.check} | {one.title} | {state(one)} |" for one in ordered(audit.findings))
        for one in ordered(audit.findings):
            yield from ("", f"### {one.check} {one.title}: {state(one)}", "")
            yield from (f"* {name}: {markdown_text(said)}" for name, said in details(one))
    yield from ("", "## Words", "", *(f"* **{word}**: {meaning}" for word, meaning in WORDS))


def _changed(audit: PlanAudit, change: Change) -> int:
    return sum(finding.change is change for finding in audit.findings)
