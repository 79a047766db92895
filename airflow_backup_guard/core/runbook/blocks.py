"""A page that is made of few kinds of blocks, as Markdown and as HTML; what is in them is text, whatever it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from airflow_backup_guard.core.names import printable
from airflow_backup_guard.core.printed import html_page, html_table, markdown_text
from airflow_backup_guard.core.secrets import without_secrets

_STYLE = """pre { background: #f6f8fa; border: 1px solid #d0d7de; padding: .6rem; white-space: pre-wrap; }
pre, tr, li { break-inside: avoid; overflow-wrap: anywhere; } ul.bad { padding-left: 2rem; } h2 { break-after: avoid; }
@media print { h2 { break-before: auto; } pre { font-size: 9pt; } }
"""


@dataclass(frozen=True)
class Heading:
    """The beginning of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Some sentences."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list; ``bad`` of what is wrong."""

    items: tuple[str, ...]
    bad: bool = False


@dataclass(frozen=True)
class Table:
    """Names and what there is to say of each."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Commands:
    """Lines for bash, to be run as they are, unless something in them must be replaced first (``ready`` is False)."""

    text: str
    ready: bool = True


Block: TypeAlias = Heading | Paragraph | Bullets | Table | Commands


def markdown_page(title: str, blocks: Sequence[Block]) -> str:
    """The page as Markdown."""
    return "\n\n".join([f"# {_text(title)}", *("\n".join(_markdown(block)) for block in blocks)]) + "\n"


def html_document(title: str, blocks: Sequence[Block]) -> str:
    """The page as one file of HTML."""
    return html_page(_plain(title), (line for block in blocks for line in _html(block)), _STYLE)


def _markdown(block: Block) -> Iterator[str]:
    match block:
        case Heading(text):
            yield f"## {_text(text)}"
        case Paragraph(text):
            yield _text(text)
        case Bullets(items, _):
            yield from (f"* {_text(item)}" for item in items)
        case Table(rows):
            yield from (f"* {_text(name)}: {_text(said)}" for name, said in rows)
        case Commands(text, ready):
            # No run of backticks in a command may end the block.
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            yield f"{fence}{'sh' if ready else 'text'}\n{text}\n{fence}"


def _html(block: Block) -> Iterator[str]:
    match block:
        case Heading(text):
            yield f"<h2>{escape(_plain(text))}</h2>"
        case Paragraph(text):
            yield f"<p>{escape(_plain(text))}</p>"
        case Bullets(items, bad):
            listed = "\n".join(f"<li>{escape(_plain(item))}</li>" for item in items)
            yield f'<ul class="{"bad" if bad else "usual"}">\n{listed}\n</ul>'
        case Table(rows):
            yield html_table((_plain(name), _plain(said)) for name, said in rows)
        case Commands(text, _):
            yield f"<pre>{escape(text)}</pre>"


def _plain(text: str) -> str:
    return printable(without_secrets(text))


def _text(text: str) -> str:
    return markdown_text(_plain(text))
