"""An audit's report as one HTML file: no script, nothing from elsewhere, fit to print."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
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

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 2px solid #1b1f24; } h3 { margin: 1.5rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; }
table.checks th, table.checks td { border-bottom: 1px solid #d0d7de; }
th { font-weight: 600; white-space: nowrap; } td { overflow-wrap: anywhere; }
.verdict { font-weight: 600; white-space: nowrap; }
.pass { color: #116329; } .fail { color: #a40e26; } .unknown { color: #7d4e00; } .not { color: #57606a; }
.bad { border-left: 6px solid #a40e26; padding-left: .8rem; }
.good { border-left: 6px solid #116329; padding-left: .8rem; }
.finding { break-inside: avoid; }
@media print { body { font-size: 10.5pt; margin: 0; max-width: none; }
  h2 { break-before: page; } a { color: inherit; } }
"""


def style_digest() -> str:
    """What a Content-Security-Policy calls the style of a report: ``'sha256-…'``."""
    return f"'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"


def html(audits: Sequence[PlanAudit]) -> str:
    """The report."""
    return "\n".join(_page(audits)) + "\n"


def _page(audits: Sequence[PlanAudit]) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(TITLE)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f"<h1>{escape(TITLE)}</h1>"
    good = bool(audits) and all(audit.good for audit in audits)
    yield f'<p class="{"good" if good else "bad"}"><strong>{escape(title_of(audits))}.</strong></p>'
    if not audits:
        yield f"<p>{escape(NO_PLANS)}</p>"
    yield from (f"<p>{escape(text)}</p>" for text in ABOUT)
    yield _table((verdict.value, said) for verdict, said in VERDICTS)
    for audit in audits:
        yield from _audit(audit)
    yield "<h2>Words</h2>"
    yield _table(WORDS)
    yield "</body>\n</html>"


def _audit(audit: PlanAudit) -> Iterator[str]:
    yield f"<h2>{escape(audit.plan_name)}</h2>"
    yield f'<div class="{"good" if audit.good else "bad"}">'
    yield _table(facts(audit))
    yield "</div>\n<h3>All checks</h3>"
    yield '<table class="checks">\n<tr><th>check</th><th>what it is about</th><th>verdict</th></tr>'
    for one in ordered(audit.findings):
        link = f'<a href="#{_anchor(audit, one)}">{escape(one.check)}</a>'
        yield f"<tr><td>{link}</td><td>{escape(one.title)}</td><td>{_verdict(one)}</td></tr>"
    yield "</table>"
    for one in ordered(audit.findings):
        yield f'<div class="finding" id="{_anchor(audit, one)}">'
        yield f"<h3>{escape(one.check)} {escape(one.title)}: {_verdict(one)}</h3>"
        yield _table(details(one))
        yield "</div>"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(said)}</td></tr>" for name, said in rows)
    return f"<table>\n{cells}\n</table>"


def _verdict(finding: Finding) -> str:
    return f'<span class="verdict {finding.verdict.value.split()[0]}">{escape(state(finding))}</span>'


def _anchor(audit: PlanAudit, finding: Finding) -> str:
    return escape(f"{audit.plan_name}-{finding.check}")
