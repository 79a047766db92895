"""How long a gate may wait for the load to drop: until the plan's RPO is at stake."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from airflow_backup_guard.core.plan import BackupPlan, WhenStarved
from airflow_backup_guard.core.units import whole_seconds

_WARNING_SHARE = 0.75
_ALERT_SHARE = 0.9
_LONGEST_LEAD_SHARE = 0.5


class Urgency(str, Enum):
    """How much a backup is needed: of the time in which it must begin, less than 3/4, 3/4, 9/10, or all is spent."""

    CALM = "calm"
    WARNING = "warning"
    ALERT = "alert"
    STARVED = "starved"

    @property
    def rank(self) -> int:
        """0 for calm up to 3 for starved."""
        return list(Urgency).index(self)


@dataclass(frozen=True)
class Patience:
    """The time in which a backup must begin so that the last verified one is never older than ``rpo``.

    :param rpo: how old that may become
    :param recovery_point: the moment up to which the last verified backup has everything, None if there is no such
        backup: then the time counts from the gate's first look, or the very first backup could never wait
    :param waiting_since: the gate's first look
    :param last_took: how long the last backup took, which the next one needs, too; None if it is not known
    :param quiet_for: for that long at least a gate waits, however old the last backup is: the load may be low just now
    """

    rpo: timedelta
    recovery_point: datetime | None
    waiting_since: datetime
    last_took: timedelta | None
    quiet_for: timedelta

    @classmethod
    def of(
        cls,
        plan: BackupPlan,
        recovery_point: datetime | None,
        waiting_since: datetime,
        last_took: timedelta | None,
    ) -> Patience | None:
        """That of a plan, None for one without an RPO."""
        if plan.rpo is None:
            return None
        return cls(plan.rpo, recovery_point, waiting_since, last_took, plan.quiet_for)

    @property
    def lead(self) -> timedelta:
        """How long before the RPO is over a backup must begin: as long as the last took, half of the RPO at most."""
        return min(self.last_took or timedelta(0), self.rpo * _LONGEST_LEAD_SHARE)

    def moment(self, urgency: Urgency) -> datetime:
        """When this urgency begins; not for :attr:`Urgency.CALM`."""
        start = self.recovery_point or self.waiting_since
        budget = self.rpo - self.lead
        if urgency is Urgency.STARVED:
            return max(start + budget, self.waiting_since + self.quiet_for)
        return start + budget * (_WARNING_SHARE if urgency is Urgency.WARNING else _ALERT_SHARE)

    def urgency(self, now: datetime) -> Urgency:
        """How much a backup is needed at this moment."""
        begun = [urgency for urgency in list(Urgency)[1:] if self.moment(urgency) <= now]
        return begun[-1] if begun else Urgency.CALM

    def next_change(self, now: datetime) -> datetime | None:
        """When the urgency rises next; None once it is the highest."""
        later = list(Urgency)[self.urgency(now).rank + 1 :]
        return self.moment(later[0]) if later else None

    def text(self, now: datetime) -> str:
        """What people are told."""
        if self.recovery_point is None:
            age = f"there is no verified backup, and the gate has waited for {whole_seconds(now - self.waiting_since)}"
        else:
            age = f"the last verified backup is {whole_seconds(now - self.recovery_point)} old"
        text = f"{age}, with an RPO of {whole_seconds(self.rpo)}"
        begin = self.moment(Urgency.STARVED)
        if now >= begin:
            return f"{text}: it is time to begin"
        return f"{text}: the next must begin within {whole_seconds(begin - now)}"


@dataclass(frozen=True)
class Wait:
    """What a gate that the load keeps closed does at one moment.

    ``goes_at_floor``: it opens all the same, for a copy at the plan's floor; ``fails``: it waits no longer.
    ``next_look`` is when to weigh it again, None if only the load can change anything.
    """

    urgency: Urgency
    goes_at_floor: bool
    fails: bool
    next_look: datetime | None
    text: str


def weigh(plan: BackupPlan, patience: Patience, now: datetime) -> Wait:
    """Hold the age of the last verified backup against the plan."""
    urgency = patience.urgency(now)
    starved = urgency is Urgency.STARVED
    goes = starved and plan.when_starved is WhenStarved.GO_AT_FLOOR
    text = patience.text(now)
    if goes:
        text += f", so the gate opens for a copy at {plan.min_rate} at most (go_at_floor)"
    return Wait(urgency, goes, starved and plan.when_starved is WhenStarved.FAIL, patience.next_change(now), text)
