"""The frame of a picture: SVG that stands for itself, on a white ground, with its title as text."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_STYLE = "text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:14px;font-weight:600}"


def svg(title: str, width: int, height: int, left: int, style: str, parts: Iterable[str]) -> str:
    """The picture that holds these elements; its title begins at ``left``, as the panels below it do."""
    begin = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text class="title" x="{left}" y="22">{escape(title)}</text>',
    ]
    return "\n".join([*begin, *parts, "</svg>", ""])
