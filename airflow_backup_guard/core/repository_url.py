"""What the URL of a repository says, checked without opening anything, so that plans can be refused early."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from airflow_backup_guard.errors import InvalidPlan

ALLOWED = (
    '"file:///absolute/path", "s3://bucket/prefix" or "s3://connection_id@bucket/prefix", '
    'without password, query, fragment, "." or ".." in it'
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", re.ASCII)
_CONNECTION = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class RepositoryURL:
    """The parts of a repository's URL.

    ``path`` is absolute for ``file`` and the prefix of all keys for ``s3``, without slashes at its ends,
    maybe empty. ``bucket`` and ``connection_id`` belong to ``s3``; without a connection id, boto3's own chain
    of credentials applies.
    """

    scheme: Literal["file", "s3"]
    path: str
    bucket: str = ""
    connection_id: str | None = None


def parse_repository_url(url: str, field: str = "repository") -> RepositoryURL:
    """Read a URL such as ``s3://aws_default@bucket/prefix``; raises :class:`InvalidPlan` naming ``field``."""
    try:
        parsed = _parse(url)
    except (ValueError, AttributeError, TypeError):
        parsed = None
    if parsed is None:
        # A password written into the URL by mistake must not reach a log.
        shown = re.sub(r"//.*@", "//***@", url) if isinstance(url, str) else url
        raise InvalidPlan(field, shown, ALLOWED)
    return parsed


def _parse(url: str) -> RepositoryURL | None:
    if not url.isprintable() or set(url) & set("?#\\ "):
        return None
    parts = urlsplit(url)
    segments = [unquote(segment) if parts.scheme == "file" else segment for segment in parts.path.split("/")]
    names = [segment for segment in segments if segment]
    if any(name.startswith("..") or name == "." or "/" in name or not name.isprintable() for name in names):
        return None
    if parts.scheme == "file" and url.startswith("file:///") and names:
        return RepositoryURL("file", str(PurePosixPath("/", *names)))
    connection, at, bucket = parts.netloc.rpartition("@")
    if parts.scheme == "s3" and _BUCKET.fullmatch(bucket) and (not at or _CONNECTION.fullmatch(connection)):
        return RepositoryURL("s3", "/".join(names), bucket, connection or None)
    return None
