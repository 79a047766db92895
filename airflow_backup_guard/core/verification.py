"""What is proven of a backup: a state per object, named checks, levels with their evidence, and a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.units import Size


class Level(str, Enum):
    """How far a backup is proven; each level takes those before it for granted.

    ``stored``: every object is there, of the size that was written. ``readable``: every byte was read back, and is
    as it was written. ``consistent``: what the bytes mean is right, too: files, pages, WAL, identity. ``restored``: a
    PostgreSQL has run on it.
    """

    STORED = "stored"
    READABLE = "readable"
    CONSISTENT = "consistent"
    RESTORED = "restored"

    @property
    def rank(self) -> int:
        """Grows from level to level."""
        return list(Level).index(self)


class ObjectState(str, Enum):
    """``ok``, or how an object differs from what its record says.

    ``missing``; ``resized`` (another size); ``changed`` (same size, other bytes); ``inconsistent`` (the bytes that
    were written, but not what PostgreSQL promises of them); ``locked`` (bytes right, content encrypted
    and no identity given); ``unreadable`` (the repository did not deliver it, so nothing is known).
    """

    OK = "ok"
    MISSING = "missing"
    RESIZED = "resized"
    CHANGED = "changed"
    INCONSISTENT = "inconsistent"
    LOCKED = "locked"
    UNREADABLE = "unreadable"


_WRONG_AT = {
    Level.STORED: {ObjectState.MISSING, ObjectState.RESIZED},
    Level.READABLE: {ObjectState.CHANGED},
    Level.CONSISTENT: {ObjectState.INCONSISTENT},
}
_WRONG = set().union(*_WRONG_AT.values())


class Verdict(str, Enum):
    """How far a backup can be trusted.

    ``verified``: every byte is as it was written, and every file as PostgreSQL's manifest says. ``readable``: every
    byte is as it was written, and nobody looked inside. ``damaged``: do not rely on it. ``unknown``: something was not
    or could not be read, which is no pass.
    """

    VERIFIED = "verified"
    READABLE = "readable"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"

    @property
    def trusted(self) -> bool:
        """Whether every byte was read back, and is as it was written."""
        return self in (Verdict.VERIFIED, Verdict.READABLE)


@dataclass(frozen=True)
class ObjectReading:
    """When an object was read whole, and the repository's tag of it then; counts of what was right in it."""

    read_at: datetime
    tag: str
    files: int = 0
    pages: int = 0


@dataclass(frozen=True)
class ObjectVerdict:
    """One stored object's state, as far as it was ``examined``; ``detail`` is empty when it is ``ok``.

    ``reading`` is the last time that its bytes were read, None if there was none.
    """

    key: str
    state: ObjectState
    detail: str = ""
    examined: Level = Level.CONSISTENT
    reading: ObjectReading | None = None


@dataclass(frozen=True)
class Evidence:
    """What is known of one level: ``ok``, ``failed`` or ``unknown``, since when, and how it is known."""

    level: Level
    status: CheckStatus
    at: datetime
    detail: str


@dataclass(frozen=True)
class Verification:
    """One verification of one backup; ``bytes_read`` as stored, ``files`` found right against the manifest.

    ``bytes_read`` and ``seconds`` are of this run; what was read in earlier ones and not again has its time in its
    object's ``reading``. ``record_sha256`` is of the record that the backup was held against. What was stored before
    there were levels has neither that nor ``evidence``.
    """

    format: int
    backup_id: str
    verdict: Verdict
    verified_at: datetime
    seconds: float
    bytes_read: int
    files: int
    objects: tuple[ObjectVerdict, ...]
    checks: tuple[Check, ...]
    evidence: tuple[Evidence, ...] = ()
    record_sha256: str = ""

    @property
    def level(self) -> Level | None:
        """The highest level that is proven, with nothing known to be wrong at or below it."""
        if not self.evidence:
            return {Verdict.VERIFIED: Level.CONSISTENT, Verdict.READABLE: Level.READABLE}.get(self.verdict)
        best = None
        for found in sorted(self.evidence, key=lambda found: found.level.rank):
            if found.status is CheckStatus.FAILED:
                break
            if found.status is CheckStatus.OK:
                best = found.level
        return best

    @property
    def read_at(self) -> datetime | None:
        """Since when every byte is known to be right: the oldest reading; None unless all were read."""
        if not self.verdict.trusted:
            return None
        readings = [found.reading.read_at for found in self.objects if found.reading is not None]
        return min(readings, default=self.verified_at)

    def reaches(self, level: Level) -> bool:
        """Whether ``level`` or a higher one is proven."""
        return self.level is not None and self.level.rank >= level.rank

    @property
    def problems(self) -> list[str]:
        """One line for each thing that is not right."""
        return [
            *(f"{o.key}: {o.state.value}, {o.detail}" for o in self.objects if o.state is not ObjectState.OK),
            *(str(check) for check in self.checks if check.status is not CheckStatus.OK),
            *(f"{e.level.value}: {e.detail}" for e in self.evidence if e.level is Level.RESTORED and _failed(e)),
        ]


def judge(objects: Sequence[ObjectVerdict], checks: Sequence[Check]) -> Verdict:
    """Damaged if anything is known to be wrong; else unknown if anything, or all, was not looked at."""
    states = {verdict.state for verdict in objects}
    answers = {check.status for check in checks}
    if states & _WRONG or CheckStatus.FAILED in answers:
        return Verdict.DAMAGED
    least = min((verdict.examined.rank for verdict in objects), default=-1)
    if ObjectState.UNREADABLE in states or least < Level.READABLE.rank:
        return Verdict.UNKNOWN
    if ObjectState.LOCKED in states or least < Level.CONSISTENT.rank:
        return Verdict.READABLE
    return Verdict.UNKNOWN if CheckStatus.UNKNOWN in answers else Verdict.VERIFIED


def evidence(
    objects: Sequence[ObjectVerdict],
    of_record: Sequence[Check],
    of_content: Sequence[Check],
    stored: str,
    now: datetime,
) -> tuple[Evidence, ...]:
    """What ``objects`` and checks say of each level up to ``consistent``.

    ``of_record`` are the checks that need no content, ``stored`` says what the first level was found by.
    """
    readings = [verdict.reading for verdict in objects if verdict.reading is not None]
    since = min((reading.read_at for reading in readings), default=now)
    files, pages = (sum(counts) for counts in ([r.files for r in readings], [r.pages for r in readings]))
    details = {
        Level.STORED: stored,
        Level.READABLE: "every byte was read back, and has the SHA-256 that was written",
        Level.CONSISTENT: f"{files} files are as PostgreSQL's manifest says"
        + (f", {pages} pages have the right checksum" if pages else "")
        + ", the WAL is complete from start to end",
    }
    checks = {Level.STORED: of_record, Level.READABLE: (), Level.CONSISTENT: of_content}
    return tuple(
        _evidence(level, objects, checks[level], details[level], now if level is Level.STORED else since)
        for level in details
    )


def _evidence(
    level: Level, objects: Sequence[ObjectVerdict], checks: Sequence[Check], detail: str, at: datetime
) -> Evidence:
    wrong = [verdict.key for verdict in objects if verdict.state in _WRONG_AT[level]]
    wrong += [check.name for check in checks if check.status is CheckStatus.FAILED]
    if wrong:
        return Evidence(level, CheckStatus.FAILED, at, f"not right: {', '.join(wrong)}")
    doubts = list(_doubts(level, objects, checks))
    if doubts or not objects:
        return Evidence(level, CheckStatus.UNKNOWN, at, doubts[0] if doubts else "there is no object")
    return Evidence(level, CheckStatus.OK, at, detail)


def _doubts(level: Level, objects: Sequence[ObjectVerdict], checks: Sequence[Check]) -> Iterator[str]:
    earlier = set().union(*(states for lower, states in _WRONG_AT.items() if lower.rank < level.rank))
    for verdict in objects:
        if verdict.state in earlier:
            yield f"{verdict.key} is {verdict.state.value}"
        elif verdict.state is ObjectState.UNREADABLE:
            yield f"{verdict.key} could not be read"
        elif verdict.state is ObjectState.LOCKED and level is Level.CONSISTENT:
            yield "it is encrypted, and no identity was given to look inside"
        elif verdict.examined.rank < level.rank:
            yield "this was not asked for"
    yield from (str(check) for check in checks if check.status is CheckStatus.UNKNOWN)


def is_fresh(verdict: ObjectVerdict, wanted: Level, max_age: timedelta | None, now: datetime) -> bool:
    """Whether an object was read far enough, was right, and that is not longer than ``max_age`` ago (None: never)."""
    return (
        max_age is not None
        and verdict.state in (ObjectState.OK, ObjectState.LOCKED)
        and verdict.examined.rank >= wanted.rank
        and verdict.reading is not None
        and now - max_age <= verdict.reading.read_at <= now
    )


def with_evidence(verification: Verification, found: Evidence) -> Verification:
    """The same with what is now known of one level in place of what was known of it."""
    others = [known for known in verification.evidence if known.level is not found.level]
    return replace(verification, evidence=tuple(sorted([*others, found], key=lambda known: known.level.rank)))


def coverage(objects: int, size: int, digests: int) -> str:
    """How the first level is known: by size, and for ``digests`` objects by the checksum that the store keeps."""
    text = f"{objects} objects, {Size(size)}, each of the size that was written"
    return text + (f"; of {digests} the repository's own SHA-256 agrees" if digests else "")


def _failed(found: Evidence) -> bool:
    return found.status is CheckStatus.FAILED
