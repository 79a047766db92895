"""The limits that a plan sets on a database's load, absolute or relative to its baseline, and its own signals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import inf
from typing import Any

import attrs

from airflow_backup_guard.core.signals import COUNT, CUSTOM, SIGNALS, Unit
from airflow_backup_guard.errors import InvalidPlan

_TIMES = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*x", re.ASCII)
_PAIR = "one value (max), or two (max, critical)"
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Limit:
    """Above ``max`` a backup slows down, above ``critical`` it pauses; both in the signal's unit.

    ``max_times`` and ``critical_times`` are multiples of the signal's baseline; what they stand in for is infinite.
    """

    max: float
    critical: float = inf
    max_times: float | None = None
    critical_times: float | None = None

    @property
    def relative(self) -> bool:
        """Whether it takes a baseline to know it."""
        return self.max_times is not None or self.critical_times is not None

    def at(self, baseline: float) -> Limit:
        """The absolute limit at this baseline, in the signal's unit; ``max`` is at most ``critical`` then."""
        critical = self.critical if self.critical_times is None else self.critical_times * baseline
        low = self.max if self.max_times is None else self.max_times * baseline
        return Limit(min(low, critical), critical)


def times_text(times: float) -> str:
    """A multiple as plans write it: ``3x``."""
    return COUNT.write(times) + "x"


def _threshold(unit: Unit, value: Any, where: str) -> tuple[float, float | None]:
    match = _TIMES.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return unit.parse(value, where), None
    if float(match[1]) <= 1:
        raise InvalidPlan(where, value, 'a multiple of the baseline above one, such as "3x"')
    return inf, float(match[1])


def _read(unit: Unit, value: Any, where: str) -> Limit:
    pair = value if isinstance(value, tuple | list) else (value,)
    if isinstance(value, Limit):
        try:
            pair = _write(unit, value)  # what could not be written would be lost with the record
        except (ArithmeticError, TypeError, ValueError):
            raise InvalidPlan(where, value, "numbers, in the unit of the signal") from None
    if len(pair) not in (1, 2):
        raise InvalidPlan(where, value, _PAIR)
    low, low_times = _threshold(unit, pair[0], where)
    critical, critical_times = _threshold(unit, pair[1], where) if len(pair) == 2 else (inf, None)
    both_relative = low_times is not None and critical_times is not None
    if low <= 0 or (low_times is None and critical < low) or (both_relative and critical_times < low_times):  # type: ignore[operator]
        raise InvalidPlan(where, value, "max above zero, and critical not below max")
    return Limit(low, critical, low_times, critical_times)


def _write(unit: Unit, limit: Limit) -> list[str]:
    both = [(limit.max, limit.max_times), (limit.critical, limit.critical_times)]
    if any(times is not None and absolute != inf for absolute, times in both):
        raise ValueError("absolute and relative at once")
    given = both[:1] if both[1] == (inf, None) else both
    return [unit.write(absolute) if times is None else times_text(times) for absolute, times in given]


def _limit(value: Any, name: str = "") -> Limit | None:
    return None if value is None else _read(SIGNALS[name].unit, value, f"limits.{name}")


def _know_their_names(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    # attrs tells a converter the value only.
    return [
        field.evolve(converter=partial(_limit, name=field.name)) if field.name in SIGNALS else field for field in fields
    ]


def _number_text(field: str, value: Any) -> str:
    return _write(COUNT, _read(COUNT, value, field))[0]


def _max_text(value: Any) -> str:
    return _number_text("max", value)


def _critical_text(value: Any) -> str | None:
    return None if value is None else _number_text("critical", value)


@attrs.frozen(kw_only=True)
class CustomSignal:
    """A plan's own signal: a query whose only row and column is a number from zero up, and the limits for it.

    The query is asked once a second in the connection's database, read-only, and must end within 250 ms. ``max`` and
    ``critical`` are numbers (``"1000"``) or multiples of the baseline (``"3x"``). Raises :class:`InvalidPlan`.
    """

    sql: str = attrs.field()
    max: str = attrs.field(converter=_max_text)
    critical: str | None = attrs.field(default=None, converter=_critical_text)

    @sql.validator
    def _check_sql(self, attribute: Any, value: Any) -> None:
        begins = isinstance(value, str) and re.match(r"\s*(select|with|values|table)\b", value, re.IGNORECASE)
        if not begins or "\0" in value:
            raise InvalidPlan("sql", value, 'a query for one number, such as "SELECT count(*) FROM jobs"')

    def __attrs_post_init__(self) -> None:
        _ = self.limit

    @property
    def limit(self) -> Limit:
        """Both limits as one."""
        return _read(COUNT, (self.max,) if self.critical is None else (self.max, self.critical), "max")

    def to_dict(self) -> dict[str, str]:
        """Plain values: ``sql``, ``max`` and, if there is one, ``critical``."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}


def _custom(value: Any) -> tuple[tuple[str, CustomSignal], ...]:
    allowed = 'a table by name, such as {"queue length": CustomSignal(sql="SELECT count(*) FROM jobs", max="1000")}'
    try:
        signals = dict(value)
    except (TypeError, ValueError):
        raise InvalidPlan("limits.custom", value, allowed) from None
    return tuple((name, _custom_signal(name, signal)) for name, signal in signals.items())


def _custom_signal(name: Any, value: Any) -> CustomSignal:
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.strip()) == len(name) <= _LONGEST_NAME:
        raise InvalidPlan("limits.custom", name, f"names of 1 to {_LONGEST_NAME} printable characters")
    if isinstance(value, CustomSignal):
        return value
    where = f"limits.custom.{name}"
    fields = [field.name for field in attrs.fields(CustomSignal)]
    if not isinstance(value, Mapping) or not {"sql", "max"} <= set(value) <= set(fields):
        raise InvalidPlan(where, value, f"a table of {', '.join(fields)}; only critical may be missing")
    try:
        return CustomSignal(**value)
    except InvalidPlan as error:
        raise InvalidPlan(f"{where}.{error.field}", error.value, error.allowed) from None


@attrs.frozen(kw_only=True, field_transformer=_know_their_names)
class LoadLimits:
    """What load a plan allows, one limit per signal: ``"20ms"``, or ``("20ms", "100ms")`` for (max, critical).

    Each is absolute, in the signal's unit, or a multiple of its baseline: ``"3x"``, ``("3x", "100ms")``.
    ``commit_latency``, ``block_read_time``, ``read_latency`` and ``replay_lag`` take durations, ``wal_rate`` bytes per
    second (``"30MB/s"``), ``transaction_wal``, ``replication_lag`` and ``retained_wal`` sizes (``"64MB"``),
    ``tuple_rate``, ``commit_rate`` and ``full_page_images`` counts per second (``"5000/s"``),
    ``requested_checkpoints`` counts per minute (``"2/min"``), ``io_waits``, ``lock_waits`` and ``active_sessions``
    counts (``"8"``). ``custom`` has the plan's own signals by name. None sets no limit, but see :func:`limits_for`.
    Raises :class:`InvalidPlan`.
    """

    commit_latency: Limit | None = attrs.field(default=Limit(0.025, 0.1), converter=_limit)
    wal_rate: Limit | None = attrs.field(default=None, converter=_limit)
    tuple_rate: Limit | None = attrs.field(default=None, converter=_limit)
    commit_rate: Limit | None = attrs.field(default=None, converter=_limit)
    transaction_wal: Limit | None = attrs.field(default=None, converter=_limit)
    full_page_images: Limit | None = attrs.field(default=None, converter=_limit)
    requested_checkpoints: Limit | None = attrs.field(default=None, converter=_limit)
    replication_lag: Limit | None = attrs.field(default=None, converter=_limit)
    retained_wal: Limit | None = attrs.field(default=None, converter=_limit)
    io_waits: Limit | None = attrs.field(default=None, converter=_limit)
    lock_waits: Limit | None = attrs.field(default=None, converter=_limit)
    block_read_time: Limit | None = attrs.field(default=None, converter=_limit)
    active_sessions: Limit | None = attrs.field(default=None, converter=_limit)
    read_latency: Limit | None = attrs.field(default=None, converter=_limit)
    replay_lag: Limit | None = attrs.field(default=None, converter=_limit)
    custom: tuple[tuple[str, CustomSignal], ...] = attrs.field(default=(), converter=_custom)

    def __attrs_post_init__(self) -> None:
        if not any(limit for _, limit in self):
            raise InvalidPlan("limits", "none at all", "a limit for one signal at least")

    def __iter__(self) -> Iterator[tuple[str, Limit | None]]:
        """Pairs of name and limit (or None): all of :data:`SIGNALS`, then ``custom.<name>`` of the plan's own."""
        for name in SIGNALS:
            yield name, getattr(self, name)
        for name, signal in self.custom:
            yield CUSTOM + name, signal.limit

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` reads back without loss: what is set, and ``commit_latency``."""
        values: dict[str, Any] = {}
        for name, signal in SIGNALS.items():
            limit = getattr(self, name)
            if limit is not None or name == "commit_latency":
                values[name] = None if limit is None else _write(signal.unit, limit)
        if self.custom:
            values["custom"] = {name: custom.to_dict() for name, custom in self.custom}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LoadLimits:
        """Read what :meth:`to_dict` wrote, or a table of a plan file."""
        if not isinstance(values, Mapping):
            raise InvalidPlan("limits", values, 'a table, such as {"commit_latency": ["20ms", "100ms"]}')
        unknown = sorted(set(values) - {*SIGNALS, "custom"})
        if unknown:
            allowed = f"limits for {', '.join(SIGNALS)}, and custom"
            raise InvalidPlan(f"limits.{unknown[0]}", values[unknown[0]], allowed)
        return cls(**values)


_STANDBY_DEFAULTS = {"read_latency": Limit(0.025, 0.1), "replay_lag": Limit(30.0, 300.0)}


@lru_cache(maxsize=1024)
def limits_for(limits: LoadLimits, absent: frozenset[str]) -> LoadLimits:
    """What of a plan's limits holds for a server that does not have the signals ``absent``.

    Theirs are dropped: a standby commits nothing, and a primary replays nothing, which is no reason to take its load
    for unknown. A standby is held to 25 ms / 100 ms of read latency and 30 s / 5 min of replay lag, where the plan says
    nothing of them; and if nothing else is left, a primary to the default of ``commit_latency``.
    """
    defaults = {n: limit for n, limit in _STANDBY_DEFAULTS.items() if n not in absent and getattr(limits, n) is None}
    changes: dict[str, Limit | None] = {**dict.fromkeys(absent), **defaults}
    if not defaults and not any(limit for name, limit in limits if name not in absent):
        changes["commit_latency"] = LoadLimits().commit_latency
    return attrs.evolve(limits, **changes)
