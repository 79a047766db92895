"""The week of a database as its load shows it: half hours of wall-clock time, over some weeks.

Load is the worst of three signals, each as a share of its own peak:

* WAL written says what the database is asked to write, whoever asks.
* Commits say what an application does that mostly reads; a nightly batch with the highest WAL of all must not make
  its day look like rest.
* Commit latency rises where the others fall: a database in trouble commits little and writes little. So few commits
  alone are never taken for quiet.

The peak of a signal is what it exceeds in a hundredth of the time. What is not known is not quiet: a half hour with a
reading that lacks a signal, or with too few readings, is not quiet in that week.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from statistics import median

import pendulum

from airflow_backup_guard.core.load_history import LOAD_SIGNALS, LoadEntry, Reading, readings
from airflow_backup_guard.errors import InvalidPlan

CELL_MINUTES = 30
CELLS_A_DAY = 24 * 60 // CELL_MINUTES
CELLS = 7 * CELLS_A_DAY

WEEKS = 8
"""How many weeks count, by default."""

# Of a half hour that is known, readings tell two thirds at least.
_LEAST_TOLD = timedelta(minutes=CELL_MINUTES * 2 / 3)
# A load that never exceeds these is no load that anybody feels: of 1 MB/s as the peak, 0.3 MB/s would be a third. The
# probe of a guarded backup commits ten times a second.
_LEAST_PEAK = {"wal_rate": 1e6, "commit_rate": 100.0}
# A commit that takes three times what it takes at rest is at its peak, even if none has ever taken longer.
_LATENCY_TIMES = 3.0
_LEAST_LATENCY = 0.0005
# One reading in six may be high: a checkpoint that meets a sample is no hour of load, two readings are.
_HIGH_PERCENT = 80
_PEAK_PERCENT = 99
_REST_PERCENT = 10


@dataclass(frozen=True)
class Scale:
    """What each signal is at rest and at its peak, in its unit; a signal that was never measured is in neither."""

    rest: Mapping[str, float]
    peak: Mapping[str, float]

    def load(self, values: Mapping[str, float]) -> tuple[float, str] | None:
        """The worst of some values as a share of its peak, and its signal; None if there is none."""
        shares = ((self._share(name, value), name) for name, value in values.items() if name in self.peak)
        return max(shares, default=None)

    def _share(self, name: str, value: float) -> float:
        return max(0.0, value - self.rest[name]) / (self.peak[name] - self.rest[name])

    def lacking(self, reading: Reading) -> tuple[str, ...]:
        """The signals that a reading must have and has not."""
        needed = {"wal_rate", "commit_latency", *self.peak}
        if reading.backup:
            # It says more about the backup than about the application.
            needed.discard("commit_latency")
        return tuple(sorted(needed.difference(reading.values)))


@dataclass(frozen=True)
class Occurrence:
    """A half hour of one day: high values of the signals, as far as they are known, and why it is not known whole.

    ``load`` is a share of the peak, decided by ``signal``; of one that is ``unknown`` it was at least that.
    """

    day: date
    values: Mapping[str, float]
    load: float | None = None
    signal: str = ""
    unknown: str = ""


@dataclass(frozen=True)
class Cell:
    """One half hour of the week, ``number`` counted from Monday 00:00, over some weeks, the earliest first."""

    number: int
    occurrences: tuple[Occurrence, ...]

    @property
    def known(self) -> tuple[Occurrence, ...]:
        """The weeks in which it is known whole."""
        return tuple(one for one in self.occurrences if not one.unknown)

    @property
    def usual(self) -> float | None:
        """The median of its load, as a share of the peak; None if it is not known for any week."""
        loads = [one.load for one in self.known if one.load is not None]
        return median(loads) if loads else None

    @property
    def highest(self) -> float | None:
        """The highest load that was seen, in weeks that are not known whole, too."""
        return max((one.load for one in self.occurrences if one.load is not None), default=None)

    def is_quiet(self, quiet_below: float) -> bool:
        """True if it was never above this share of the peak, and is known for at least half of the weeks."""
        highest = self.highest
        return highest is not None and highest <= quiet_below and 2 * len(self.known) >= len(self.occurrences)


@dataclass(frozen=True)
class LoadWeek:
    """What is known of the week in the time zone ``tz``, from ``since`` to ``until``; ``cells`` are the 336 half hours.

    ``entries`` counts those that were recorded, ``failed`` those among them that do not tell the load, and
    ``during_backups`` those while a guarded backup ran.
    """

    tz: str
    since: datetime
    until: datetime
    scale: Scale
    cells: tuple[Cell, ...]
    entries: int
    failed: int
    during_backups: int

    @property
    def weeks(self) -> float:
        """How long it was watched, in weeks."""
        return (self.until - self.since) / timedelta(weeks=1)

    def coverage(self, cells: Iterable[Cell] | None = None) -> float:
        """Which share of some half hours, or all, is known; over all their weeks."""
        chosen = list(self.cells if cells is None else cells)
        total = sum(len(cell.occurrences) for cell in chosen)
        return sum(len(cell.known) for cell in chosen) / total if total else 0.0


def learn(entries: Iterable[LoadEntry], tz: str, now: datetime, weeks: int = WEEKS) -> LoadWeek | None:
    """What the entries of the last ``weeks`` say, whatever order they come in; None if there are none.

    Half hours are those of the clock on a wall in ``tz``: one that the clock skips is not there that day, one that it
    shows twice is both. Raises :class:`InvalidPlan` for a time zone or a number of weeks that is none.
    """
    zone = zone_named(tz)
    check_weeks(weeks)
    now = now.astimezone(timezone.utc)
    earliest = now - timedelta(weeks=weeks)
    found = [reading for reading in readings(entries) if earliest <= reading.at <= now]
    if not found:
        return None
    scale = scale_of(found)
    in_cells: dict[tuple[date, int], list[Reading]] = defaultdict(list)
    for reading in found:
        in_cells[cell_of(reading.at, zone)].append(reading)
    since = found[0].at
    cells: list[list[Occurrence]] = [[] for _ in range(CELLS)]
    day, last = since.astimezone(zone).date(), now.astimezone(zone).date()
    while day <= last:
        for of_day in range(CELLS_A_DAY):
            number = day.weekday() * CELLS_A_DAY + of_day
            start = _start(day, of_day, zone)
            seen = in_cells.get((day, number), [])
            # The one that is under way is not over, and the first one counts if anything was seen of it.
            if start is not None and start + timedelta(minutes=CELL_MINUTES) <= now and (seen or since <= start):
                cells[number].append(_occurrence(day, seen, scale))
        day += timedelta(days=1)
    return LoadWeek(
        tz,
        since,
        now,
        scale,
        tuple(Cell(number, tuple(occurrences)) for number, occurrences in enumerate(cells)),
        len(found),
        sum(bool(scale.lacking(reading)) for reading in found),
        sum(reading.backup for reading in found),
    )


def check_weeks(weeks: object) -> None:
    """Raise :class:`InvalidPlan` for a number of weeks that is none."""
    if not isinstance(weeks, int) or isinstance(weeks, bool) or not 1 <= weeks <= 26:
        raise InvalidPlan("weeks", weeks, "a number from 1 to 26")


def scale_of(found: Sequence[Reading]) -> Scale:
    """Rest and peak of each signal, from the readings while no guarded backup ran, if there are such."""
    undisturbed = [reading for reading in found if not reading.backup] or found
    rest, peak = {}, {}
    for name in LOAD_SIGNALS:
        values = sorted(reading.values[name] for reading in undisturbed if name in reading.values)
        if not values:
            continue
        high = _rank(values, _PEAK_PERCENT)
        if name == "commit_latency":
            rest[name] = _rank(values, _REST_PERCENT)
            peak[name] = max(high, _LATENCY_TIMES * rest[name], rest[name] + _LEAST_LATENCY)
        else:
            rest[name] = 0.0
            peak[name] = max(high, _LEAST_PEAK[name])
    return Scale(rest, peak)


def cell_of(moment: datetime, zone: tzinfo) -> tuple[date, int]:
    """The day and the number of the half hour that the wall clock shows at ``moment``."""
    local = moment.astimezone(zone)
    of_day = (local.hour * 60 + local.minute) // CELL_MINUTES
    return local.date(), local.weekday() * CELLS_A_DAY + of_day


def zone_named(tz: str) -> tzinfo:
    """A time zone by its name; raises :class:`InvalidPlan`."""
    try:
        return pendulum.timezone(tz if isinstance(tz, str) else "")
    except (ValueError, OSError):
        raise InvalidPlan("time zone", tz, 'the name of a time zone, such as "UTC" or "America/Los_Angeles"') from None


def clock(cell: int) -> str:
    """The time at which a half hour begins: ``02:30``; a number of the day or of the week."""
    minutes = cell % CELLS_A_DAY * CELL_MINUTES
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _start(day: date, of_day: int, zone: tzinfo) -> datetime | None:
    """When a half hour of a day begins, in UTC; None if the clock skips its start."""
    minutes = of_day * CELL_MINUTES
    local = datetime.combine(day, time(minutes // 60, minutes % 60), zone)
    utc = local.astimezone(timezone.utc)
    return utc if utc.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None) else None


def _occurrence(day: date, found: Sequence[Reading], scale: Scale) -> Occurrence:
    by_signal: dict[str, list[float]] = defaultdict(list)
    told = sum((reading.tells for reading in found), timedelta())
    unknown = "" if told >= _LEAST_TOLD else "measured too seldom" if found else "not measured"
    for reading in found:
        for name, value in reading.values.items():
            if not (reading.backup and name == "commit_latency"):
                by_signal[name].append(value)
        if lacking := scale.lacking(reading):
            unknown = f"without {', '.join(lacking)}"
    values = {name: _rank(sorted(seen), _HIGH_PERCENT) for name, seen in by_signal.items()}
    load = scale.load(values)
    return Occurrence(day, values, load[0] if load else None, load[1] if load else "", unknown)


def _rank(ordered: Sequence[float], percent: int) -> float:
    """A quantile by nearest rank: to raise a value never lowers it."""
    return ordered[(percent * len(ordered) - 1) // 100]
