"""moto's S3 API behind TLS, in a process of its own: ``python -m benchmarks.s3_server PORT CERTIFICATE KEY``.

Unlike moto_server it keeps connections open and ends TLS in good order, without which pgBackRest does not go on.
"""

from __future__ import annotations

import contextlib
import sys
from ssl import SSLSocket

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
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


def main() -> None:
    """Serve until SIGTERM."""
    port, certificate, key = sys.argv[1:]
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server(
        "127.0.0.1", int(port), application, threaded=True, request_handler=Handler, ssl_context=(certificate, key)
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
