"""What a restore drill of a plan looks at: amcheck, extensions, questions of one's own; and what it may use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import attrs

from airflow_backup_guard.core.units import Rate, format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

_NAME = re.compile(r"\w[\w .-]{0,62}")
_LEAST_RATE = Rate.parse("32kB/s")


class AmcheckLevel(str, Enum):
    """``off``; ``heap``: every table; ``full``: every table, and every B-tree index against its table."""

    OFF = "off"
    HEAP = "heap"
    FULL = "full"


def _sql(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidPlan("drill.checks.sql", value, "a query for one value, such as 'SELECT count(*) FROM orders'")
    return value


def _text(value: Any, field: str, allowed: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InvalidPlan(field, value, allowed)
    return value


def _database(value: Any) -> str:
    return _text(value, "drill.checks.database", "the name of a database")


def _superuser(value: Any) -> str:
    return _text(value, "drill.superuser", "the name of a superuser of the cluster")


def _minimum(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise InvalidPlan("drill.checks.min", value, "a number")
    return value


def _max_age(value: Any) -> timedelta | None:
    return None if value is None else parse_duration(value, "drill.checks.max_age")


def _timeout(value: Any) -> timedelta:
    timeout = parse_duration(value, "drill.checks.timeout")
    if not timedelta(seconds=1) <= timeout <= timedelta(days=1):
        raise InvalidPlan("drill.checks.timeout", value, "a duration from 1s to 1d")
    return timeout


@attrs.frozen(kw_only=True)
class DrillCheck:
    """A query of one's own for one value: a boolean, which must be true; a number from ``min`` up; or a time that was
    not older than ``max_age`` when the backup was taken.

    :param sql: the query; it is asked in a read-only transaction
    :param database: where
    :param min: the least number that is good
    :param max_age: how old a time may be; one without a zone is taken for UTC
    :param timeout: how long the query may take
    """

    sql: str = attrs.field(converter=_sql)
    database: str = attrs.field(default="postgres", converter=_database)
    min: float | None = attrs.field(default=None, converter=_minimum)
    max_age: timedelta | None = attrs.field(default=None, converter=_max_age)
    timeout: timedelta = attrs.field(default=timedelta(minutes=10), converter=_timeout)

    def __attrs_post_init__(self) -> None:
        if self.min is not None and self.max_age is not None:
            raise InvalidPlan("drill.checks.max_age", format_duration(self.max_age), "either min or max_age, not both")

    def to_dict(self) -> dict[str, Any]:
        """What is set, as plain values."""
        values = {"sql": self.sql, "database": self.database, "timeout": format_duration(self.timeout)}
        limit = {"min": self.min} if self.min is not None else {}
        age = {"max_age": format_duration(self.max_age)} if self.max_age is not None else {}
        return {**values, **limit, **age}


def _amcheck(value: Any) -> AmcheckLevel:
    try:
        return AmcheckLevel(value)
    except ValueError:
        raise InvalidPlan("drill.amcheck", value, '"off", "heap" or "full"') from None


def _checks(value: Any) -> tuple[tuple[str, DrillCheck], ...]:
    allowed = '{"orders": DrillCheck(sql="SELECT count(*) FROM orders", min=1000)}'
    try:
        checks = dict(value)
    except (TypeError, ValueError):
        raise InvalidPlan("drill.checks", value, allowed) from None
    for name, check in checks.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidPlan("drill.checks", name, "a name of letters, digits, '_', '.', '-' and blanks, 63 at most")
        if not isinstance(check, DrillCheck):
            raise InvalidPlan(f"drill.checks.{name}", check, allowed)
    return tuple(checks.items())


def _extensions(value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else (None,)
    if not all(isinstance(name, str) and name for name in names):
        raise InvalidPlan("drill.extensions", value, 'a list of names, such as ["postgis"]')
    return tuple(str(name) for name in names)


def _scratch(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not PurePosixPath(value).is_absolute()):
        raise InvalidPlan("drill.scratch", value, "an absolute path")
    return value


def _max_rate(value: Any) -> Rate | None:
    rate = None if value is None else Rate.parse(value, "drill.max_rate")
    if rate is not None and rate < _LEAST_RATE:
        raise InvalidPlan("drill.max_rate", value, f"a rate from {_LEAST_RATE} up")
    return rate


@attrs.frozen(kw_only=True)
class DrillPolicy:
    """What a drill looks at, and what it may use. Raises :class:`InvalidPlan`.

    :param amcheck: what PostgreSQL's own pg_amcheck looks at: ``"off"``, ``"heap"`` or ``"full"``
    :param checks: queries of one's own, by name
    :param extensions: extensions that one of the databases at least must have
    :param scratch: an empty folder, or one that is not there yet, for what is restored; default: a temporary one
    :param max_rate: the most that is read from the repository a second; None: as fast as it goes
    :param superuser: a superuser of the cluster, whom the drill connects as
    """

    amcheck: AmcheckLevel = attrs.field(default=AmcheckLevel.HEAP, converter=_amcheck)
    checks: tuple[tuple[str, DrillCheck], ...] = attrs.field(default=(), converter=_checks)
    extensions: tuple[str, ...] = attrs.field(default=(), converter=_extensions)
    scratch: str | None = attrs.field(default=None, converter=_scratch)
    max_rate: Rate | None = attrs.field(default=None, converter=_max_rate)
    superuser: str = attrs.field(default="postgres", converter=_superuser)

    def to_dict(self) -> dict[str, Any]:
        """What differs from the default, as plain values that :meth:`from_dict` reads back."""
        values: dict[str, Any] = {
            "amcheck": self.amcheck.value,
            "checks": {name: check.to_dict() for name, check in self.checks},
            "extensions": list(self.extensions),
            "scratch": self.scratch,
            "max_rate": None if self.max_rate is None else f"{int(self.max_rate)}B/s",
            "superuser": self.superuser,
        }
        usual = {"amcheck": AmcheckLevel.HEAP.value, "superuser": "postgres"}
        return {name: value for name, value in values.items() if value and value != usual.get(name)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DrillPolicy:
        """Read what :meth:`to_dict` wrote, or a table of a plan file; raises :class:`InvalidPlan`."""
        arguments = dict(_known(cls, "drill", values))
        checks = arguments.get("checks", {})
        if not isinstance(checks, Mapping):
            raise InvalidPlan("drill.checks", checks, "a table of tables, such as [drill.checks.orders]")
        arguments["checks"] = {
            name: DrillCheck(**_needing_sql(name, _known(DrillCheck, f"drill.checks.{name}", check)))
            for name, check in checks.items()
        }
        return cls(**arguments)


def _known(kind: type[Any], field: str, values: Any) -> Mapping[str, Any]:
    names = [known.name for known in attrs.fields(kind)]
    if not isinstance(values, Mapping):
        raise InvalidPlan(field, values, f"a table of {', '.join(names)}")
    for name, value in values.items():
        if name not in names:
            raise InvalidPlan(f"{field}.{name}", value, ", ".join(names))
    return values


def _needing_sql(name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    if "sql" not in values:
        raise InvalidPlan(f"drill.checks.{name}.sql", None, "a query for one value")
    return values
