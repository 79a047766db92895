"""The routes of the pages take whatever they are asked: no failure, and nothing for who may not see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.acceptance.conftest import PASSWORD, ApiServer, scrubbed_environment
from tests.acceptance.people import HIDDEN

SPECIFICATION = """
import json
from airflow_backup_guard.ui.app import build_app
print(json.dumps(build_app().openapi()))
"""
EXAMPLES = int(os.environ.get("BACKUP_GUARD_FUZZ", "60"))
FUZZ = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
VALUES = st.sampled_from(
    [
        *[
            "",
            "slow",
            "copy",
            "shop",
            "shown-good",
            "file:///srv/backups",
            "s3://x@bucket/y",
            "limit",
            "pause",
            "-1",
            "0",
        ],
        *["1e309", "nan", "-inf", "9" * 30, "9" * 5000, "²", "٣", "true", "20MB/s", "20260101T000000Z-0000", "backups"],
        *["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "style.css", "'; DROP TABLE dag; --", "%", "_"],
        *["<script>alert(1)</script>", "{{ conn.shop_primary.password }}", "\x1b[31m", "a\nb", "😀" * 50, "x" * 4000],
    ]
)
PLAUSIBLE = {
    "name": ["backups", "plan", "task", "style.css", "shown-good", "slow"],
    "offset": ["0", "1"],
    "limit": ["1", "50"],
    "dag_id": ["slow", "shown_plans", "guarded_base_backup"],
    "task_id": ["copy", "snapshot"],
    "map_index": ["-1", "{MAP_INDEX}"],
    "after": ["0", "1.5"],
}
BODIES = st.fixed_dictionaries(
    {},
    optional={
        name: VALUES | st.none() | st.integers() | st.lists(VALUES)
        for name in ("action", "number", "reason", "rate", "dag_id")
    },
)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, list[str]]]:
    """Method, path and parameters of each operation, as the app describes itself."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SPECIFICATION],
        env=scrubbed_environment(tmp_path_factory.mktemp("specification")),
        check=True,
        capture_output=True,
        text=True,
    )
    paths = json.loads(done.stdout.splitlines()[-1])["paths"]
    return [
        (method.upper(), path, [parameter["name"] for parameter in operation.get("parameters", ())])
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]


def ask(client: httpx.Client, data: st.DataObject, operations: list[tuple[str, str, list[str]]]) -> httpx.Response:
    """Any operation with any values, too few and too many of them."""
    method, path, names = data.draw(st.sampled_from(operations))
    parameters: dict[str, Any] = {}
    for name in names:
        if data.draw(st.integers(0, 5)):
            plausible = st.sampled_from(PLAUSIBLE.get(name, ["x"]))
            parameters[name] = data.draw(VALUES | plausible | plausible)
    for name in names:
        if f"{{{name}}}" in path:
            # A mount takes no path with a line end: Airflow itself answers that.
            value = (parameters.pop(name, "x") or "x").replace("\n", "\r")
            path = path.replace(f"{{{name}}}", str(httpx.QueryParams({"": value}))[1:].replace("+", "%20"))
    body = data.draw(BODIES) if data.draw(st.booleans()) else data.draw(VALUES)
    content = {"json": body} if isinstance(body, dict) else {"content": body.encode("utf-8", "replace")}
    return client.request(method, f"/backup-guard{path}", params=parameters, **(content if method == "POST" else {}))


@pytest.mark.parametrize("name", [None, "viewer", "stranger", "alice"])
def test_no_request_fails_the_server_or_tells_too_much(
    accounts: ApiServer, operations: list[tuple[str, str, list[str]]], name: str | None
) -> None:
    """With and without a login, with and without rights: an answer with the strict policy and no trace of code or a
    password; nothing for nobody, no order by who may only look, nothing of a DAG that is hidden."""
    assert ("POST", "/api/task/{dag_id}/{run_id}/{task_id}/order") in [(method, path) for method, path, _ in operations]
    statuses: set[int] = set()
    with accounts.client(name) as client:

        @given(st.data())
        @FUZZ
        def fuzz(data: st.DataObject) -> None:
            answer = ask(client, data, operations)
            statuses.add(answer.status_code)
            assert answer.status_code < 500, answer.text
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "Traceback" not in answer.text and 'File "' not in answer.text and PASSWORD not in answer.text
            if name is None:  # a path that no route has is 404 for everybody, and a body that is no JSON 422
                assert answer.status_code in (401, 404, 422)
            if name in ("viewer", "stranger") and answer.request.method == "POST":
                assert not answer.is_success
            if name == "stranger" and answer.is_success and "/api/" in answer.request.url.path:
                seen = answer.json() if answer.headers["Content-Type"].startswith("application/json") else {}
                dags = {dag for plan in seen.get("plans", ()) for dag in plan["dag_ids"]}
                assert not dags & HIDDEN

        fuzz()
    assert 401 in statuses if name is None else statuses & {404, 409, 422}
