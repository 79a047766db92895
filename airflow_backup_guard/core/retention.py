"""Which backups are kept, which expire, and why: a decision over values that explains itself.

Days, ISO weeks, months and years are those of a time zone, and a backup belongs to those of its snapshot. Only periods
that have a backup count, so that a week without one never costs an older one its place.

Backups differ in trust: verified, not known to be good, damaged. Each rule is applied three times: to the verified
ones, to those that are not known to be damaged, and to all. What is chosen once is kept, so that no backup ever makes
room for one that is trusted less. The newest of each of the three is kept whatever the rules say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

import attrs

from airflow_backup_guard.core.catalog import BackupSummary
from airflow_backup_guard.core.units import format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

ABANDONED_AFTER = timedelta(days=7)
"""How long an attempt must have given no sign of life to be taken for abandoned."""

_LEAST_ABANDONED_AFTER = timedelta(hours=1)
_MOST = 100_000
_AMONG = {0: "", 1: " of those not damaged", 2: " of the verified"}
_NEWEST = {0: "the newest", 1: "the newest that is not known to be damaged", 2: "the newest verified"}


def _count(instance: RetentionPolicy, attribute: attrs.Attribute[int], value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise InvalidPlan(f"retention.{attribute.name}", value, f"a whole number from 0 to {_MOST}")


def _min_age(value: Any) -> timedelta:
    return parse_duration(value, "retention.min_age")


@attrs.frozen(kw_only=True)
class RetentionPolicy:
    """How many backups are kept. Without any of the counts, nothing ever expires. Raises :class:`InvalidPlan`.

    :param keep_last: the newest so many
    :param keep_daily: the newest of each of so many days
    :param keep_weekly: the newest of each of so many weeks, from Monday
    :param keep_monthly: the newest of each of so many months
    :param keep_yearly: the newest of each of so many years
    :param min_age: none that is younger expires, as ``"7d"``
    """

    keep_last: int = attrs.field(default=0, validator=_count)
    keep_daily: int = attrs.field(default=0, validator=_count)
    keep_weekly: int = attrs.field(default=0, validator=_count)
    keep_monthly: int = attrs.field(default=0, validator=_count)
    keep_yearly: int = attrs.field(default=0, validator=_count)
    min_age: timedelta = attrs.field(default=timedelta(0), converter=_min_age)

    def __attrs_post_init__(self) -> None:
        if self.min_age and self.is_empty:
            allowed = (
                "a min_age beside a count, as alone it does not say what is kept of what is older; "
                f'keep_last=1, min_age="{format_duration(self.min_age)}" keeps all that is younger, and the newest'
            )
            raise InvalidPlan("retention.min_age", format_duration(self.min_age), allowed)

    @property
    def is_empty(self) -> bool:
        """Whether nothing ever expires."""
        return not any((self.keep_last, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly))

    def to_dict(self) -> dict[str, Any]:
        """What is set, as plain values that :meth:`from_dict` reads back."""
        counts = {name: value for name, value in attrs.asdict(self).items() if name != "min_age" and value}
        return {**counts, "min_age": format_duration(self.min_age)} if self.min_age else counts

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RetentionPolicy:
        """Read what :meth:`to_dict` wrote, or a table of a plan file; raises :class:`InvalidPlan`."""
        known = [field.name for field in attrs.fields(cls)]
        if not isinstance(values, Mapping):
            raise InvalidPlan("retention", values, f"a table of {', '.join(known)}")
        for name, value in values.items():
            if name not in known:
                raise InvalidPlan(f"retention.{name}", value, ", ".join(known))
        return cls(**values)

    def __str__(self) -> str:
        if self.is_empty:
            return "keeps all"
        names = ("last", "daily", "weekly", "monthly", "yearly")
        counts = [(name, getattr(self, f"keep_{name}")) for name in names]
        kept = ", ".join(f"{count} {name}" for name, count in counts if count)
        return f"keeps {kept}" + (f", and all younger than {format_duration(self.min_age)}" if self.min_age else "")


@dataclass(frozen=True)
class Decision:
    """Whether one backup is kept, and why: one reason at least."""

    backup: BackupSummary
    keep: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{'keep' if self.keep else 'expire'}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class _Rule:
    count: int
    unit: str
    period: Callable[[date], str]


def decide(
    policy: RetentionPolicy, backups: Sequence[BackupSummary], zone: tzinfo, now: datetime
) -> tuple[Decision, ...]:
    """What becomes of each backup of one plan, the oldest first. Of two of one moment the higher id is the newer.

    A backup whose time is after ``now`` was dated by a clock that is wrong, or this one is: it is kept, and no other
    expires on its account.
    """
    ordered = sorted(backups, key=lambda one: (one.taken_at, one.backup_id))
    newest_first = [one for one in reversed(ordered) if one.taken_at <= now]
    chosen: dict[str, dict[str, str]] = {one.backup_id: {} for one in ordered}
    for trust in (0, 1, 2):
        for backup_id, rule, reason in _choices(policy, [o for o in newest_first if o.trust >= trust], zone, trust):
            chosen[backup_id].setdefault(rule, reason)
    kept = [one for one in ordered if chosen[one.backup_id]]
    decisions = []
    for one in ordered:
        reasons = (*_guards(policy, one, zone, now), *chosen[one.backup_id].values())
        decisions.append(Decision(one, bool(reasons), reasons or tuple(_excuses(policy, one, kept, zone))))
    return tuple(decisions)


def check_abandoned_after(value: str | timedelta) -> timedelta:
    """The duration; raises :class:`InvalidPlan`."""
    found = parse_duration(value, "abandoned_after")
    if found < _LEAST_ABANDONED_AFTER:
        raise InvalidPlan("abandoned_after", format_duration(found), "a duration from 1h up")
    return found


def _rules(policy: RetentionPolicy) -> list[_Rule]:
    return [
        _Rule(policy.keep_daily, "day", date.isoformat),
        _Rule(policy.keep_weekly, "week", lambda day: "{}-W{:02}".format(*day.isocalendar())),
        _Rule(policy.keep_monthly, "month", lambda day: f"{day:%Y-%m}"),
        _Rule(policy.keep_yearly, "year", lambda day: f"{day:%Y}"),
    ]


def _day(one: BackupSummary, zone: tzinfo) -> date:
    return one.taken_at.astimezone(zone).date()


def _guards(policy: RetentionPolicy, one: BackupSummary, zone: tzinfo, now: datetime) -> Iterator[str]:
    """Why a backup is kept whatever the counts say."""
    if one.hold is not None and not one.hold.is_over(now.astimezone(zone).date()):
        yield str(one.hold)
    if policy.is_empty:
        yield "the plan has no retention"
    if one.taken_at > now:
        yield "it is dated after now, so a clock is wrong"
    elif now - one.taken_at < policy.min_age:
        yield f"younger than {format_duration(policy.min_age)}"


def _choices(
    policy: RetentionPolicy, newest_first: Sequence[BackupSummary], zone: tzinfo, trust: int
) -> Iterator[tuple[str, str, str]]:
    """Which of some backups the counts keep: id, rule, and reason."""
    for one in newest_first[:1]:
        yield one.backup_id, "newest", _NEWEST[trust]
    if policy.keep_last > 1:
        for one in newest_first[: policy.keep_last]:
            yield one.backup_id, "last", f"among the last {policy.keep_last}{_AMONG[trust]}"
    for rule in _rules(policy):
        seen: set[str] = set()
        for one in newest_first:
            if len(seen) == rule.count:
                break
            period = rule.period(_day(one, zone))
            if period not in seen:
                seen.add(period)
                yield one.backup_id, rule.unit, f"the newest of {rule.unit} {period}{_AMONG[trust]}"


def _excuses(policy: RetentionPolicy, one: BackupSummary, kept: Sequence[BackupSummary], zone: tzinfo) -> Iterator[str]:
    """Why no rule keeps a backup: what is kept in its place, all of it newer and trusted as much."""
    mine = (one.taken_at, one.backup_id)
    others = [other for other in kept if other.trust >= one.trust and (other.taken_at, other.backup_id) > mine]
    if policy.min_age:
        yield f"older than {format_duration(policy.min_age)}"
    if policy.keep_last:
        yield f"{len(others)} newer ones are kept" if len(others) > 1 else f"{others[0].backup_id} is newer"
    renewed = []
    for rule in _rules(policy):
        own = rule.period(_day(one, zone))
        periods = {rule.period(_day(other, zone)) for other in others}
        if rule.count and own in periods:
            renewed.append(f"{rule.unit} {own}")
        elif rule.count:
            yield f"{len(periods)} newer {rule.unit}s have one" if len(periods) > 1 else f"a newer {rule.unit} has one"
    if renewed:
        yield f"{', '.join(renewed)} {'has a newer one' if len(renewed) == 1 else 'have newer ones'}"
