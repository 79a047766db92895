"""What is kept of a database's load for months: an entry every few minutes, and what the entries say between them.

Keys below a repository's root::

    load/<plan>/20261123T090000Z-a98c.json               one entry, as it was recorded
    load/<plan>/20261122-0123456789abcdef.jsonl.zst      the entries of a day (UTC), sorted; named for a digest of them

An object is never changed. Whoever packs a day writes a new object and then removes only what is in it, so that no
entry is lost however many record and pack at once; one that is there twice counts once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from itertools import chain, groupby
from math import inf
from operator import attrgetter
from typing import Any

from airflow_backup_guard.core.backup import FORMAT, new_backup_id
from airflow_backup_guard.core.load import LoadSample, baseline_of
from airflow_backup_guard.errors import BackupDamaged

LOAD_SIGNALS = ("wal_rate", "commit_rate", "commit_latency")
"""What counts as load in the long run; :mod:`.hours` says why."""

LOAD = "load/"
"""Where the load of all plans lies."""

KEEP_DAYS = 183
"""How many days are kept."""

LONGEST_GAP = timedelta(minutes=15)
"""What happened between two entries is known if they are no further apart."""

_SHORTEST_GAP = timedelta(seconds=30)
_KEY = re.compile(r"(?P<day>\d{8})(T\d{6}Z-[0-9a-f]{4}\.json|-[0-9a-f]{16}\.jsonl\.zst)", re.ASCII)
PACKED = ".jsonl.zst"
"""How the key of a packed day ends."""


@dataclass(frozen=True)
class Counters:
    """How far what only grows had come: bytes of WAL, and commits unless they are not counted.

    Those of two entries can be compared if ``origin`` is the same: a server, since its start and its statistics' reset.
    """

    origin: str
    wal: float
    commits: float | None = None


@dataclass(frozen=True)
class LoadEntry:
    """The load at one time: the median of each signal over a few seconds, and why others of LOAD_SIGNALS are missing.

    ``at`` is in UTC. ``backup`` tells whether a guarded backup ran, None if that is not known.
    """

    at: datetime
    values: Mapping[str, float] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    counters: Counters | None = None
    backup: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the moment comes first, so that lines sort by time."""
        at = self.at.astimezone(timezone.utc)
        plain: dict[str, Any] = {"at": f"{at:%Y-%m-%dT%H:%M:%S.%f}Z", "format": FORMAT, "backup": self.backup}
        plain["values"] = dict(self.values)
        if self.unavailable:
            plain["unavailable"] = dict(self.unavailable)
        if self.counters is not None:
            plain["counters"] = {
                "origin": self.counters.origin,
                "wal": self.counters.wal,
                "commits": self.counters.commits,
            }
        return plain

    def to_line(self) -> bytes:
        """One line of JSON, without its end."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_line(cls, line: bytes, what: str) -> LoadEntry:
        """Read back what :meth:`to_line` wrote; raises :class:`BackupDamaged` naming ``what``."""
        try:
            plain = json.loads(line)
            if plain["format"] != FORMAT:
                raise BackupDamaged(
                    f"{what} has format {plain['format']}, and this release knows formats up to {FORMAT}.",
                    remedy="Use the release that wrote it, or a newer one.",
                )
            counters = plain.get("counters")
            return cls(
                datetime.fromisoformat(plain["at"].removesuffix("Z")).replace(tzinfo=timezone.utc),
                {str(name): float(value) for name, value in plain["values"].items()},
                {str(name): str(reason) for name, reason in plain.get("unavailable", {}).items()},
                counters and Counters(**counters),
                plain["backup"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupDamaged(f"{what} cannot be read: {error!r}.", remedy="Is it one of ours?") from error

    @property
    def unknown(self) -> Mapping[str, str]:
        """Why the load is not known, by signal; empty if it is. Not counting commits is no hindrance."""
        return {name: reason for name, reason in self.unavailable.items() if name != "commit_rate"}


@dataclass(frozen=True)
class Reading:
    """What one entry says of the time since the one before: values of LOAD_SIGNALS, as far as they are known.

    ``at`` is the middle of that time, and ``tells`` its length: nothing if the one before is further away than
    LONGEST_GAP. ``backup`` tells whether a guarded backup ran in it, as far as that is known.
    """

    at: datetime
    values: Mapping[str, float]
    backup: bool = False
    tells: timedelta = timedelta(0)


def summarize(samples: Sequence[LoadSample], at: datetime, counters: Counters | None, backup: bool | None) -> LoadEntry:
    """One entry of the samples of a few seconds. A signal that most of them lack is unknown."""
    seen = {name: sum(name in sample.values for sample in samples) for name in baseline_of(samples)}
    values = {
        name: float(f"{value:.4g}") for name, value in baseline_of(samples).items() if 2 * seen[name] > len(samples)
    }
    unavailable = {}
    for name in LOAD_SIGNALS:
        if name not in values:
            lacking = [sample for sample in samples if name not in sample.values]
            unavailable[name] = lacking[-1].unavailable.get(name, lacking[-1].missing) if lacking else "not measured"
    return LoadEntry(at, values, unavailable, counters, backup)


def readings(entries: Iterable[LoadEntry]) -> list[Reading]:
    """What the entries say, in order of time, whatever order they come in.

    Counters tell what happened between two entries, so that a burst which no sample met is not missed. Where they
    cannot be compared, what was sampled counts.
    """
    found: list[Reading] = []
    previous: LoadEntry | None = None
    for entry in _in_order(entries):
        values = {name: entry.values[name] for name in LOAD_SIGNALS if 0 <= entry.values.get(name, -1.0) < inf}
        at, backup = entry.at, bool(entry.backup)
        gap = entry.at - previous.at if previous is not None else LONGEST_GAP * 2
        if previous is not None and _SHORTEST_GAP <= gap <= LONGEST_GAP and (grown := _grown(previous, entry)):
            values.update(grown)
            at, backup = previous.at + gap / 2, backup or bool(previous.backup)
        found.append(Reading(at, values, backup, gap if gap <= LONGEST_GAP else timedelta(0)))
        previous = entry
    return found


def _in_order(entries: Iterable[LoadEntry]) -> Iterator[LoadEntry]:
    """By time, each once; those of one instant, which two recorders may have stored, by what they say."""
    for _, same in groupby(sorted(entries, key=_at), key=_at):
        some = list(same)
        yield from some if len(some) == 1 else {entry.to_line(): entry for entry in sorted(some, key=_line)}.values()


_at, _line = attrgetter("at"), LoadEntry.to_line


def _grown(earlier: LoadEntry, later: LoadEntry) -> dict[str, float]:
    one, other = earlier.counters, later.counters
    if one is None or other is None or one.origin != other.origin or other.wal < one.wal:
        return {}
    seconds = (later.at - earlier.at).total_seconds()
    rates = {"wal_rate": (other.wal - one.wal) / seconds}
    if one.commits is not None and other.commits is not None and other.commits >= one.commits:
        rates["commit_rate"] = (other.commits - one.commits) / seconds
    return rates


def load_prefix(plan: str) -> str:
    """Where the load of one plan lies."""
    return f"{LOAD}{plan}/"


def entry_key(plan: str, at: datetime, suffix: int) -> str:
    """Where one entry lies; ``suffix`` (16 bits of randomness) tells apart two of one second."""
    return f"{load_prefix(plan)}{new_backup_id(at, suffix)}.json"


def packed_key(plan: str, day: str, content: bytes) -> str:
    """Where the packed entries of a day (``20261122``) lie."""
    return f"{load_prefix(plan)}{day}-{hashlib.sha256(content).hexdigest()[:16]}{PACKED}"


def day_of(key: str) -> str | None:
    """The day (``20261122``) that an object is of, or None if it is none of ours."""
    match = _KEY.fullmatch(key.rpartition("/")[2])
    return match["day"] if match else None


def day_name(day: date) -> str:
    """``20261122``."""
    return f"{day:%Y%m%d}"


def packed(contents: Iterable[bytes]) -> bytes:
    """All lines of some objects, each once, sorted: the same whatever order and overlap they come in."""
    lines = set(chain.from_iterable(content.splitlines() for content in contents))
    return b"".join(line + b"\n" for line in sorted(lines) if line)
