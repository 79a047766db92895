"""What printed reports share: one page of HTML that stands alone, and text from elsewhere that stays text."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from html import escape

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
    """What a Content-Security-Policy calls the style of a page that has no more of it: ``'sha256-…'``."""
    return f"'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"


def html_page(title: str, body: Iterable[str], more_style: str = "") -> str:
    """A whole page with no script and nothing from elsewhere, fit to print; ``body`` is HTML."""
    return "\n".join(_page(title, body, more_style)) + "\n"


def _page(title: str, body: Iterable[str], more_style: str) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title>\n<style>{_STYLE}{more_style}</style>\n</head>\n<body>"
    yield f"<h1>{escape(title)}</h1>"
    yield from body
    yield "</body>\n</html>"


def html_table(rows: Iterable[tuple[str, str]]) -> str:
    """Names and what there is to say, as HTML."""
    cells = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(said)}</td></tr>" for name, said in rows)
    return f"<table>\n{cells}\n</table>"


def markdown_text(text: str) -> str:
    """Text from elsewhere in Markdown, in one line, so that it becomes no link, tag or heading."""
    line = " ".join(text.split())
    for letter in "\\`*_[]<>|":
        line = line.replace(letter, f"\\{letter}")
    return line
