"""What a store is set to, for audits: what keeps its content from the public, and from being removed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from airflow_backup_guard.core.audit.facts import Bucket, PublicAccess
from airflow_backup_guard.core.audit.values import Absent, Fact, Known, Unknown
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.s3_errors import s3_errors_explained

T = TypeVar("T")
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_UNITS = ("Day", "Year")
_EVERYBODY = ("/global/AllUsers", "/global/AuthenticatedUsers")


def settings_of(repository: Repository, now: datetime) -> Bucket:
    """Ask the store, one question for each setting: what we may not ask is unknown, the rest is not. Raises nothing.

    A repository that is no bucket has none of these settings.
    """
    from airflow_backup_guard.repository.s3 import S3Repository

    if not isinstance(repository, S3Repository):
        absent = Absent("The repository is no bucket of an object store.", now, repository.url)
        return Bucket(absent, absent, absent, absent, absent, absent)
    client, bucket, prefix = repository.place
    source = f"s3://{bucket}"

    def asked(question: Callable[[], T]) -> Fact[T]:
        try:
            return Known(question(), now, source)
        except BackupGuardError as error:
            return Unknown(f"The bucket could not be asked: {error.message}", now, source)

    store = _Settings(client, bucket, prefix)
    return Bucket(
        endpoint=Known(str(client.meta.endpoint_url), now, source),
        public_access=asked(store.public_access),
        encryption=asked(store.encryption),
        versioning=asked(store.versioning),
        object_lock=asked(store.object_lock),
        incomplete_uploads_days=asked(store.incomplete_uploads_days),
    )


class _Settings:
    """One method for each question; ``passed`` are the codes by which S3 says that there is no such setting."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def public_access(self) -> PublicAccess:
        """The bucket's own block; that of its account cannot be seen with a bucket's credentials."""
        answer = self._ask("get_public_access_block", "NoSuchPublicAccessBlockConfiguration")
        blocks = answer.get("PublicAccessBlockConfiguration", {})
        missing = tuple(name for name in _BLOCKS if not blocks.get(name))
        return PublicAccess(missing, self._open() if missing else ())

    def encryption(self) -> str:
        """The algorithm."""
        answer = self._ask("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError")
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
        found = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "") for rule in rules]
        return ", ".join(filter(None, found))

    def versioning(self) -> bool:
        """Whether it is on, and not suspended."""
        return self._ask("get_bucket_versioning").get("Status") == "Enabled"

    def object_lock(self) -> str:
        """How objects are held by default; empty without a rule, as we put no lock on them ourselves."""
        answer = self._ask("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError")
        rule = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
        spans = [f"{rule[unit + 's']} {unit}{'s' * (rule[unit + 's'] != 1)}" for unit in _UNITS if rule.get(unit + "s")]
        return f"{rule.get('Mode', '').lower()} for {spans[0].lower()}" if spans else ""

    def incomplete_uploads_days(self) -> int | None:
        """Of the rules that are on and cover all of our prefix, the shortest time."""
        answer = self._ask("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration")
        days = [
            rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
            for rule in answer.get("Rules", ())
            if rule.get("Status") == "Enabled" and "AbortIncompleteMultipartUpload" in rule and self._covers(rule)
        ]
        return min(days, default=None)

    def _covers(self, rule: dict[str, Any]) -> bool:
        filtered = rule.get("Filter", {})
        by_prefix = filtered.get("Prefix", rule.get("Prefix", "")) or ""
        return set(filtered) <= {"Prefix"} and self._prefix.startswith(by_prefix)

    def _open(self) -> tuple[str, ...]:
        """How everybody gets in already, as far as we may ask: the lack of a block is bad enough without."""
        found = []
        acl = self._ask("get_bucket_acl", "AccessDenied", "403", "NotImplemented", "MethodNotAllowed")
        for grant in acl.get("Grants", ()):
            if str(grant.get("Grantee", {}).get("URI", "")).endswith(_EVERYBODY):
                found.append(f"{grant.get('Permission', 'some access')} by its access control list")
        return tuple(found)

    def _ask(self, operation: str, *passed: str) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        with s3_errors_explained(f"{operation} of s3://{self._bucket}", passed=passed):
            answer.update(getattr(self._client, operation)(Bucket=self._bucket))
        return answer
