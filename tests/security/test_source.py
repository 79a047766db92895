"""What the source never does: SQL made of values, and commands by a shell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

Node = TypeVar("Node", bound=ast.AST)
PACKAGE = Path(__file__).resolve().parents[2] / "airflow_backup_guard"
EXECUTES = {"execute", "executemany", "fetch", "stream", "copy"}
SPAWNS = {"system", "popen", "getoutput", "getstatusoutput", "spawnl", "spawnv", "create_subprocess_shell"}
VALUES_IN_SQL = {
    "connection.py": "f\"SET statement_timeout = '{STATEMENT_SECONDS:d}s'; {READABLE_TIMES}\"",
    "drill_checks.py": "f'SET statement_timeout = {round(check.timeout.total_seconds() * 1000)}; {READABLE_TIMES}'",
}
"""What is put into SQL as text all the same: numbers formatted as such, where no parameter can be, and a constant."""


@cache
def everything() -> list[tuple[Path, ast.AST]]:
    """All nodes of the package, and where they are."""
    return [(path, node) for path in sorted(PACKAGE.rglob("*.py")) for node in ast.walk(ast.parse(path.read_text()))]


def nodes(kind: type[Node]) -> Iterator[tuple[Path, Node]]:
    """Those of a kind."""
    return ((path, node) for path, node in everything() if isinstance(node, kind))


def made_of_values(node: ast.AST) -> bool:
    """Whether an expression puts values into a text: an f-string, ``%``, ``+`` or ``.format``."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
        return True
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join")


def test_no_sql_is_made_where_it_is_run() -> None:
    """Each statement that is run is a constant with parameters, but for two whose value is a number; those that are
    built beforehand are of constants alone (ruff's S608, and the next test)."""
    found = {}
    for path, node in nodes(ast.Call):
        attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        # In the pages it is SQLAlchemy that makes the SQL.
        if path.parent.name != "ui" and attribute in EXECUTES and node.args and made_of_values(node.args[0]):
            found[path.name] = ast.unparse(node.args[0])
    assert found == VALUES_IN_SQL


def test_sql_that_is_put_together_is_of_constants() -> None:
    """An f-string that looks like SQL has in it only names of constants, in capitals, but for what is listed: quoted
    names and numbers of the replication protocol, which has no parameters; the parts of one statement; and the query
    that the author of a plan wrote."""
    strange = set()
    for path, node in nodes(ast.JoinedStr):
        text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        if SQL.match(text):
            values = [ast.unparse(part.value) for part in node.values if isinstance(part, ast.FormattedValue)]
            strange |= {(path.name, value) for value in values if not value.isupper()}
    assert strange == ALLOWED


SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|SET|CREATE|DROP|ALTER|START_REPLICATION|BASE_BACKUP) [A-Z(*'{]?")
ALLOWED = {
    ("base_backup.py", "_quote(checkpoint)"),
    ("base_backup.py", "_quote(label)"),
    ("base_backup.py", "min(max(max_rate // 1024 + 1, 32), 1048576)"),
    ("drill_checks.py", "round(check.timeout.total_seconds() * 1000)"),
    ("load_sql.py", "rows"),
    ("load_sql.py", "sql.rstrip().rstrip(';')"),
    ("rogue_text.py", "', '.join((f'pg_terminate_backend({pid})' for pid in backup.pids))"),
    ("wal_stream.py", "start"),
    ("wal_stream.py", "timeline"),
}


def test_nothing_is_run_by_a_shell() -> None:
    """No ``shell=``, and none of the functions that are one: what runs is a list of words."""
    for path, node in nodes(ast.Call):
        where = f"{path.name}:{node.lineno}"
        assert "shell" not in [keyword.arg for keyword in node.keywords], where
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        assert name not in SPAWNS, where


@pytest.mark.parametrize("name", ["eval", "exec", "compile", "__import__", "pickle", "marshal", "shelve", "yaml"])
def test_nothing_that_was_read_is_run(name: str) -> None:
    """No code is made of data, and nothing is unpacked that could be code."""
    for path, node in nodes(ast.Name):
        assert node.id != name, path
    for path, node in nodes(ast.Import):
        assert name not in [alias.name for alias in node.names], path
