"""A repository in a bucket of S3, or of anything that speaks its API."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from io import BufferedReader
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_backup_guard.errors import ObjectExists, ObjectMissing
from airflow_backup_guard.repository.base import ObjectInfo, ObjectLock, StoredObject, UnfinishedWrite
from airflow_backup_guard.repository.keys import check_key, check_prefix
from airflow_backup_guard.repository.s3_errors import raise_refusal, s3_errors_explained
from airflow_backup_guard.repository.s3_reader import S3Reader
from airflow_backup_guard.repository.s3_writer import S3Writer

if TYPE_CHECKING:
    from botocore.config import Config

_KEYS_IN_A_REQUEST = 1000
# What S3 answers for a bucket without locks, or one that we may not ask about: what is locked in it is versioned, too,
# so that we remove nothing for good.
_NO_LOCKS = ("ObjectLockConfigurationNotFoundError", "NotImplemented", "MethodNotAllowed", "AccessDenied", "403")


def client_config() -> Config:
    """How a client is to behave, whoever makes it; what its own configuration says of the same goes before."""
    from botocore.config import Config

    return Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
        max_pool_connections=20,  # four archives are read at a time, each over three, and over four at first
        # Whoever reads an object compares its SHA-256 anyway.
        response_checksum_validation="when_required",
    )


def default_client() -> Any:
    """A client from boto3's own chain: environment (also ``AWS_ENDPOINT_URL``), profile, role.

    Raises :class:`RepositoryDenied` or :class:`RepositoryUnavailable` if that chain is broken.
    """
    import boto3

    with s3_errors_explained("the default AWS configuration"):
        return boto3.session.Session().client("s3", config=client_config())


class S3Repository:
    """Objects under ``prefix`` in ``bucket``, by a boto3 S3 ``client``, whose configuration sets the retries.

    With ``kms_key``, the id, alias or ARN of a key of AWS KMS, S3 encrypts with it what is written (SSE-KMS), by a key
    of the bucket. Writing then needs kms:GenerateDataKey; reading, and objects in parts, kms:Decrypt. Without it the
    bucket's default applies.

    Needs s3:PutObject, GetObject, DeleteObject, AbortMultipartUpload, and on the bucket ListBucket and
    ListBucketMultipartUploads. Every byte is sent with a checksum that the server compares.
    """

    def __init__(self, client: Any, bucket: str, prefix: str = "", kms_key: str | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._locks: bool | None = None
        self._encryption: dict[str, Any] = {}
        if kms_key is not None:
            self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key, "BucketKeyEnabled": True}

    @property
    def place(self) -> tuple[Any, str, str]:
        """Client, bucket, and prefix with its slash: for questions that are about the bucket itself."""
        return self._client, self._bucket, self._prefix

    def writer(self, key: str) -> S3Writer:
        """Start an upload, in parts if it gets long; errors as in the protocol."""
        return S3Writer(self._client, self._at(key), key, self.url, self._encryption)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """Store ``data`` in one request; errors as in the protocol."""
        digest = hashlib.sha256(data)
        checksum = base64.b64encode(digest.digest()).decode()
        options = {**self._encryption, **({"IfNoneMatch": "*"} if if_absent else {})}
        sealed = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
        try:
            with s3_errors_explained(f"{self.url}/{key}"):
                self._client.put_object(**self._at(key), Body=data, **sealed, **options)
        except ObjectExists as error:
            if not self._is_ours(key, data, error):
                raise
        return StoredObject(key, len(data), digest.hexdigest())

    def reader(self, key: str) -> BinaryIO:
        """Open an object; reading goes on after a cut of the connection. Errors as in the protocol."""
        return BufferedReader(S3Reader.open(self._client, self._at(key), f"{self.url}/{key}"), 1 << 18)

    def digest(self, key: str) -> str | None:
        """What S3 computed when the object came; None of what came in parts. Errors as in the protocol."""
        try:
            with s3_errors_explained(f"{self.url}/{key}"):
                answer = self._client.head_object(**self._at(key), ChecksumMode="ENABLED")
        except ObjectMissing:
            return None
        checksum = answer.get("ChecksumSHA256", "")
        # That of an object in parts is one of the parts' checksums, and ends in their number.
        return None if not checksum or "-" in checksum else base64.b64decode(checksum).hex()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose key starts with ``prefix``, sorted by key; errors as in the protocol."""
        for entry in self._pages("list_objects_v2", "Contents", check_prefix(prefix)):
            tag = f"{entry['ETag']}-{entry['LastModified']:%Y%m%dT%H%M%S}"
            yield ObjectInfo(entry["Key"][len(self._prefix) :], entry["Size"], entry["LastModified"], tag)

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

    def unfinished_writes(self, prefix: str) -> Iterator[UnfinishedWrite]:
        """Multipart uploads under ``prefix``, and when each began; errors as in the protocol."""
        for upload in self._uploads(prefix):
            yield UnfinishedWrite(upload["Key"][len(self._prefix) :], upload["Initiated"])

    def abort_writes(self, prefix: str) -> int:
        """Abort the multipart uploads under ``prefix``; errors as in the protocol."""
        uploads = list(self._uploads(prefix))
        for upload in uploads:
            with s3_errors_explained(f"{self.url}/{prefix}", passed=("NoSuchUpload",)):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return len(uploads)

    def lock_of(self, key: str) -> ObjectLock | None:
        """The object's retention or legal hold, in a bucket with Object Lock; errors as in the protocol.

        S3 tells only who has s3:GetObjectRetention and GetObjectLegalHold there; to others nothing looks locked.
        """
        at = self._at(key)
        if not self._has_locks():
            return None
        found: dict[str, Any] = {}
        with s3_errors_explained(f"{self.url}/{key}", passed=("404",)):
            found = self._client.head_object(**at)
        if found.get("ObjectLockLegalHoldStatus") == "ON":
            return ObjectLock(None)
        until = found.get("ObjectLockRetainUntilDate")
        if until is None or until <= datetime.now(timezone.utc):
            return None
        return ObjectLock(until.astimezone(timezone.utc))

    def free_bytes(self) -> None:
        """None: a bucket has no end."""

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _has_locks(self) -> bool:
        """Whether the bucket has Object Lock; asked once."""
        if self._locks is None:
            answer: dict[str, Any] = {}
            with s3_errors_explained(self.url, passed=_NO_LOCKS):
                answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
            self._locks = answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
        return self._locks

    def _uploads(self, prefix: str) -> Iterator[dict[str, Any]]:
        return self._pages("list_multipart_uploads", "Uploads", check_prefix(prefix))

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
