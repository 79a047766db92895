"""An audit of one plan as it is stored, and the chain that its audits make.

Keys below a repository's root::

    audits/<plan>/000007.json      the audit: created only if it is not there, never written again
    audits/<plan>/000007.html      the same to read and print
    audits/<plan>/000007.md        the same as Markdown
    audits/<plan>/000007.sha256    their SHA-256, as sha256sum reads them

Each audit has the SHA-256 of all files of the one before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_backup_guard.core.audit.values import Finding, Verdict
from airflow_backup_guard.core.catalog import BackupSummary

SUFFIXES = (".html", ".json", ".md")
"""What each audit is stored as, beside the list of digests."""

DIGESTS = ".sha256"
_NAME = re.compile(r"(\d{6,})(\.html|\.json|\.md|\.sha256)", re.ASCII)


@dataclass(frozen=True)
class FileDigest:
    """The SHA-256 of one file of an audit, in lower-case hex."""

    name: str
    sha256: str


@dataclass(frozen=True)
class PlanAudit:
    """One audit of one plan, from ``start`` to ``at``. ``backups`` are those that were there, for the next audit to
    compare with; ``before`` are the digests of the audit before, none for the first. ``by`` is the version of this
    package that made it."""

    format: int
    number: int
    plan_name: str
    repository: str
    plan: dict[str, Any]
    start: datetime
    at: datetime
    by: str
    findings: tuple[Finding, ...]
    backups: tuple[BackupSummary, ...] = ()
    before: tuple[FileDigest, ...] = ()
    before_at: datetime | None = None

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The open findings that nobody has accepted."""
        return tuple(finding for finding in self.findings if finding.is_problem)

    @property
    def good(self) -> bool:
        """Whether there is none of those."""
        return bool(self.findings) and not self.problems

    def count(self, verdict: Verdict) -> int:
        """How many findings have a verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)

    @property
    def summary(self) -> str:
        """One line: ``shop: 3 of 29 checks failed, 1 is unknown``."""
        failed, unknown = self.count(Verdict.FAIL), self.count(Verdict.UNKNOWN)
        accepted = sum(finding.accepted is not None for finding in self.findings)
        known = f", {accepted} of these accepted" if accepted else ""
        return f"{self.plan_name}: of {len(self.findings)} checks {failed} failed, {unknown} unknown{known}"


def audits_prefix(plan: str) -> str:
    """Where the audits of one plan lie."""
    return f"audits/{plan}/"


def file_name(number: int, suffix: str) -> str:
    """``000007.json``; they sort by number."""
    return f"{number:06}{suffix}"


def number_of(name: str) -> int | None:
    """The number of a file of an audit; None for what is none."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def digest_list(digests: Sequence[FileDigest]) -> bytes:
    """What ``sha256sum --check`` reads."""
    return "".join(f"{one.sha256}  {one.name}\n" for one in digests).encode()
