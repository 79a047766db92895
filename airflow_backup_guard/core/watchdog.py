"""What a plan says about backups that others run: which are allowed, and what becomes of those that are not."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

import attrs

from airflow_backup_guard.core.load import LoadLevel
from airflow_backup_guard.core.rogue import Certainty, Owner, RunningBackup
from airflow_backup_guard.core.units import format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

LOCAL = "local"
"""As the client of a rule: whoever comes over the server's own socket."""

_LONGEST_GRACE = timedelta(days=1)


class Policy(str, Enum):
    """What becomes of a rogue backup."""

    REPORT = "report"
    ALERT = "alert"
    TERMINATE = "terminate"


def _pattern(instance: AllowRule, attribute: Any, value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise InvalidPlan(f"watchdog.allow.{attribute.name}", value, 'a name, or a pattern such as "pgBackRest*"')


def _client(instance: AllowRule, attribute: Any, value: Any) -> None:
    try:
        if value is not None and value != LOCAL:
            ipaddress.ip_network(value.strip())
    except (ValueError, AttributeError):
        allowed = '"local", an address, or a network such as "10.0.0.0/8"'
        raise InvalidPlan("watchdog.allow.client", value, allowed) from None


@attrs.frozen(kw_only=True)
class AllowRule:
    """A backup that all given parts of it fit is allowed; raises :class:`InvalidPlan`.

    :param application_name: what the client calls itself, or a pattern of it with ``*`` and ``?``. Anybody can call
        himself anything: better give user or client, too
    :param user: the role, or a pattern of it
    :param client: an address, a network, or ``"local"`` for the server's own socket
    :param off_peak_only: allow it only inside of the plan's windows
    """

    application_name: str | None = attrs.field(default=None, validator=_pattern)
    user: str | None = attrs.field(default=None, validator=_pattern)
    client: str | None = attrs.field(default=None, validator=_client)
    off_peak_only: bool = attrs.field(default=False)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.off_peak_only, bool):
            raise InvalidPlan("watchdog.allow.off_peak_only", self.off_peak_only, "True or False")
        if self.application_name is self.user is self.client is None:
            allowed = "a rule with application_name, user or client; one without would allow everything"
            raise InvalidPlan("watchdog.allow", {}, allowed)

    def __str__(self) -> str:
        named = {"application_name": self.application_name, "user": self.user, "client": self.client}
        text = ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
        return f"{text}, off-peak only" if self.off_peak_only else text

    def fits(self, backup: RunningBackup, in_window: bool) -> bool:
        """Whether it allows this backup. What the role may not see fits nothing."""
        return (
            (in_window or not self.off_peak_only)
            and _like(backup.application_name, self.application_name)
            and _like(backup.user, self.user)
            and (self.client is None or _comes_from(backup, self.client))
        )

    def to_dict(self) -> dict[str, Any]:
        """Only what is given."""
        return {
            field.name: getattr(self, field.name)
            for field in attrs.fields(AllowRule)
            if getattr(self, field.name) != field.default
        }


def _like(value: str | None, pattern: str | None) -> bool:
    return pattern is None or (value is not None and fnmatchcase(value, pattern))


def _comes_from(backup: RunningBackup, client: str) -> bool:
    if backup.client is None:
        return client == LOCAL and backup.starts[0] is not None
    return client != LOCAL and ipaddress.ip_address(backup.client) in ipaddress.ip_network(client)


def _policy(value: Any) -> Policy:
    try:
        return Policy(value)
    except ValueError:
        raise InvalidPlan("watchdog.policy", value, '"report", "alert" or "terminate"') from None


def _grace(value: Any) -> timedelta:
    grace = parse_duration(value, "watchdog.grace")
    if grace > _LONGEST_GRACE:
        raise InvalidPlan("watchdog.grace", value, f"a duration up to {format_duration(_LONGEST_GRACE)}")
    return grace


def _rules(value: Any) -> tuple[AllowRule, ...]:
    rules = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else (None,)
    if not all(isinstance(rule, AllowRule) for rule in rules):
        raise InvalidPlan("watchdog.allow", value, 'a list of rules, such as [AllowRule(user="backup")]')
    return rules


@attrs.frozen(kw_only=True)
class WatchdogPolicy:
    """What becomes of backups that others run; raises :class:`InvalidPlan`.

    :param policy: ``"report"`` only shows them, ``"alert"`` tells people, ``"terminate"`` tells people and then, once
        the grace time is over, ends what is certainly a backup and runs outside of the plan's windows, or while the
        load is critical
    :param grace: how long people have, from the alert on, before a backup is ended
    :param allow: backups that are nobody's worry
    """

    policy: Policy = attrs.field(default=Policy.ALERT, converter=_policy)
    grace: timedelta = attrs.field(default=timedelta(seconds=60), converter=_grace)
    allow: tuple[AllowRule, ...] = attrs.field(default=(), converter=_rules)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` reads back without loss."""
        return {
            "policy": self.policy.value,
            "grace": format_duration(self.grace),
            "allow": [rule.to_dict() for rule in self.allow],
        }

    @classmethod
    def from_dict(cls, values: Any) -> WatchdogPolicy:
        """Read what :meth:`to_dict` wrote, or a table of a plan file; raises :class:`InvalidPlan`."""
        arguments = _known(cls, "watchdog", values)
        if isinstance(rules := arguments.get("allow"), list | tuple):
            arguments["allow"] = [AllowRule(**_known(AllowRule, "watchdog.allow", rule)) for rule in rules]
        return cls(**arguments)


def _known(kind: type[attrs.AttrsInstance], where: str, values: Any) -> dict[str, Any]:
    names = [field.name for field in attrs.fields(kind)]
    if not isinstance(values, Mapping):
        raise InvalidPlan(where, values, f"a table with any of {', '.join(names)}")
    for name, value in values.items():
        if name not in names:
            raise InvalidPlan(f"{where}.{name}", value, f"any of {', '.join(names)}")
    return dict(values)


def with_allowed(
    backups: Iterable[RunningBackup], policy: WatchdogPolicy, in_window: bool
) -> tuple[RunningBackup, ...]:
    """The same backups, each with the first rule that allows it."""

    def allowed(backup: RunningBackup) -> str:
        return next((str(rule) for rule in policy.allow if rule.fits(backup, in_window)), "")

    return tuple(replace(backup, allowed=allowed(backup)) for backup in backups)


class Step(str, Enum):
    """What is due for one backup now."""

    LEAVE = "leave"
    REPORT = "report"
    ALERT = "alert"
    WAIT = "wait"
    END = "end"


@dataclass(frozen=True)
class Decision:
    """A step, and why it and none that goes further."""

    step: Step
    reason: str


def decide(
    backup: RunningBackup,
    policy: WatchdogPolicy,
    *,
    alerted: datetime | None,
    now: datetime,
    level: LoadLevel,
    in_window: bool,
) -> Decision:
    """What is due for a backup. ``alerted`` is when people were told of it; ``in_window`` must be True where nobody
    knows. Nothing is ever ended that is ours, allowed, or not certainly a backup, nor within the grace time, nor inside
    of a window unless the load is known to be critical."""
    if backup.owner is Owner.OURS:
        return Decision(Step.LEAVE, "it is ours")
    if backup.allowed:
        return Decision(Step.LEAVE, f"it is allowed: {backup.allowed}")
    if not backup.rogue:
        return Decision(Step.REPORT, "it may well be no backup")
    if policy.policy is Policy.REPORT:
        return Decision(Step.REPORT, "the plan says to report only")
    if alerted is None:
        return Decision(Step.ALERT, "nobody has been told yet")
    if policy.policy is Policy.ALERT:
        return Decision(Step.REPORT, "people were told, and the plan says to leave it to them")
    if backup.certainty is not Certainty.CERTAIN:
        return Decision(Step.REPORT, "people were told; what is not certainly a backup is left to them")
    if backup.owner is Owner.CLAIMED:
        return Decision(Step.REPORT, "people were told; it may be a guarded backup of another repository")
    if now < alerted + policy.grace:
        return Decision(Step.WAIT, f"people have until {alerted + policy.grace:%H:%M:%S} UTC")
    if not in_window:
        return Decision(Step.END, "it runs outside of the plan's windows, and the grace time is over")
    if level is LoadLevel.CRITICAL:
        return Decision(Step.END, "the load is critical, and the grace time is over")
    return Decision(Step.WAIT, f"it runs inside of a window, and the load is {level.value}, not critical")
