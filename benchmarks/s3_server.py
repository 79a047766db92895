"""moto's S3 API behind TLS, in a process of its own: ``python -m benchmarks.s3_server PORT CERTIFICATE KEY``.

Unlike moto_server it keeps connections open and ends TLS in good order, without which pgBackRest does not go on.
"""

from __future__ import annotations

import contextlib
import sys
from ssl import SSLSocket

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeKey
from werkzeug.serving import WSGIRequestHandler, make_server


class Handler(WSGIRequestHandler):
    """HTTP/1.1, silent."""

    protocol_version = "HTTP/1.1"

    def finish(self) -> None:
        """Say that no more comes before the connection is closed."""
        with contextlib.suppress(OSError):
            super().finish()
            if isinstance(self.connection, SSLSocket):
                self.connection.unwrap()

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


def keep_content() -> None:
    """Have moto read an object once: it would read all of it for each range, which no S3 service does."""
    read, write = FakeKey.value.fget, FakeKey.value.fset
    contents: dict[FakeKey, bytes] = {}

    def value(key: FakeKey) -> bytes:
        if key not in contents:
            contents[key] = read(key)
        return contents[key]

    def set_value(key: FakeKey, content: bytes) -> None:
        contents.pop(key, None)
        write(key, content)

    FakeKey.value = property(value, set_value)


def main() -> None:
    """Serve until SIGTERM."""
    port, certificate, key = sys.argv[1:]
    keep_content()
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server(
        "127.0.0.1", int(port), application, threaded=True, request_handler=Handler, ssl_context=(certificate, key)
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
