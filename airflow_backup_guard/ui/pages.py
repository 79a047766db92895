"""The pages themselves and their files, which are not for those who are not logged in either."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

router = APIRouter()

PAGES = ("backups", "plan", "off-peak", "task")
"""Each is ``static/<name>.html``, at the address ``/backup-guard/<name>``."""

_STATIC = Path(__file__).with_name("static")
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}
_FILES = {path.name: path for path in _STATIC.iterdir() if path.suffix in _TYPES and path.suffix != ".html"}
_KEPT = {"Cache-Control": "private, max-age=300"}


@router.get("/{name}", response_class=FileResponse)
def page(name: str) -> FileResponse:
    """A page; what it shows it asks the API for."""
    if name not in PAGES:
        raise HTTPException(404, "There is no such page.")
    return FileResponse(_STATIC / f"{name}.html", media_type="text/html")


@router.get("/static/{name}", response_class=FileResponse)
def static(name: str) -> FileResponse:
    """A file of the pages."""
    if name not in _FILES:
        raise HTTPException(404, "There is no such file.")
    return FileResponse(_FILES[name], media_type=_TYPES[_FILES[name].suffix], headers=_KEPT)
