"""Alerts like a well-timed alarm clock: told of once when something has been bad for a while, and once when it is over.

For each condition two tanks fill while it is bad (one while it is critical) and empty while it is good. A full one
raises the alert, an empty one clears it; so a value that dances on its threshold moves neither, and no more can be
told than the times of the rules allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from airflow_backup_guard.core.alert_rules import AlertChannel, AlertRules, Severity

_FLAP_MEMORY = timedelta(hours=1)
_LONGEST_CLEAR = timedelta(hours=1)
_LONGEST_REMIND = timedelta(hours=24)
_LONGEST_STEP = timedelta(seconds=5)
_ROUNDING = 1e-9


class Transition(str, Enum):
    """Why an alert is told now."""

    RAISED = "raised"
    WORSE = "worse"
    STILL = "still"
    ESCALATED = "escalated"
    OVER = "over"
    TEST = "test"


@dataclass(frozen=True)
class Condition:
    """Something that people may have to know of, as it is now; ``severity`` is None while all is well.

    ``measured`` has value and threshold in words, ``done`` what the guard has done about it.
    """

    key: str
    severity: Severity | None
    title: str
    measured: str = ""
    done: str = ""


@dataclass(frozen=True)
class Alert:
    """One message, and the names of the channels that it is for. ``since`` is when the condition began."""

    plan_name: str
    condition: Condition
    severity: Severity
    transition: Transition
    since: datetime
    at: datetime
    channels: tuple[str, ...]

    @property
    def key(self) -> str:
        """The same for all messages about one condition of one plan: ``shop/load.commit_latency``."""
        return f"{self.plan_name}/{self.condition.key}"


@dataclass(frozen=True)
class _Tank:
    """``level`` from 0 (empty) to 1 (full); ``since``: when it was last empty."""

    level: float = 0.0
    full: bool = False
    since: datetime | None = None

    def after(self, bad: bool, now: datetime, step: timedelta, fill: timedelta, drain: timedelta) -> _Tank:
        if bad:
            level = min(1.0, self.level + step / fill)
            return _Tank(level, self.full or level > 1 - _ROUNDING, self.since or now)
        level = self.level - step / drain
        return _Tank(level, self.full, self.since) if level > _ROUNDING else _Tank()


@dataclass(frozen=True)
class _Watch:
    """What is remembered of one condition."""

    bad: _Tank = _Tank()
    critical: _Tank = _Tank()
    raised_at: datetime | None = None
    told_at: datetime | None = None
    reminders: int = 0
    worst: Severity | None = None
    told: frozenset[str] = frozenset()
    raises: tuple[datetime, ...] = ()
    last: Condition | None = None


@dataclass(frozen=True)
class AlertBook:
    """All conditions of one plan, and what was told of them; a value, :meth:`step` makes the next one."""

    plan_name: str
    rules: AlertRules
    watches: Mapping[str, _Watch] = field(default_factory=dict)
    stepped_at: datetime | None = None

    def step(self, conditions: Iterable[Condition], now: datetime) -> tuple[AlertBook, list[Alert]]:
        """The book once these were seen at ``now``, and what is to be told. A condition that is not named is well.

        Between two steps things are taken to be as they are in the later one, but for five seconds at most: what was
        not looked at says nothing.
        """
        step = timedelta(0) if self.stepped_at is None else max(timedelta(0), now - self.stepped_at)
        given = {condition.key: condition for condition in conditions}
        watches: dict[str, _Watch] = {}
        alerts: list[Alert] = []
        for key in {**self.watches, **given}:
            watch, told = self._one(self.watches.get(key, _Watch()), given.get(key), now, min(step, _LONGEST_STEP))
            alerts += told
            if watch != _Watch():
                watches[key] = watch
        return replace(self, watches=watches, stepped_at=now), alerts

    def close(self, now: datetime, why: str) -> list[Alert]:
        """What is to be told when nobody looks any more, as the work that was watched has ended: ``why``."""
        return [
            self._alert(watch, replace(watch.last, severity=None, done=why), Transition.OVER, now, watch.told)
            for watch in self.watches.values()
            if watch.raised_at is not None and watch.last is not None
        ]

    def _one(
        self, watch: _Watch, condition: Condition | None, now: datetime, step: timedelta
    ) -> tuple[_Watch, list[Alert]]:
        rules = self.rules
        severity = None if condition is None else condition.severity
        raises = tuple(moment for moment in watch.raises if now - moment < _FLAP_MEMORY)
        drain = min(rules.clear_after * 2 ** max(0, len(raises) - 1), max(_LONGEST_CLEAR, rules.clear_after))
        watch = replace(
            watch,
            bad=watch.bad.after(severity is not None, now, step, rules.raise_after, drain),
            critical=watch.critical.after(severity is Severity.CRITICAL, now, step, rules.raise_after, drain),
            raises=raises,
            # What is good now is told of as it was when it was bad, and what it is now.
            last=condition if severity is not None else watch.last,
        )
        if not watch.bad.full:
            return self._over(watch, condition, now)
        last = watch.last
        assert last is not None  # noqa: S101  # something has filled the tank
        if watch.raised_at is None:
            watch = replace(watch, raised_at=now, worst=self._severity(watch), raises=(*raises, now))
            return self._tell(watch, last, Transition.RAISED, now)
        if watch.worst is Severity.WARNING and watch.critical.full:
            return self._tell(replace(watch, worst=Severity.CRITICAL), last, Transition.WORSE, now)
        if severity is None:
            return watch, []  # well, if it stays so
        if newly := self._due(watch, now) - watch.told:
            watch = replace(watch, told=watch.told | newly)
            return watch, [self._alert(watch, last, Transition.ESCALATED, now, newly)]
        if now - (watch.told_at or now) >= min(rules.remind_after * 2**watch.reminders, _LONGEST_REMIND):
            watch = replace(watch, reminders=watch.reminders + 1)
            return self._tell(watch, last, Transition.STILL, now)
        return watch, []

    def _over(self, watch: _Watch, condition: Condition | None, now: datetime) -> tuple[_Watch, list[Alert]]:
        alerts = []
        if watch.raised_at is not None and watch.last is not None:
            good = condition or replace(watch.last, severity=None, done="", measured="")
            alerts = [self._alert(watch, good, Transition.OVER, now, watch.told)]
            watch = _Watch(raises=watch.raises)
        return watch, alerts

    def _tell(
        self, watch: _Watch, condition: Condition, transition: Transition, now: datetime
    ) -> tuple[_Watch, list[Alert]]:
        watch = replace(watch, told_at=now, told=watch.told | self._due(watch, now))
        return watch, [self._alert(watch, condition, transition, now, watch.told)]

    def _due(self, watch: _Watch, now: datetime) -> frozenset[str]:
        """The channels that are to know of it by now."""
        lasted = timedelta(0) if watch.raised_at is None else now - watch.raised_at
        worst = watch.worst or Severity.WARNING
        return frozenset(c.name for c in self.rules.channels if worst.reaches(c.severity) and lasted >= c.after)

    @staticmethod
    def _severity(watch: _Watch) -> Severity:
        return Severity.CRITICAL if watch.critical.full else Severity.WARNING

    def _alert(
        self, watch: _Watch, condition: Condition, transition: Transition, now: datetime, channels: Iterable[str]
    ) -> Alert:
        since = watch.bad.since or watch.raised_at or now
        named = set(channels)
        names = tuple(channel.name for channel in self.rules.channels if channel.name in named)
        return Alert(self.plan_name, condition, watch.worst or Severity.WARNING, transition, since, now, names)


def event(plan_name: str, rules: AlertRules, condition: Condition, now: datetime) -> Alert:
    """An alert about something that has happened, and does not pass: a backup that failed, a rogue one that began.

    It is for all channels of its severity, those included that are told only ``after`` a time: nothing is there that
    could watch for how long it lasts.
    """
    severity = condition.severity or Severity.WARNING
    names = tuple(channel.name for channel in rules.channels if severity.reaches(channel.severity))
    return Alert(plan_name, condition, severity, Transition.RAISED, now, now, names)


def test_alert(plan_name: str, channels: Iterable[AlertChannel], by: str, now: datetime) -> Alert:
    """An alert that asks nothing of anybody."""
    condition = Condition("test", None, "Test of the alert channels", f"sent by {by}")
    names = tuple(channel.name for channel in channels)
    return Alert(plan_name, condition, Severity.WARNING, Transition.TEST, now, now, names)
