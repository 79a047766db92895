"""Checks of where backups lie: the way there, and what the bucket is set to."""

from __future__ import annotations

from urllib.parse import urlsplit

from airflow_backup_guard.core.audit.facts import Facts, PublicAccess
from airflow_backup_guard.core.audit.values import Judgement, fails, passes

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def store_tls(endpoint: str, facts: Facts) -> Judgement:
    """What goes to the store is encrypted on its way, or does not leave this machine."""
    parts = urlsplit(endpoint)
    if parts.scheme == "https":
        return passes(f"The store is reached at {endpoint}.")
    if parts.hostname in _THIS_MACHINE:
        return passes(f"The store is reached at {endpoint}, on the machine of this audit.")
    return fails(f"The store is reached at {endpoint}, without encryption.")


def not_public(access: PublicAccess, facts: Facts) -> Judgement:
    """All four blocks of public access are on."""
    if not access.missing:
        return passes("All four blocks of public access are on.")
    is_open = f" It is open to everybody: {', '.join(access.open)}." if access.open else ""
    return fails(f"The bucket does not block public access: {', '.join(access.missing)} is off.{is_open}")


def encrypts(algorithm: str, facts: Facts) -> Judgement:
    """The bucket encrypts what it stores."""
    return passes(f"It encrypts with {algorithm}.") if algorithm else fails("It has no default encryption.")


def versions(versioned: bool, facts: Facts) -> Judgement:
    """What is overwritten or removed can be had back."""
    return passes("It keeps old versions.") if versioned else fails("It keeps no old versions.")


def locks(found: str, facts: Facts) -> Judgement:
    """Nobody can remove backups before their time, not even with our credentials."""
    if found:
        return passes(f"Object Lock is on, {found}.")
    return fails("It has no Object Lock that holds by default.")


def aborts_uploads(days: int | None, facts: Facts) -> Judgement:
    """Uploads that nobody finished do not stay for ever, unseen and paid for."""
    if days is None:
        return fails("No lifecycle rule aborts incomplete uploads under the repository's prefix.")
    return passes(f"A lifecycle rule aborts incomplete uploads after {days} days.")
