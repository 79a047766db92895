"""What S3's refusals mean to somebody whose backup goes to a bucket."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import NoReturn

from airflow_backup_guard.errors import (
    BackupGuardError,
    ObjectExists,
    ObjectMissing,
    RepositoryDenied,
    RepositoryFull,
    RepositoryUnavailable,
)

_Meaning = tuple[type[BackupGuardError], str, str]

_MISSING: _Meaning = (ObjectMissing, "is not there", "")
_EXISTS: _Meaning = (ObjectExists, "is already there, or is being written by somebody else", "")
_DENIED: _Meaning = (
    RepositoryDenied,
    "is not allowed to us",
    "Check the key, and that its policy and the bucket's allow s3:PutObject, GetObject, DeleteObject, "
    "AbortMultipartUpload, ListBucket and ListBucketMultipartUploads.",
)
_EXPIRED: _Meaning = (RepositoryDenied, "was asked for with expired credentials", "Renew the credentials.")
_REGION: _Meaning = (
    RepositoryUnavailable,
    "is in another region",
    "Set the region of the bucket in the connection, or AWS_REGION.",
)
_FULL: _Meaning = (
    RepositoryFull,
    "does not fit",
    "Free space in the bucket, raise its quota, or shorten the retention.",
)
_UNREACHABLE: _Meaning = (
    RepositoryUnavailable,
    "cannot be reached",
    "Check the endpoint, the network and the service's health, then try again.",
)

_UNTRUSTED: _Meaning = (
    RepositoryDenied,
    "was asked of a server that did not prove who it is",
    "Correct the endpoint to the name in its certificate, and name the authority that gave it in AWS_CA_BUNDLE, or as "
    "verify in the connection's extra; do not turn the check off.",
)

_CODES: dict[str, _Meaning] = {
    "NoSuchBucket": (
        RepositoryUnavailable,
        "is in a bucket that does not exist",
        "Create the bucket, or correct the repository's URL.",
    ),
    "NoSuchKey": _MISSING,
    "404": _MISSING,
    "NoSuchUpload": (
        RepositoryUnavailable,
        "had its upload aborted by somebody else",
        "Check that no lifecycle rule or clean-up aborts uploads that are under way.",
    ),
    "PreconditionFailed": _EXISTS,
    "ConditionalRequestConflict": _EXISTS,
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "AllAccessDisabled": _DENIED,
    "InvalidAccessKeyId": _DENIED,
    "InvalidToken": _DENIED,
    "SignatureDoesNotMatch": _DENIED,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": (
        RepositoryDenied,
        "was asked for at another time than the service's",
        "Set this machine's clock right.",
    ),
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "301": _REGION,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "InsufficientStorage": _FULL,
    "507": _FULL,
}

_WITHOUT_CREDENTIALS: _Meaning = (
    RepositoryDenied,
    "was asked for without usable credentials",
    "Give them in the Airflow connection, the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a "
    "profile or a role.",
)


@contextlib.contextmanager
def s3_errors_explained(what: str, *, passed: Collection[str] = ()) -> Iterator[None]:
    """Turn botocore's errors about ``what`` into ones of this package; codes in ``passed`` are no error."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        detail = error.response.get("Error", {})
        code = str(detail.get("Code", ""))
        if code in passed:
            return
        kind, fact, remedy = _CODES.get(code, _UNREACHABLE)
        # A server that gives no message makes boto say "Unknown".
        reason = ": ".join(filter(None, (code, detail.get("Message"))))
        raise kind(f"{what} {fact} ({error.operation_name}: {reason}).", remedy=remedy) from error
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.SSOError,
        exceptions.ProfileNotFound,
    ) as error:
        kind, fact, remedy = _WITHOUT_CREDENTIALS
        raise kind(f"{what} {fact} ({error}).", remedy=remedy) from error
    except exceptions.BotoCoreError as error:
        # Other faults of TLS pass: a connection that was cut while it began is one.
        untrusted = isinstance(error, exceptions.SSLError) and re.search("certificate|hostname", str(error), re.I)
        kind, fact, remedy = _UNTRUSTED if untrusted else _UNREACHABLE
        raise kind(f"{what} {fact} ({error}).", remedy=remedy) from error


def raise_refusal(what: str, error: Mapping[str, str], operation: str) -> NoReturn:
    """Raise what S3 said of one of many keys: ``error`` has its ``Code`` and ``Message``."""
    from botocore.exceptions import ClientError

    with s3_errors_explained(what):
        raise ClientError({"Error": {"Code": error.get("Code", ""), "Message": error.get("Message", "")}}, operation)
    raise AssertionError
