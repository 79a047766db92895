"""From URLs to repositories, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_backup_guard.core.repository_url import RepositoryURL, parse_repository_url
from airflow_backup_guard.errors import InvalidPlan
from airflow_backup_guard.repository import connection_id, open_repository
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.s3 import S3Repository

KMS_ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("file:///srv/backups", RepositoryURL("file", "/srv/backups")),
        ("file:///srv/my%20backups/", RepositoryURL("file", "/srv/my backups")),
        ("s3://bucket", RepositoryURL("s3", "", "bucket")),
        ("s3://bucket/a/b/", RepositoryURL("s3", "a/b", "bucket")),
        ("s3://aws_default@bucket/a", RepositoryURL("s3", "a", "bucket", "aws_default")),
        ("s3://bucket?kms_key=alias/backups", RepositoryURL("s3", "", "bucket", kms_key="alias/backups")),
        (f"s3://c@bucket/a?kms_key={KMS_ARN}", RepositoryURL("s3", "a", "bucket", "c", KMS_ARN)),
    ],
)
def test_parse(url: str, parsed: RepositoryURL) -> None:
    """The URLs that plans take."""
    assert parse_repository_url(url) == parsed
    assert connection_id(url) == parsed.connection_id


@pytest.mark.parametrize(
    "url",
    [
        "",
        "backups",
        "/srv/backups",
        "file://srv/backups",
        "file:srv/backups",
        "file:///",
        "file:///srv/../etc",
        "file:///srv/..%2Fetc",
        "file:///srv/a%00b",
        "s3://",
        "s3:///prefix",
        "s3://@bucket/a",
        "s3://bucket/../a",
        "s3://bucket/a?versionId=1",
        "s3://bucket/a?kms_key=",
        "s3://bucket/a?kms_key=a&kms_key=b",
        "s3://bucket/a?kms_key=a#b",
        "s3://bucket/a?",
        "file:///srv/backups?kms_key=a",
        "s3://bucket/a#b",
        "s3://bucket/a b",
        "s3://bucket:9000/a",
        "gs://bucket/a",
        None,
        7,
    ],
)
def test_refused(url: Any) -> None:
    """Anything else is refused, with the field, the value and what is allowed."""
    with pytest.raises(InvalidPlan, match=r"repository: .* Allowed: .*s3://bucket/prefix"):
        parse_repository_url(url)


def test_secrets_stay_out_of_errors() -> None:
    """Keys that somebody wrote into the URL do not reach the log."""
    for url in ("s3://AKIA:secret@bucket/a", "s3://AKIA:se/cret@bucket/a"):
        with pytest.raises(InvalidPlan) as caught:
            parse_repository_url(url)
        assert "cret" not in str(caught.value)


def test_open(tmp_path: Path) -> None:
    """A URL opens the repository it names, with the client of the caller."""
    assert isinstance(open_repository(tmp_path.as_uri()), LocalRepository)
    opened = open_repository("s3://aws_default@bucket/a/b", s3_client=object())
    assert isinstance(opened, S3Repository)
    assert opened.url == "s3://bucket/a/b"


def test_import_is_cheap() -> None:
    """DAG files that name a repository load no client library."""
    code = (
        "import sys, airflow_backup_guard.repository, airflow_backup_guard.core.repository_url\n"
        "print([name for name in ('boto3', 'botocore', 'zstandard', 'pyrage', 'airflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
