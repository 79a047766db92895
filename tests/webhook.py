"""A web hook on the loopback that keeps what it is told."""

from __future__ import annotations

import json
import threading
import urllib.request
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NOTIFIER = "airflow.providers.http.notifications.http.HttpNotifier"


def channel(name: str = "hook", **values: Any) -> dict[str, Any]:
    """A channel of a plan that leads to the connection ``webhook``."""
    told = ("title", "text", "severity", "state", "key", "link")
    arguments = {
        "http_conn_id": "webhook",
        "endpoint": "alert",
        "json": {what: f"{{{{ alert_{what} }}}}" for what in told},
    }
    return {"name": name, "notifier": NOTIFIER, "arguments": arguments, **values}


class Teller:
    """A notifier that is not of Airflow: it posts what it is told to ``url``."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, context: dict[str, Any]) -> None:
        told = {name.removeprefix("alert_"): value for name, value in context.items() if name.startswith("alert_")}
        request = urllib.request.Request(self._url, json.dumps(told).encode())
        with urllib.request.urlopen(request, timeout=5):
            pass


class Webhook(AbstractContextManager["Webhook"]):
    """Answers 200 and keeps the JSON, in ``told``; while ``broken``, it answers 503 and only counts, in ``refused``."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.refused = 0
        self.broken = False
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.broken:
                    hook.refused += 1
                else:
                    hook.told.append(json.loads(body))
                self.send_response(503 if hook.broken else 200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.connection = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Webhook:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def about(self, key: str) -> list[dict[str, Any]]:
        """The messages about one condition."""
        return [message for message in self.told if message["key"] == key]
