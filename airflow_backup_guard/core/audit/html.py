"""An audit's report as one HTML file: no script, nothing from elsewhere, fit to print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from airflow_backup_guard.core.audit.document import PlanAudit
from airflow_backup_guard.core.audit.report import (
    ABOUT,
    NO_PLANS,
    TITLE,
    VERDICTS,
    WORDS,
    details,
    facts,
    ordered,
    state,
    title_of,
)
from airflow_backup_guard.core.audit.values import Finding
from airflow_backup_guard.core.printed import html_page, html_table


def html(audits: Sequence[PlanAudit]) -> str:
    """The report."""
    return html_page(TITLE, _body(audits))


def _body(audits: Sequence[PlanAudit]) -> Iterator[str]:
    good = bool(audits) and all(audit.good for audit in audits)
    yield f'<p class="{"good" if good else "bad"}"><strong>{escape(title_of(audits))}.</strong></p>'
    if not audits:
        yield f"<p>{escape(NO_PLANS)}</p>"
    yield from (f"<p>{escape(text)}</p>" for text in ABOUT)
    yield html_table((verdict.value, said) for verdict, said in VERDICTS)
    for audit in audits:
        yield from _audit(audit)
    yield "<h2>Words</h2>"
    yield html_table(WORDS)


def _audit(audit: PlanAudit) -> Iterator[str]:
    yield f"<h2>{escape(audit.plan_name)}</h2>"
    yield f'<div class="{"good" if audit.good else "bad"}">'
    yield html_table(facts(audit))
    yield "</div>\n<h3>All checks</h3>"
    yield '<table class="checks">\n<tr><th>check</th><th>what it is about</th><th>verdict</th></tr>'
    for one in ordered(audit.findings):
        link = f'<a href="#{_anchor(audit, one)}">{escape(one.check)}</a>'
        yield f"<tr><td>{link}</td><td>{escape(one.title)}</td><td>{_verdict(one)}</td></tr>"
    yield "</table>"
    for one in ordered(audit.findings):
        yield f'<div class="finding" id="{_anchor(audit, one)}">'
        yield f"<h3>{escape(one.check)} {escape(one.title)}: {_verdict(one)}</h3>"
        yield html_table(details(one))
        yield "</div>"


def _verdict(finding: Finding) -> str:
    return f'<span class="verdict {finding.verdict.value.split()[0]}">{escape(state(finding))}</span>'


def _anchor(audit: PlanAudit, finding: Finding) -> str:
    return escape(f"{audit.plan_name}-{finding.check}")
