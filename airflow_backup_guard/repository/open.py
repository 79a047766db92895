"""From a repository's URL to the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_backup_guard.core.repository_url import parse_repository_url
from airflow_backup_guard.repository.base import Repository


def open_repository(url: str, *, s3_client: Any = None) -> Repository:
    """Open ``file:///srv/backups``, ``s3://bucket/prefix`` or ``s3://connection_id@bucket/prefix?kms_key=KEY``.

    Nothing is read or written yet. A connection id means something to Airflow only: a caller that has Airflow
    resolves it and gives the boto3 client in ``s3_client``; without one, boto3's own chain of credentials
    applies, so that a restore needs no Airflow. Raises :class:`InvalidPlan` for any other URL.
    """
    parsed = parse_repository_url(url)
    if parsed.scheme == "file":
        from airflow_backup_guard.repository.local import LocalRepository

        return LocalRepository(Path(parsed.path))
    from airflow_backup_guard.repository.s3 import S3Repository, default_client

    return S3Repository(s3_client or default_client(), parsed.bucket, parsed.path, parsed.kms_key)


def connection_id(url: str) -> str | None:
    """The Airflow connection that a repository's URL names, if any; raises :class:`InvalidPlan`."""
    return parse_repository_url(url).connection_id
