"""A repository in a bucket of S3, or of anything that speaks its API."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from io import BufferedReader
from itertools import islice
from typing import Any, BinaryIO

from airflow_backup_guard.errors import ObjectExists
from airflow_backup_guard.repository.base import ObjectInfo, StoredObject
from airflow_backup_guard.repository.keys import check_key, check_prefix
from airflow_backup_guard.repository.s3_errors import raise_refusal, s3_errors_explained
from airflow_backup_guard.repository.s3_reader import S3Reader
from airflow_backup_guard.repository.s3_writer import S3Writer

_KEYS_IN_A_REQUEST = 1000


def default_client() -> Any:
    """A client from boto3's own chain: environment (also ``AWS_ENDPOINT_URL``), profile, role.

    Raises :class:`RepositoryDenied` or :class:`RepositoryUnavailable` if that chain is broken.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
        # Whoever reads an object compares its SHA-256 anyway.
        response_checksum_validation="when_required",
    )
    with s3_errors_explained("the default AWS configuration"):
        return boto3.session.Session().client("s3", config=config)


class S3Repository:
    """Objects under ``prefix`` in ``bucket``, by a boto3 S3 ``client``, whose configuration sets the retries.

    Needs s3:PutObject, GetObject, DeleteObject, AbortMultipartUpload, and on the bucket ListBucket and
    ListBucketMultipartUploads. Every byte is sent with a checksum that the server compares.
    """

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")

    def writer(self, key: str) -> S3Writer:
        """Start an upload, in parts if it gets long; errors as in the protocol."""
        return S3Writer(self._client, self._at(key), key, self.url)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """Store ``data`` in one request; errors as in the protocol."""
        digest = hashlib.sha256(data)
        checksum = base64.b64encode(digest.digest()).decode()
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        try:
            with s3_errors_explained(f"{self.url}/{key}"):
                self._client.put_object(**self._at(key), Body=data, ChecksumSHA256=checksum, **condition)
        except ObjectExists as error:
            if not self._is_ours(key, data, error):
                raise
        return StoredObject(key, len(data), digest.hexdigest())

    def reader(self, key: str) -> BinaryIO:
        """Open an object; reading goes on after a cut of the connection. Errors as in the protocol."""
        return BufferedReader(S3Reader(self._client, self._at(key), f"{self.url}/{key}"), 1 << 18)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose key starts with ``prefix``, sorted by key; errors as in the protocol."""
        for entry in self._pages("list_objects_v2", "Contents", check_prefix(prefix)):
            yield ObjectInfo(entry["Key"][len(self._prefix) :], entry["Size"], entry["LastModified"])

    def delete(self, key: str) -> None:
        """Remove an object; errors as in the protocol."""
        with s3_errors_explained(f"{self.url}/{key}"):
            self._client.delete_object(**self._at(key))

    def delete_all(self, keys: Iterable[str]) -> None:
        """Remove objects, a thousand in a request; errors as in the protocol."""
        left = iter([self._at(key)["Key"] for key in keys])
        refused: list[dict[str, str]] = []
        while some := [{"Key": key} for key in islice(left, _KEYS_IN_A_REQUEST)]:
            with s3_errors_explained(f"{self.url}/{some[0]['Key'][len(self._prefix) :]} and {len(some) - 1} more"):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": some, "Quiet": True})
            refused += (error for error in answer.get("Errors", ()) if error.get("Code") != "NoSuchKey")
        if refused:
            what = f"{self.url}/{refused[0].get('Key', '')[len(self._prefix) :]}"
            raise_refusal(
                what if len(refused) == 1 else f"{what}, one of {len(refused)} such,", refused[0], "DeleteObjects"
            )

    def abort_writes(self, prefix: str) -> int:
        """Abort the multipart uploads under ``prefix``; errors as in the protocol."""
        uploads = list(self._pages("list_multipart_uploads", "Uploads", check_prefix(prefix)))
        for upload in uploads:
            with s3_errors_explained(f"{self.url}/{prefix}", passed=("NoSuchUpload",)):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return len(uploads)

    def free_bytes(self) -> None:
        """None: a bucket has no end."""

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _pages(self, operation: str, field: str, prefix: str) -> Iterator[dict[str, Any]]:
        paginator = self._client.get_paginator(operation)
        pages = iter(paginator.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix))
        while True:
            with s3_errors_explained(f"{self.url}/{prefix}"):
                page = next(pages, None)
            if page is None:
                return
            yield from page.get(field, ())

    def _is_ours(self, key: str, data: bytes, error: ObjectExists) -> bool:
        """Whether a refused put was stored by its own earlier attempt, whose answer was lost."""
        answer = getattr(error.__cause__, "response", {})
        if not answer.get("ResponseMetadata", {}).get("RetryAttempts"):
            return False
        with self.reader(key) as reader:
            return reader.read(len(data) + 1) == data
