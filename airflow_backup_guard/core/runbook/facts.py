"""What a recovery runbook is made of, what is missing, and where it is kept.

Keys below a repository's root::

    runbooks/<plan>/runbook.html           to read and print
    runbooks/<plan>/runbook.md             the same as Markdown
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.fleet import PlanStatus, Protection
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.secrets import without_secrets
from airflow_backup_guard.core.units import format_duration, whole_seconds

RUNBOOKS = "runbooks/"
"""Where the runbooks of all plans lie."""


def runbook_key(plan: str, suffix: str) -> str:
    """Where the runbook of a plan lies; ``suffix`` is ``.html`` or ``.md``."""
    return f"{RUNBOOKS}{plan}/runbook{suffix}"


@dataclass(frozen=True)
class Gap:
    """Something that is missing or wrong, which may cost dearly in a disaster, and what to do about it now."""

    said: str
    todo: str

    def __str__(self) -> str:
        return f"{self.said} {self.todo}".strip()


@dataclass(frozen=True)
class Facts:
    """One plan, how it stands, and what there is to restore.

    ``backup`` is the newest verified backup; without one, the newest that is not known to be damaged; ``verified`` says
    which. ``before`` is the verified one before it. ``drilled_size`` is the size in bytes of the cluster that the last
    drill restored, None if that backup is gone. ``version`` is that of this package.
    """

    plan: BackupPlan
    status: PlanStatus
    version: str
    backup: BackupRecord | None = None
    before: BackupRecord | None = None
    verified: bool = False
    drilled_size: int | None = None

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """All that is missing or wrong, the worst first, without passwords."""
        return tuple(Gap(without_secrets(gap.said), without_secrets(gap.todo)) for gap in _gaps(self))


def _gaps(facts: Facts) -> Iterator[Gap]:
    plan, status = facts.plan, facts.status
    name = f"--plan-name {plan.name}"
    if facts.backup is None:
        yield Gap("There is no backup that could be restored.", "Make one now: backup-guard backup.")
    elif not facts.verified:
        yield Gap(
            f"No backup was verified: whether {facts.backup.backup_id}, which is named below, is whole is not known.",
            f"Read it back now: backup-guard verify latest {name}.",
        )
    elif not status.protection.good:
        why = status.reason[:1].upper() + status.reason[1:]
        late = status.protection is Protection.LATE
        yield Gap(f"{why}.", f"See why there is no newer one: backup-guard list {name}." if late else "")
    if status.damaged:
        yield Gap(
            f"Damaged, and not to be restored: {', '.join(status.damaged)}.", f"See backup-guard verify --all {name}."
        )
    for problem in status.problems:
        yield Gap(problem.message, problem.remedy)
    if status.drill is None:
        yield Gap(
            "No restore was ever tried: how long it takes, and whether it works, is not known.",
            f"Try one: backup-guard drill {name}.",
        )
    elif not status.drill.passed:
        yield Gap(f"{status.drill.summary}.", f"Mend that, and try again: backup-guard drill {name}.")
    elif status.rto_met is False and status.drill.rto_seconds is not None:
        took = whole_seconds(timedelta(seconds=status.drill.rto_seconds), least=1)
        yield Gap(
            f"The last drill took {took}, and the RTO is {format_duration(plan.rto or timedelta(0))}.",
            "Restore from nearer or faster storage, or agree on another RTO.",
        )
    if not plan.contacts:
        yield Gap("The plan names nobody to call.", "Give it contacts: names, and how to reach them.")
