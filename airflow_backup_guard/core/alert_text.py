"""What an alert says, as text and as HTML: what, since when, what was done, what to do, and where to look."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape
from typing import Any

from airflow_backup_guard.core.alert_catalogue import entry_of
from airflow_backup_guard.core.alerts import Alert, Transition
from airflow_backup_guard.core.units import whole_seconds

_STATES = {
    Transition.RAISED: "",
    Transition.WORSE: "Worse: ",
    Transition.STILL: "Still: ",
    Transition.ESCALATED: "Nobody has mended it: ",
    Transition.OVER: "Over: ",
    Transition.TEST: "",
}


def title(alert: Alert) -> str:
    """One line: ``shop: Commits are slow (critical)``."""
    quiet = alert.transition in (Transition.OVER, Transition.TEST)
    grade = "" if quiet else f" ({alert.severity.value})"
    return f"{alert.plan_name}: {_STATES[alert.transition]}{alert.condition.title}{grade}"


def rows(alert: Alert, link: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of a name and what there is to say."""
    condition = alert.condition
    if condition.measured:
        yield "now" if alert.transition is Transition.OVER else "seen", condition.measured
    if alert.transition is Transition.OVER:
        yield "was bad", f"from {_moment(alert.since)} to {_moment(alert.at)}, {whole_seconds(alert.at - alert.since)}"
    elif alert.transition is not Transition.TEST:
        lasted = whole_seconds(alert.at - alert.since)
        yield "since", f"{_moment(alert.since)}{f', for {lasted}' if alert.at > alert.since else ''}"
    if condition.done:
        yield "done", condition.done
    if alert.transition is not Transition.OVER:
        yield "meaning", entry_of(condition.key).meaning
        for number, thing in enumerate(entry_of(condition.key).first, 1):
            yield f"do {number}", thing
    if link:
        yield "see", link


def text(alert: Alert, link: str = "") -> str:
    """For chats, pagers and logs."""
    return "\n".join([title(alert), "", *(f"{name:<8} {said}" for name, said in rows(alert, link))])


def html(alert: Alert, link: str = "") -> str:
    """For mail: no style sheet, no image, nothing from elsewhere."""

    def cell(name: str, said: str) -> str:
        linked = name == "see" and said.startswith(("http://", "https://"))
        shown = f'<a href="{escape(said)}">{escape(said)}</a>' if linked else escape(said)
        return f'<tr><th align="left" valign="top">{escape(name)}</th><td>{shown}</td></tr>'

    cells = "\n".join(cell(name, said) for name, said in rows(alert, link))
    return f"<h3>{escape(title(alert))}</h3>\n<table>\n{cells}\n</table>"


def template_values(alert: Alert, link: str = "") -> dict[str, Any]:
    """What the templates of a channel's arguments may use."""
    return {
        "alert_title": title(alert),
        "alert_text": text(alert, link),
        "alert_html": html(alert, link),
        "alert_severity": alert.severity.value,
        "alert_state": alert.transition.value,
        "alert_key": alert.key,
        "alert_link": link,
    }


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}"
