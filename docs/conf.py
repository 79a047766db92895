"""How Sphinx makes the documentation's site of these pages; `make docs` runs it."""

from __future__ import annotations

import os.path
import re

from sphinx.application import Sphinx

from airflow_backup_guard import __version__

project = "airflow-backup-guard"
version = release = __version__
copyright = "the authors of airflow-backup-guard, Apache-2.0"  # noqa: A001
html_title = f"{project} {version}"
html_theme = "furo"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_argparse_cli"]
# Anchors as a reader of the repository has them.
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"


def navigation(text: str) -> str:
    """The page's lists of links as hidden tables of contents, one for each of its second headings."""
    tables = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        pages = re.findall(r"^\* \[[^\]]*\]\((?!\.\.)([^)#]+)\.md\)", section, re.MULTILINE)
        caption = section.partition("\n")[0]
        tables.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]))
    return "\n\n".join([text, *tables])


def without_links_out(page: str, text: str) -> str:
    """Links to files beside this folder, which the site does not have, become the words that they were on."""

    def unless_out(link: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(page), link[2]))  # noqa: PTH118, PTH120
        return link[1] if target.startswith("..") else link[0]

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]+)\)", unless_out, text)


def _prepare(app: Sphinx, page: str, source: list[str]) -> None:
    text = navigation(source[0]) if page.split("/")[-1] == "index" else source[0]
    source[0] = without_links_out(page, text)


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", _prepare)
