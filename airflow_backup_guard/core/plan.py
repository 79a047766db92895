"""What is promised for one database cluster: the one value that gates, copy, verify and restore share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Literal, TypeVar

import attrs

from airflow_backup_guard.core.alert_rules import AlertRules
from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.drill_policy import DrillPolicy
from airflow_backup_guard.core.load import LoadLimits
from airflow_backup_guard.core.repository_url import parse_repository_url
from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.core.secrets import without_secrets
from airflow_backup_guard.core.units import Rate, Size, format_duration, parse_duration
from airflow_backup_guard.core.watchdog import WatchdogPolicy
from airflow_backup_guard.errors import InvalidPlan

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.ASCII)
_LOWEST_RATE = Rate.parse("32kB/s")  # the least that BASE_BACKUP's own MAX_RATE takes
_HIGHEST_RATE = Rate.parse("1GiB/s")  # the most that it takes
_LEAST_RETAINED_WAL = Size.parse("64MB")
_LONGEST_OBJECTIVE = timedelta(days=3660)
_LONGEST_CONTACT = 200
_ANY_YEAR = (datetime(2001, 1, 1, tzinfo=timezone.utc), datetime(2002, 1, 1, tzinfo=timezone.utc))

FORECAST: Literal["forecast"] = "forecast"
"""A ``min_remaining`` of as long as the last backup took."""


def _rate(field: str, value: Any) -> Rate:
    rate = Rate.parse(value, field)
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise InvalidPlan(field, value, "a rate from 32kB/s to 1GiB/s")
    return rate


def _max_rate(value: Any) -> Rate:
    return _rate("max_rate", value)


def _min_rate(value: Any) -> Rate:
    return _rate("min_rate", value)


def _calendar(value: Any) -> OffPeakCalendar:
    if not isinstance(value, OffPeakCalendar):
        raise InvalidPlan("calendar", value, 'OffPeakCalendar.parse("Mon-Fri 01:00-05:00", tz="Europe/Berlin")')
    return value


def _limits(value: Any) -> LoadLimits:
    if not isinstance(value, LoadLimits):
        raise InvalidPlan("limits", value, 'LoadLimits(commit_latency=("20ms", "100ms"), wal_rate="30MB/s")')
    return value


def _alerts(value: Any) -> AlertRules:
    if not isinstance(value, AlertRules):
        raise InvalidPlan("alerts", value, "AlertRules(channels=[AlertChannel(…)])")
    return value


def _retention(value: Any) -> RetentionPolicy:
    if not isinstance(value, RetentionPolicy):
        raise InvalidPlan("retention", value, 'RetentionPolicy(keep_daily=7, keep_weekly=4, min_age="3d")')
    return value


def _drill(value: Any) -> DrillPolicy:
    if not isinstance(value, DrillPolicy):
        raise InvalidPlan("drill", value, 'DrillPolicy(amcheck="full", extensions=["postgis"])')
    return value


def _quiet_for(value: Any) -> timedelta:
    return parse_duration(value, "quiet_for")


def _min_remaining(value: Any) -> timedelta | Literal["forecast"] | None:
    return value if value is None or value == FORECAST else parse_duration(value, "min_remaining")


def _objective(field: str, value: Any) -> timedelta | None:
    objective = None if value is None else parse_duration(value, field)
    if objective is not None and not timedelta(0) < objective <= _LONGEST_OBJECTIVE:
        raise InvalidPlan(field, value, f"a duration above zero, up to {format_duration(_LONGEST_OBJECTIVE)}")
    return objective


def _rpo(value: Any) -> timedelta | None:
    return _objective("rpo", value)


def _rto(value: Any) -> timedelta | None:
    return _objective("rto", value)


def _max_pause(value: Any) -> timedelta:
    return parse_duration(value, "max_pause")


def _max_duration(value: Any) -> timedelta:
    return parse_duration(value, "max_duration")


def _max_retained_wal(value: Any) -> Size:
    size = Size.parse(value, "max_retained_wal")
    if size < _LEAST_RETAINED_WAL:
        raise InvalidPlan("max_retained_wal", value, f"a size from {_LEAST_RETAINED_WAL} up")
    return size


class AtWindowEnd(str, Enum):
    """What becomes of a copy that is not done when its off-peak window ends."""

    FINISH = "finish"
    FLOOR = "floor"
    STOP = "stop"


class WhenLate(str, Enum):
    """What becomes of a run that cannot start any more in the window that it was due in."""

    WAIT = "wait"
    SKIP = "skip"
    FAIL = "fail"


class WhenStarved(str, Enum):
    """What becomes of a run whose load does not drop in time for the RPO."""

    WAIT = "wait"
    GO_AT_FLOOR = "go_at_floor"
    FAIL = "fail"


_Rule = TypeVar("_Rule", AtWindowEnd, WhenLate, WhenStarved)


def _rule(kind: type[_Rule], field: str, value: Any) -> _Rule:
    try:
        return kind(value)
    except ValueError:
        *names, last = (f'"{rule.value}"' for rule in kind)
        raise InvalidPlan(field, value, f"{', '.join(names)} or {last}") from None


def _at_window_end(value: Any) -> AtWindowEnd:
    return _rule(AtWindowEnd, "at_window_end", value)


def _when_late(value: Any) -> WhenLate:
    return _rule(WhenLate, "when_late", value)


def _when_starved(value: Any) -> WhenStarved:
    return _rule(WhenStarved, "when_starved", value)


def _recipients(value: Any) -> tuple[str, ...]:
    keys = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (None,)
    if not all(isinstance(key, str) and key.startswith("age1") for key in keys):
        raise InvalidPlan("recipients", value, 'a list of age public keys, such as ["age1…"]')
    return keys


def _contacts(value: Any) -> tuple[tuple[str, str], ...]:
    allowed = '[("Database on call", "+1 555 0100")] or a table of such pairs, in the order to call; no passwords'
    try:
        pairs = tuple((name, reach) for name, reach in (value.items() if isinstance(value, Mapping) else value))
    except (TypeError, ValueError):
        pairs = ((None, None),)
    texts = [text for pair in pairs for text in pair]
    for text in texts:
        if isinstance(text, str) and without_secrets(text) != text:  # first, as a refusal shows what is refused
            raise InvalidPlan("contacts", without_secrets(text), allowed)
    for text in texts:
        if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > _LONGEST_CONTACT:
            raise InvalidPlan("contacts", value, allowed)
    return pairs


def _watchdog(value: Any) -> WatchdogPolicy:
    if not isinstance(value, WatchdogPolicy):
        raise InvalidPlan("watchdog", value, 'WatchdogPolicy(policy="alert", allow=[AllowRule(user="backup")])')
    return value


@attrs.frozen(kw_only=True)
class BackupPlan:
    """A plan for one cluster. Every value is checked when it is made; raises :class:`InvalidPlan`.

    :param name: what the cluster is called in the repository: lower-case letters, digits, ``_ . -``
    :param connection: id of the Airflow connection to the server that is backed up, a primary or a standby; its role
        needs REPLICATION and pg_monitor
    :param load_connection: id of the Airflow connection to the server whose load the limits are about, where that is
        another one: the primary of a standby. Its role needs pg_monitor
    :param repository: ``s3://conn_id@bucket/prefix``, ``s3://bucket/prefix`` or ``file:///srv/backups``
    :param calendar: when a backup may start
    :param min_remaining: how much of a window must be left for a backup to start in it; ``"forecast"`` is as long as
        the last backup took
    :param when_late: a run that cannot start any more in the window that it was due in goes to the next one
        (``"wait"``), is skipped (``"skip"``) or fails (``"fail"``)
    :param limits: load above which the gate stays closed and the copy slows down or pauses
    :param quiet_for: how long the load must stay below its limits before the gate opens
    :param rpo: how old the last verified backup may become (recovery point objective). A gate that waits for the load
        warns as it draws near, then alerts
    :param rto: how long a restore may take until the database answers (recovery time objective); drills measure it
    :param when_starved: once the load has not dropped in time for the RPO, the gate goes on waiting (``"wait"``), opens
        for a copy at ``min_rate`` (``"go_at_floor"``) or fails (``"fail"``)
    :param max_rate: the most a copy reads from the database, as ``"100MB/s"``
    :param min_rate: what it falls to when load is critical or unknown; never zero, as a copy that stops reading
        is cut off by the server's ``tcp_user_timeout``
    :param at_window_end: ``"finish"`` lets a copy go on when its window ends, ``"floor"`` lets it go on at ``min_rate``
        only, ``"stop"`` ends it
    :param window_first: True reads at least as fast as it takes to be done within the window, whatever commits feel,
        up to ``max_rate`` and as long as no load is critical or unknown; False lets the load decide alone
    :param max_pause: a load that keeps the copy paused for longer ends it
    :param max_duration: a copy that takes longer ends
    :param max_retained_wal: a copy for which the server keeps more WAL than that ends, before the disk is full
    :param checkpoint: ``"spread"`` waits for a gentle checkpoint, ``"fast"`` forces one and its burst of I/O
    :param compression_level: of zstd, 1 (fast) to 19 (small)
    :param recipients: age public keys that backups are encrypted to; needs the extra ``age``
    :param alerts: whom to tell of what, and how soon
    :param retention: which backups are kept; without it, none expires
    :param watchdog: which backups of others are allowed, and what becomes of those that are not
    :param drill: what a restore drill looks at, and what it may use
    :param contacts: whom to call when the database is lost, and how to reach them, in that order; the recovery runbook
        has them
    """

    name: str = attrs.field()
    connection: str = attrs.field()
    load_connection: str | None = attrs.field(default=None)
    repository: str = attrs.field()
    calendar: OffPeakCalendar = attrs.field(converter=_calendar)
    min_remaining: timedelta | Literal["forecast"] | None = attrs.field(default=None, converter=_min_remaining)
    when_late: WhenLate = attrs.field(default=WhenLate.WAIT, converter=_when_late)
    limits: LoadLimits = attrs.field(factory=LoadLimits, converter=_limits)
    quiet_for: timedelta = attrs.field(default=timedelta(seconds=30), converter=_quiet_for)
    rpo: timedelta | None = attrs.field(default=None, converter=_rpo)
    rto: timedelta | None = attrs.field(default=None, converter=_rto)
    when_starved: WhenStarved = attrs.field(default=WhenStarved.WAIT, converter=_when_starved)
    max_rate: Rate = attrs.field(default=Rate.parse("100MB/s"), converter=_max_rate)
    min_rate: Rate = attrs.field(default=Rate.parse("1MB/s"), converter=_min_rate)
    at_window_end: AtWindowEnd = attrs.field(default=AtWindowEnd.FLOOR, converter=_at_window_end)
    window_first: bool = attrs.field(default=False)
    max_pause: timedelta = attrs.field(default=timedelta(hours=1), converter=_max_pause)
    max_duration: timedelta = attrs.field(default=timedelta(hours=24), converter=_max_duration)
    max_retained_wal: Size = attrs.field(default=Size.parse("10GB"), converter=_max_retained_wal)
    checkpoint: str = attrs.field(default="spread")
    compression_level: int = attrs.field(default=3)
    recipients: tuple[str, ...] = attrs.field(default=(), converter=_recipients)
    alerts: AlertRules = attrs.field(factory=AlertRules, converter=_alerts)
    retention: RetentionPolicy = attrs.field(factory=RetentionPolicy, converter=_retention)
    watchdog: WatchdogPolicy = attrs.field(factory=WatchdogPolicy, converter=_watchdog)
    drill: DrillPolicy = attrs.field(factory=DrillPolicy, converter=_drill)
    contacts: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_contacts)

    @name.validator
    def _check_name(self, attribute: Any, value: Any) -> None:
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise InvalidPlan(
                "name",
                value,
                "lower-case letters, digits, '_', '.' and '-', 63 at most, a letter or digit first",
            )

    @connection.validator
    def _check_connection(self, attribute: Any, value: Any) -> None:
        if not isinstance(value, str) or not value.strip():
            raise InvalidPlan("connection", value, "the id of an Airflow connection")

    @load_connection.validator
    def _check_load_connection(self, attribute: Any, value: Any) -> None:
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise InvalidPlan("load_connection", value, "the id of an Airflow connection, or None")

    @repository.validator
    def _check_repository(self, attribute: Any, value: Any) -> None:
        parse_repository_url(value)

    @window_first.validator
    def _check_window_first(self, attribute: Any, value: Any) -> None:
        if not isinstance(value, bool):
            raise InvalidPlan("window_first", value, "True or False")

    @checkpoint.validator
    def _check_checkpoint(self, attribute: Any, value: Any) -> None:
        if value not in ("spread", "fast"):
            raise InvalidPlan("checkpoint", value, '"spread" or "fast"')

    @compression_level.validator
    def _check_compression_level(self, attribute: Any, value: Any) -> None:
        if not isinstance(value, int) or value is True or not 1 <= value <= 19:
            raise InvalidPlan("compression_level", value, "a zstd level from 1 to 19")

    def __attrs_post_init__(self) -> None:
        if self.min_rate > self.max_rate:
            raise InvalidPlan("min_rate", str(self.min_rate), f"a rate not above max_rate, {self.max_rate}")
        if isinstance(self.min_remaining, timedelta) and not any(
            end - start >= self.min_remaining for start, end in self.calendar.windows(*_ANY_YEAR)
        ):
            given = format_duration(self.min_remaining)
            raise InvalidPlan("min_remaining", given, f"a duration within the longest window of {self.calendar}")

    def at_floor(self) -> BackupPlan:
        """The same plan for a copy that never reads faster than ``min_rate``, and that no load ends."""
        return attrs.evolve(self, max_rate=self.min_rate, max_pause=self.max_duration)

    def __str__(self) -> str:
        """:meth:`to_dict` as JSON: Airflow keeps the arguments of a mapped task (``expand``) as text."""
        return json.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` reads back without loss; this is what a backup's record keeps."""
        return {
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
            "calendar": self.calendar.to_dict(),
            "limits": self.limits.to_dict(),
            "min_remaining": _duration_text(self.min_remaining),
            "when_late": self.when_late.value,
            "quiet_for": format_duration(self.quiet_for),
            "rpo": _duration_text(self.rpo),
            "rto": _duration_text(self.rto),
            "when_starved": self.when_starved.value,
            "at_window_end": self.at_window_end.value,
            "max_pause": format_duration(self.max_pause),
            "max_duration": format_duration(self.max_duration),
            "max_retained_wal": f"{int(self.max_retained_wal)}B",
            "max_rate": f"{int(self.max_rate)}B/s",
            "min_rate": f"{int(self.min_rate)}B/s",
            "recipients": list(self.recipients),
            "alerts": self.alerts.to_dict(),
            "retention": self.retention.to_dict(),
            "watchdog": self.watchdog.to_dict(),
            "drill": self.drill.to_dict(),
            "contacts": [list(pair) for pair in self.contacts],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BackupPlan:
        """Read what :meth:`to_dict` wrote, or the content of a plan file; raises :class:`InvalidPlan`."""
        known = {field.name: field for field in attrs.fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise InvalidPlan(name, value, f"the fields of a plan: {', '.join(known)}")
        for name, field in known.items():
            if field.default is attrs.NOTHING and name not in values:
                raise InvalidPlan(name, None, "a value; every plan needs one")
        arguments = dict(values)
        if not isinstance(values["calendar"], Mapping):
            allowed = 'a table, such as {"windows": "Mon-Fri 01:00-05:00", "tz": "Europe/Berlin"}'
            raise InvalidPlan("calendar", values["calendar"], allowed)
        arguments["calendar"] = OffPeakCalendar.from_dict(values["calendar"])
        if "limits" in values:
            arguments["limits"] = LoadLimits.from_dict(values["limits"])
        if "alerts" in values:
            arguments["alerts"] = AlertRules.from_dict(values["alerts"])
        if "retention" in values:
            arguments["retention"] = RetentionPolicy.from_dict(values["retention"])
        if "watchdog" in values:
            arguments["watchdog"] = WatchdogPolicy.from_dict(values["watchdog"])
        if "drill" in values:
            arguments["drill"] = DrillPolicy.from_dict(values["drill"])
        return cls(**arguments)


def _duration_text(value: timedelta | Literal["forecast"] | None) -> str | None:
    return format_duration(value) if isinstance(value, timedelta) else value


_AS_THEY_ARE = (
    "name",
    "connection",
    "load_connection",
    "repository",
    "window_first",
    "checkpoint",
    "compression_level",
)
