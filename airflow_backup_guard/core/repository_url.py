"""What the URL of a repository says, checked without opening anything, so that plans can be refused early."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from airflow_backup_guard.errors import InvalidPlan

ALLOWED = (
    '"file:///absolute/path", "s3://bucket/prefix" or "s3://connection_id@bucket/prefix", the last two maybe with '
    '"?kms_key=" and the id, alias or ARN of a key of AWS KMS; no password, other query, fragment, "." or ".." in it'
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", re.ASCII)
_CONNECTION = re.compile(r"[\w.-]+")
_KMS_KEY = re.compile(r"kms_key=([A-Za-z0-9:/_-]+)", re.ASCII)


@dataclass(frozen=True)
class RepositoryURL:
    """The parts of a repository's URL.

    ``path`` is absolute for ``file`` and the prefix of all keys for ``s3``, without slashes at its ends,
    maybe empty. The others belong to ``s3``: without a connection id, boto3's own chain of credentials applies;
    without ``kms_key``, objects are encrypted as the bucket's default says.
    """

    scheme: Literal["file", "s3"]
    path: str
    bucket: str = ""
    connection_id: str | None = None
    kms_key: str | None = None


def parse_repository_url(url: str, field: str = "repository") -> RepositoryURL:
    """Read a URL such as ``s3://aws_default@bucket/prefix?kms_key=alias/backups``.

    Raises :class:`InvalidPlan` naming ``field``.
    """
    try:
        parsed = _parse(url)
    except (ValueError, AttributeError, TypeError):
        parsed = None
    if parsed is None:
        # A password written into the URL by mistake must not reach a log.
        shown = re.sub(r"//.*@", "//***@", url) if isinstance(url, str) else url
        raise InvalidPlan(field, shown, ALLOWED)
    return parsed


def without_connection(url: str) -> str:
    """The same URL for a machine without Airflow, to which the connection that it may name would mean nothing."""
    scheme, _, place = url.partition("://")
    return f"{scheme}://{place.rpartition('@')[2]}" if scheme == "s3" else url


def _parse(url: str) -> RepositoryURL | None:
    url, asked, query = url.partition("?")
    if not url.isprintable() or set(url) & set("#\\ "):
        return None
    key = _KMS_KEY.fullmatch(query)
    if asked and (key is None or not url.startswith("s3:")):
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
        return RepositoryURL("s3", "/".join(names), bucket, connection or None, key[1] if key else None)
    return None
