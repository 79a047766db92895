"""The app: its routes, each behind Airflow's own login, and the headers of every answer."""

from __future__ import annotations

import logging

from airflow.api_fastapi.core_api.security import requires_authenticated
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.ui import actions, backups, pages, plan, task

_log = logging.getLogger(__name__)

# Nothing from outside, nothing inline; Airflow shows the pages in a frame of its own origin.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class _Headers:
    """Middleware: adds ``_HEADERS`` to every answer that has none of its own, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


def build_app() -> FastAPI:
    """The whole app. Whoever is not logged in gets 401 from every route."""
    app = FastAPI(
        title="Backup Guard",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(requires_authenticated())],
    )
    for module in (pages, backups, plan, task, actions):
        app.include_router(module.router)
    app.add_exception_handler(BackupGuardError, _told)
    app.add_middleware(_Headers)
    return app


def _told(request: Request, error: Exception) -> JSONResponse:
    _log.warning("%s: %s", request.url.path, error)
    return JSONResponse({"detail": str(error)}, status_code=409)
