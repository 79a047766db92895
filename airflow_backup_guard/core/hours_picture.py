"""The learned week as a picture: a number and a shade for each half hour, a frame around windows."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from airflow_backup_guard.core.hours import CELLS_A_DAY
from airflow_backup_guard.core.hours_report import HoursReport, cell_text
from airflow_backup_guard.core.svg import svg
from airflow_backup_guard.core.weekly import DAYS

_WIDE, _HIGH = 20, 26
_LEFT, _TOP, _RIGHT = 48, 64, 16
_WIDTH = _LEFT + CELLS_A_DAY * _WIDE + _RIGHT
_LEGEND = _TOP + 7 * _HIGH + 28
_HEIGHT = _LEGEND + 52
# From nothing to the peak, light to dark, so that it reads in grey and with any eyes.
_LIGHT, _DARK = (247, 251, 255), (8, 48, 107)
_STYLE = (
    ".n{font-size:9px;text-anchor:middle}.hour{text-anchor:middle}"
    ".proposed{fill:none;stroke:#188038;stroke-width:2.5}"
    ".yours{fill:none;stroke:#333;stroke-width:1.5;stroke-dasharray:4 3}"
    ".busy{fill:none;stroke:#b3261e;stroke-width:2.5}"
)


def hours_svg(report: HoursReport) -> str:
    """SVG of a report. Each half hour says in words what is known of it."""
    week = report.week
    title = f"Load of {report.plan_name}, {week.since:%Y-%m-%d} to {week.until:%Y-%m-%d}, by the clock of {week.tz}"
    parts = [
        '<defs><pattern id="unknown" width="6" height="6" patternUnits="userSpaceOnUse">'
        '<rect width="6" height="6" fill="#fff"/><path d="M0 6L6 0" stroke="#bbb"/></pattern></defs>',
    ]
    for hour in range(0, 24, 2):
        x = _LEFT + hour * 2 * _WIDE
        parts.append(f'<text class="hour" x="{x}" y="{_TOP - 10}">{hour:02}:00</text>')
    for day, name in enumerate(DAYS):
        parts.append(f'<text x="12" y="{_TOP + day * _HIGH + 17}">{name}</text>')
    for number in range(len(week.cells)):
        parts += _cell(report, number)
    parts += _frames("proposed", report.advice.cells, 2)
    if report.standing is not None:
        parts += _frames("yours", report.standing.cells, 4)
        parts += _frames("busy", report.standing.busy, 1)
    return svg(title, _WIDTH, _HEIGHT, _LEFT, _STYLE, [*parts, *_legend(report)])


def _cell(report: HoursReport, number: int) -> Iterable[str]:
    usual = report.week.cells[number].usual
    x, y = _place(number)
    share = min(1.0, usual or 0.0)
    fill = "url(#unknown)" if usual is None else _shade(share)
    ink = "#fff" if share > 0.5 else "#333"
    text = "?" if usual is None else str(min(99, round(usual * 100)))
    yield (
        f'<g><title>{escape(cell_text(report, number))}</title><rect x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" '
        f'fill="{fill}" stroke="#fff" stroke-width=".5"/>'
        f'<text class="n" x="{x + _WIDE // 2}" y="{y + 17}" style="fill:{ink}">{text}</text></g>'
    )


def _frames(kind: str, cells: Iterable[int], inset: int) -> Iterable[str]:
    runs: list[list[int]] = []
    for number in sorted(cells):
        if runs and runs[-1][-1] == number - 1 and number % CELLS_A_DAY:
            runs[-1].append(number)
        else:
            runs.append([number])
    for run in runs:
        x, y = _place(run[0])
        width, height = len(run) * _WIDE - 2 * inset, _HIGH - 2 * inset
        yield f'<rect class="{kind}" x="{x + inset}" y="{y + inset}" width="{width}" height="{height}"/>'


def _legend(report: HoursReport) -> Iterable[str]:
    x = _LEFT
    kinds = [("proposed", "proposed"), ("yours", "your windows"), ("busy", "your windows, not quiet")]
    for kind, text in kinds if report.standing is not None else kinds[:1]:
        yield f'<rect class="{kind}" x="{x}" y="{_LEGEND - 12}" width="24" height="14"/>'
        yield f'<text x="{x + 32}" y="{_LEGEND}">{text}</text>'
        x += 60 + 7 * len(text)
    numbers = "Each number: the usual load, in percent of the peak; ? and hatched: not known."
    advice = report.advice
    proposal = f"{advice.calendar} ({advice.sureness.value})" if advice.calendar else "no window is proposed"
    yield f'<text x="{_LEFT}" y="{_LEGEND + 20}">{numbers}</text>'
    yield f'<text x="{_LEFT}" y="{_LEGEND + 38}">Proposed: {escape(proposal)}</text>'


def _place(number: int) -> tuple[int, int]:
    day, offset = divmod(number, CELLS_A_DAY)
    return _LEFT + offset * _WIDE, _TOP + day * _HIGH


def _shade(share: float) -> str:
    mixed = (round(light + (dark - light) * share) for light, dark in zip(_LIGHT, _DARK, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
