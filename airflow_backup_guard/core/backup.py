"""What a backup is: the snapshot it starts from, the record that makes it visible, and where its parts lie.

Keys below a repository's root::

    records/<plan>/<backup_id>.json        written last; a backup is visible if and only if this exists
    attempts/<plan>/<backup_id>.json       written by the snapshot, removed once the record is there
    backups/<plan>/<backup_id>/…           the archives, backup_manifest, WAL and telemetry
    verifications/<plan>/<backup_id>.json  the latest verification
    drills/<plan>/<backup_id>.json         the latest restore drill; see :mod:`.drill`
    holds/<plan>/<backup_id>.json          a person's word that it stays; see :mod:`.holds`
    expiring/<plan>/<backup_id>.json       while it is being removed; see :mod:`.expiry`
    catalog/<plan>.json                    what listings remember; see :mod:`.catalog`
    load/<plan>/…                          the load over months; see :mod:`.load_history`
    control/<plan>/<backup_id>/…           orders to a copy that runs; see :mod:`.control`
    audits/<plan>/<number>.json            audits; see :mod:`.audit.document`
    runbooks/<plan>/runbook.html, .md      how to get the cluster back; see :mod:`.runbook.facts`
    rogues/<plan>/<id>.json                evidence of a backup that nobody guards

Kinds come first so that one listing of a short prefix finds every backup of every plan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import BackupDamaged

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1
"""Version of the stored format; a reader refuses a newer one."""

_BACKUP_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}", re.ASCII)
# A restore makes paths of these.
_PART_NAMES = {"archive": re.compile(r"base|[0-9]{1,10}"), "wal": re.compile(r"[0-9A-F]{24}")}
_WAL_SEGMENT_SIZES = tuple(1 << bits for bits in range(20, 31))  # as initdb takes them
_SEGMENTS_MISSING = 10_000  # beyond that a range of WAL is nonsense, and counting its segments could take for ever
_LARGEST_NUMBER = 1 << 64
T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """Who a database cluster is. ``server_version`` is like 180006; ``wal_segment_size`` in bytes."""

    system_identifier: str
    server_version: int
    timeline: int
    wal_segment_size: int
    data_checksums: bool

    def __post_init__(self) -> None:
        if self.wal_segment_size not in _WAL_SEGMENT_SIZES:
            raise ValueError(f"WAL has no segments of {self.wal_segment_size} bytes")

    @property
    def major(self) -> int:
        """Major version, such as 18."""
        return self.server_version // 10000


@dataclass(frozen=True)
class Database:
    """One database; ``size`` in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Tablespace:
    """One tablespace outside of the data directory; ``size`` in bytes, 0 where it may not be asked."""

    oid: int
    name: str
    location: str
    size: int

    def __post_init__(self) -> None:
        if "\0" in self.location:
            raise ValueError(f"no tablespace can be at {self.location!r}")


@dataclass(frozen=True)
class Snapshot:
    """What a copy must contain: every transaction committed before ``lsn``; of a ``standby``, that it had replayed.

    ``size`` in bytes, an estimate, 0 if unknown.
    """

    backup_id: str
    plan: dict[str, Any]
    cluster: Cluster
    lsn: LSN
    taken_at: datetime
    size: int
    databases: tuple[Database, ...]
    tablespaces: tuple[Tablespace, ...]
    warnings: tuple[str, ...] = ()
    standby: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.plan.get("name"), str):
            raise ValueError("its plan has no name")
        _check_zones(self.taken_at)

    @property
    def plan_name(self) -> str:
        """Name of the plan that it was taken under."""
        return str(self.plan["name"])


@dataclass(frozen=True)
class StoredPart:
    """One object of a backup: ``size`` bytes stored with ``sha256``, ``content_size`` once decoded.

    ``kind`` is ``archive`` (``name``: ``base`` or a tablespace's OID), ``manifest``, ``wal`` (``name``: the
    segment) or ``telemetry``.
    """

    kind: str
    name: str
    key: str
    size: int
    sha256: str
    content_size: int

    def __post_init__(self) -> None:
        if (form := _PART_NAMES.get(self.kind)) and not form.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of a part of kind {self.kind}")
        if min(self.size, self.content_size) < 0:
            raise ValueError(f"part {self.key!r} has a negative size")


@dataclass(frozen=True)
class Latency:
    """Latency of commits, or on a standby of reads, over ``samples`` measurements, in seconds; quantiles are None when
    there were none."""

    samples: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, values: list[float]) -> Latency:
        """Quantiles by nearest rank."""
        ordered = sorted(values)

        def rank(percent: int) -> float | None:
            return ordered[(percent * len(ordered) - 1) // 100] if ordered else None

        return cls(len(ordered), rank(50), rank(95), rank(99))


@dataclass(frozen=True)
class Pause:
    """One stretch of time, in seconds, in which the copy only trickled, and the reason it began for."""

    began_at: datetime
    seconds: float
    reason: str


@dataclass(frozen=True)
class Impact:
    """What the application felt, and what the guard did about it; times in seconds, by load level in
    ``seconds_at``."""

    before: Latency
    during: Latency
    after: Latency
    seconds_throttled: float = 0.0
    seconds_paused: float = 0.0
    pauses: tuple[Pause, ...] = ()
    seconds_at: dict[str, float] = field(default_factory=dict)

    @property
    def tax(self) -> float | None:
        """Latency at p95 during the copy as a multiple of what it was before; None if either was not measured."""
        if not self.before.p95 or self.during.p95 is None:
            return None
        return self.during.p95 / self.before.p95


@dataclass(frozen=True)
class BackupRecord:
    """A whole backup. WAL from ``start_lsn`` to ``end_lsn`` on ``timeline`` is among its ``parts``.

    ``tablespaces`` are those that it has an archive of; one may have been created or dropped since the snapshot. The
    server was asked for it at ``started_at``, and sent its first byte ``checkpoint_seconds`` later.
    """

    format: int
    snapshot: Snapshot
    tablespaces: tuple[Tablespace, ...]
    timeline: int
    start_lsn: LSN
    end_lsn: LSN
    started_at: datetime
    checkpoint_seconds: float
    ended_at: datetime
    parts: tuple[StoredPart, ...]
    impact: Impact
    written_by: str

    def __post_init__(self) -> None:
        _check_zones(self.started_at, self.ended_at)
        segments = (self.end_lsn - self.start_lsn) // self.snapshot.cluster.wal_segment_size
        if segments > len(self.parts) + _SEGMENTS_MISSING:
            raise ValueError(f"it has {len(self.parts)} parts, and its WAL {segments} segments")

    @property
    def backup_id(self) -> str:
        """Sorts by the time of the snapshot."""
        return self.snapshot.backup_id

    @property
    def plan_name(self) -> str:
        """Name of the plan that it was made under."""
        return self.snapshot.plan_name

    @property
    def database_size(self) -> int:
        """Bytes that were read from the database."""
        return sum(part.content_size for part in self.parts if part.kind == "archive")

    @property
    def stored_size(self) -> int:
        """Bytes in the repository."""
        return sum(part.size for part in self.parts)

    @property
    def seconds(self) -> float:
        """How long it took, the checkpoint included."""
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def rate(self) -> float:
        """Bytes per second read from the database, from the first byte on."""
        return self.database_size / max(self.seconds - self.checkpoint_seconds, 0.001)

    def parts_of(self, kind: str) -> list[StoredPart]:
        """The parts of one kind, in order of their names."""
        return sorted((part for part in self.parts if part.kind == kind), key=lambda part: part.name)


@dataclass(frozen=True)
class Attempt:
    """A backup that has begun and is not visible; ``outcome`` says how it ended once it has, without a record.

    ``tries`` counts the copies that have begun on it. Only the last of them may go on: an earlier one whose worker was
    taken for dead, and was not, sees it here.
    """

    format: int
    snapshot: Snapshot
    outcome: str | None = None
    tries: int = 0


def new_backup_id(now: datetime, suffix: int) -> str:
    """An id that sorts by time; ``suffix`` (16 bits of randomness) tells apart two of one second."""
    return f"{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{suffix & 0xFFFF:04x}"


def is_backup_id(text: str) -> bool:
    """True for what :func:`new_backup_id` makes."""
    return _BACKUP_ID.fullmatch(text) is not None


RECORDS = "records/"
"""Where the records of all plans lie."""


def record_key(plan: str, backup_id: str) -> str:
    """Where one backup's record lies."""
    return f"{RECORDS}{plan}/{backup_id}.json"


def attempts_prefix(plan: str) -> str:
    """Where the attempts of a plan lie."""
    return f"attempts/{plan}/"


def attempt_key(plan: str, backup_id: str) -> str:
    """Where one attempt lies."""
    return f"attempts/{plan}/{backup_id}.json"


def parts_prefix(plan: str, backup_id: str) -> str:
    """Where the parts of one backup lie."""
    return f"backups/{plan}/{backup_id}/"


def try_prefix(plan: str, backup_id: str, number: int) -> str:
    """Where one try to copy puts the parts: the first where they belong, and each later one in a folder of its own, as
    an earlier one may not be dead, and must not write or delete what is the later one's."""
    own = f"try-{number}/" if number > 1 else ""
    return f"{parts_prefix(plan, backup_id)}{own}"


VERIFICATIONS = "verifications/"
"""Where the latest verifications of all plans lie."""


def verification_key(plan: str, backup_id: str) -> str:
    """Where the latest verification of one backup lies."""
    return f"{VERIFICATIONS}{plan}/{backup_id}.json"


def dump(value: Any) -> bytes:
    """JSON of a :class:`BackupRecord`, :class:`Attempt` or any other dataclass here, indented, for people too."""
    return _adapter(type(value)).dump_json(value, indent=2)


def dump_plain(value: Any) -> dict[str, Any]:
    """The same as plain values, for XCom and ``--json``."""
    plain: dict[str, Any] = _adapter(type(value)).dump_python(value, mode="json")
    return plain


def load_plain(kind: type[T], values: Any) -> T:
    """Read back what :func:`dump_plain` wrote."""
    return _adapter(kind).validate_python(values)


def load(kind: type[T], data: bytes, what: str) -> T:
    """Read back what :func:`dump` wrote; raises :class:`BackupDamaged` naming ``what`` if it cannot be.

    So it is with numbers that are none of 64 bits or not finite, which would fail later, wherever they are used.
    """
    import json

    try:
        document = json.loads(data, parse_int=_integer, parse_float=_finite, parse_constant=_finite)
        version = document.get("format", FORMAT)
        if version == FORMAT:
            return _adapter(kind).validate_json(data)
    except (ValueError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise BackupDamaged(f"{what} cannot be read: {reason}.", remedy="Is it one of ours?") from error
    raise BackupDamaged(
        f"{what} has format {version}, and this release knows formats up to {FORMAT}.",
        remedy="Use the release that wrote it, or a newer one.",
    )


def _check_zones(*times: datetime) -> None:
    """Times with and without a zone cannot be compared."""
    if any(time.tzinfo is None for time in times):
        raise ValueError("a time has no zone")


def _integer(text: str) -> int:
    number = int(text)
    if abs(number) >= _LARGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    adapter: TypeAdapter[T] = _new_adapter(kind)  # type: ignore[arg-type]  # mypy takes no type for Hashable
    return adapter


@cache
def _new_adapter(kind: type[T]) -> TypeAdapter[T]:
    # pydantic is imported when a record is first read or written, not while a DAG file is parsed.
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
