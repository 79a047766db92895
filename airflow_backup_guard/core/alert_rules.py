"""Whom a plan tells of what, and how calmly: thresholds, times, channels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Any

import attrs

from airflow_backup_guard.core.limits import LoadLimits
from airflow_backup_guard.core.units import format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_SLACK = "airflow.providers.slack.notifications.slack_webhook.SlackWebhookNotifier"


class Severity(str, Enum):
    """How bad it is: a warning can wait until morning, what is critical cannot."""

    WARNING = "warning"
    CRITICAL = "critical"

    def reaches(self, least: Severity) -> bool:
        """Whether it is at least that bad."""
        return self is Severity.CRITICAL or least is Severity.WARNING


def _channel_name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidPlan("alerts.channels.name", value, "lower-case letters, digits, '_' and '-', 40 at most")
    return value


def _notifier(value: Any) -> str:
    if not isinstance(value, str) or not _CLASS_PATH.fullmatch(value):
        raise InvalidPlan("alerts.channels.notifier", value, f'the path of a notifier class, such as "{_SLACK}"')
    return value


def _arguments(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidPlan("alerts.channels.arguments", value, 'a table, such as {"text": "{{ alert_text }}"}')
    return {name: _plain(item) for name, item in value.items()}


def _plain(value: Any) -> Any:
    """What JSON gives back as it was; plans are kept with their backups."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise InvalidPlan("alerts.channels.arguments", value, "text, numbers, booleans, lists and tables")


def _severity(value: Any) -> Severity:
    try:
        return Severity(value)
    except ValueError:
        raise InvalidPlan("alerts.channels.severity", value, '"warning" or "critical"') from None


def _after(value: Any) -> timedelta:
    return parse_duration(value, "alerts.channels.after")


@attrs.frozen(kw_only=True)
class AlertChannel:
    """One way to reach people. Raises :class:`InvalidPlan`.

    :param name: what it is called in logs and in the alerts about itself
    :param notifier: path of a notifier class, of any Airflow provider or your own
    :param arguments: what that class is made with; texts may use ``{{ alert_title }}``, ``{{ alert_text }}``,
        ``{{ alert_html }}``, ``{{ alert_severity }}``, ``{{ alert_state }}`` and ``{{ alert_key }}``. Secrets belong
        in an Airflow connection: the plan is kept with each backup
    :param severity: the least that it is told of: ``"warning"`` or ``"critical"``
    :param after: it is told of what lasts that much longer, for those who shall hear only if nobody else has acted
    """

    name: str = attrs.field(converter=_channel_name)
    notifier: str = attrs.field(converter=_notifier)
    arguments: dict[str, Any] = attrs.field(factory=dict, converter=_arguments, hash=False)
    severity: Severity = attrs.field(default=Severity.WARNING, converter=_severity)
    after: timedelta = attrs.field(default=timedelta(0), converter=_after)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that make the same channel."""
        return {
            "name": self.name,
            "notifier": self.notifier,
            "arguments": self.arguments,
            "severity": self.severity.value,
            "after": format_duration(self.after),
        }


def _channels(value: Any) -> tuple[AlertChannel, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidPlan("alerts.channels", value, "a list of AlertChannel")
    channels = tuple(_channel(item) for item in value)
    names = [channel.name for channel in channels]
    for name in names:
        if names.count(name) > 1:
            raise InvalidPlan("alerts.channels.name", name, "a name that no other channel has")
    return channels


def _channel(value: Any) -> AlertChannel:
    if isinstance(value, AlertChannel):
        return value
    fields = [field.name for field in attrs.fields(AlertChannel)]
    if not isinstance(value, Mapping) or not {"name", "notifier"} <= set(value) <= set(fields):
        raise InvalidPlan("alerts.channels", value, f"a table of {', '.join(fields)}; name and notifier must be there")
    return AlertChannel(**value)


def _thresholds(value: Any) -> LoadLimits | None:
    if value is not None and not isinstance(value, LoadLimits):
        raise InvalidPlan("alerts.thresholds", value, 'LoadLimits(commit_latency=("20ms", "100ms")), or None')
    if value is not None and value.custom:
        raise InvalidPlan("alerts.thresholds.custom", [name for name, _ in value.custom], "none: limits.custom holds")
    return value


def _span(name: str, value: Any, least: timedelta) -> timedelta:
    span = parse_duration(value, f"alerts.{name}")
    if span < least:
        raise InvalidPlan(f"alerts.{name}", value, f"a duration from {format_duration(least)} up")
    return span


def _raise_after(value: Any) -> timedelta:
    return _span("raise_after", value, _SECOND)


def _clear_after(value: Any) -> timedelta:
    return _span("clear_after", value, _SECOND)


def _remind_after(value: Any) -> timedelta:
    return _span("remind_after", value, _MINUTE)


_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)


@attrs.frozen(kw_only=True)
class AlertRules:
    """When a plan's channels are told. Raises :class:`InvalidPlan`.

    :param channels: whom to tell; without any, alerts are in the log only
    :param thresholds: (warn, critical) of each signal, written as limits are; None: the plan's ``limits`` are the
        thresholds. The plan's own signals always have those of ``limits.custom``
    :param raise_after: how long something must be bad before it is told of
    :param clear_after: how long it must be good before that is told; doubles each time that it comes back within an
        hour, up to an hour
    :param remind_after: what is still bad is told of again after this, then after twice as long, and so on
    """

    channels: tuple[AlertChannel, ...] = attrs.field(default=(), converter=_channels)
    thresholds: LoadLimits | None = attrs.field(default=None, converter=_thresholds)
    raise_after: timedelta = attrs.field(default=timedelta(seconds=30), converter=_raise_after)
    clear_after: timedelta = attrs.field(default=timedelta(minutes=2), converter=_clear_after)
    remind_after: timedelta = attrs.field(default=timedelta(minutes=30), converter=_remind_after)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` reads back without loss."""
        return {
            "channels": [channel.to_dict() for channel in self.channels],
            "thresholds": None if self.thresholds is None else self.thresholds.to_dict(),
            "raise_after": format_duration(self.raise_after),
            "clear_after": format_duration(self.clear_after),
            "remind_after": format_duration(self.remind_after),
        }

    @classmethod
    def from_dict(cls, values: Any) -> AlertRules:
        """Read what :meth:`to_dict` wrote, or the ``alerts`` of a plan file."""
        fields = [field.name for field in attrs.fields(cls)]
        if not isinstance(values, Mapping) or not set(values) <= set(fields):
            raise InvalidPlan("alerts", values, f"a table of {', '.join(fields)}")
        arguments = dict(values)
        if arguments.get("thresholds") is not None:
            try:
                arguments["thresholds"] = LoadLimits.from_dict(arguments["thresholds"])
            except InvalidPlan as error:
                raise InvalidPlan(f"alerts.thresholds ({error.field})", error.value, error.allowed) from None
        return cls(**arguments)
