"""Whether the audits that are stored are those that were made: each has the digests of the one before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.audit.document import (
    DIGESTS,
    SUFFIXES,
    FileDigest,
    PlanAudit,
    digest_list,
    file_name,
    number_of,
)
from airflow_backup_guard.errors import BackupDamaged


@dataclass(frozen=True)
class ChainResult:
    """``newest`` is the number of the newest audit, 0 if there is none, and ``sha256`` that of its JSON: to be kept
    elsewhere, as no chain can tell that its end was cut off."""

    plan_name: str
    audits: int
    newest: int
    sha256: str
    problems: tuple[str, ...]


def digests_of(files: Mapping[str, bytes], number: int) -> tuple[FileDigest, ...]:
    """Of the files of one audit, those that are there."""
    names = [name for suffix in SUFFIXES if (name := file_name(number, suffix)) in files]
    return tuple(FileDigest(name, hashlib.sha256(files[name]).hexdigest()) for name in names)


def verify_chain(plan_name: str, files: Mapping[str, bytes], expected: str = "") -> ChainResult:
    """Hold the files of all audits of a plan, by their names, against each other.

    Finds a file that was changed, an audit that was removed before the newest, and one that was put in between. It
    cannot tell by itself that the newest ones were removed, or that all was made anew by somebody who knows how: for
    that, ``expected`` is the SHA-256 of an audit's JSON that somebody has kept elsewhere, and must be among them.
    """
    problems = [f"{name} is no file of an audit." for name in sorted(files) if number_of(name) is None]
    numbers = sorted({number for name in files if (number := number_of(name)) is not None})
    newest = numbers[-1] if numbers else 0
    before: tuple[FileDigest, ...] = ()
    known = set()
    for previous, number in zip((0, *numbers), numbers, strict=False):
        if number > previous + 1:  # told at once: a file of any number may have been put there
            problems.append(_gap(previous + 1, number - 1))
            before = ()
        digests = digests_of(files, number)
        known |= {one.sha256 for one in digests if one.name.endswith(".json")}
        problems += _problems(plan_name, files, number, digests, before)
        before = digests
    if expected and expected.lower() not in known:
        problems.append(f"No audit has the SHA-256 {expected}: it was removed or changed after that was written down.")
    sha256 = next((one.sha256 for one in before if one.name.endswith(".json")), "")
    return ChainResult(plan_name, len(numbers), newest, sha256, tuple(problems))


def _gap(first: int, last: int) -> str:
    if first == last:
        return f"Audit {first} was removed: {file_name(first, '.json')} is not there."
    return f"Audits {first} to {last} were removed: none of them is there."


def _problems(
    plan_name: str,
    files: Mapping[str, bytes],
    number: int,
    digests: tuple[FileDigest, ...],
    before: tuple[FileDigest, ...],
) -> list[str]:
    json, listed = file_name(number, ".json"), file_name(number, DIGESTS)
    if json not in files:
        return [f"Audit {number} was removed: {json} is not there."]
    try:
        audit = backup.load(PlanAudit, files[json], json)
    except BackupDamaged as error:
        return [error.message]
    problems = []
    if (audit.number, audit.plan_name) != (number, plan_name):
        problems.append(f"{json} is audit {audit.number} of plan {audit.plan_name}: it was put here.")
    if files.get(listed) != digest_list(digests) or len(digests) != len(SUFFIXES):
        problems.append(f"{listed} does not agree with the files of audit {number}: one was changed or removed.")
    if audit.before != before:
        what = f"audit {number - 1} was changed, removed or put in" if number > 1 else "it was not the first"
        problems.append(f"{json} has other digests of the one before than there are: {what}.")
    return problems
