"""Which backups run against a server, whoever started them, how sure that is, and whose they are.

A backup is one :class:`RunningBackup`, however many sessions it has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from airflow_backup_guard.core.activity import Activity, Session, rate
from airflow_backup_guard.core.names import SLOT_NAME, claimed_backup_id
from airflow_backup_guard.core.signs import MANY_RELATIONS, Certainty, Kind, Signs, signs_of

__all__ = ["Certainty", "Kind", "Owner", "RunningBackup", "claims", "recognise", "with_rates"]


class Owner(str, Enum):
    """``claimed`` says that it is ours and holds our slot, but the repository at hand does not know of it."""

    OURS = "ours"
    CLAIMED = "claimed"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class RunningBackup:
    """One backup. ``pids`` are its sessions, the one that began first, which ``id`` names, in front; ``starts`` are
    when those began, so that a process that has its number by chance is never taken for it.

    ``done`` and ``total`` in bytes, ``rate`` in bytes per second: None where the server does not know. ``backup_id`` is
    the one that it claims. ``allowed`` is the rule that allows it, as text; empty if none does.
    """

    id: str
    kind: Kind
    program: str
    certainty: Certainty
    evidence: tuple[str, ...]
    pids: tuple[int, ...]
    starts: tuple[datetime | None, ...]
    user: str | None = None
    client: str | None = None
    application_name: str | None = None
    database: str | None = None
    since: datetime | None = None
    phase: str | None = None
    done: int | None = None
    total: int | None = None
    rate: float | None = None
    owner: Owner = Owner.FOREIGN
    backup_id: str | None = None
    allowed: str = ""
    superuser: bool = field(default=False)

    @property
    def rogue(self) -> bool:
        """Whether somebody should hear of it: surely or probably a backup, not ours, and not allowed."""
        return self.certainty is not Certainty.POSSIBLE and self.owner is not Owner.OURS and not self.allowed


def claims(activity: Activity) -> tuple[str, ...]:
    """The ids of guarded backups that sessions say they are of; whether it is true, the repository knows."""
    named = (claimed_backup_id(session.application_name) for session in activity.sessions)
    return tuple(sorted({backup_id for backup_id in named if backup_id}))


def recognise(activity: Activity, proven: Collection[str] | None = None) -> tuple[RunningBackup, ...]:
    """All backups, the surest and oldest first.

    ``proven`` are those of :func:`claims` that the repository knows of as open, or as just become whole; None if no
    repository could be asked: then our slot, which nobody else can hold meanwhile, is the proof.
    """
    found = {s.pid: signs for s in activity.sessions if (signs := signs_of(s, activity.sessions))}
    groups: list[list[Session]] = []
    for session in sorted(activity.sessions, key=_age):
        if session.pid in found:
            group = next((group for group in groups if _belongs(session, found, group)), None)
            if group is None:
                groups.append([session])
            else:
                group.append(session)
    for session in activity.sessions:
        if session.pid not in found and (group := next((g for g in groups if _serves(session, g)), None)):
            group.append(session)
    backups = [_backup(group, found, activity, proven) for group in groups]
    surest = list(Certainty)
    return tuple(sorted(backups, key=lambda backup: (surest.index(backup.certainty), backup.id)))


def with_rates(backups: Iterable[RunningBackup], before: Activity, after: Activity) -> tuple[RunningBackup, ...]:
    """The same backups, with what they sent per second between two looks."""
    return tuple(replace(backup, rate=rate(backup.pids, before, after)) for backup in backups)


def _age(session: Session) -> tuple[bool, str, int]:
    start = session.backend_start
    return start is None, start.isoformat() if start else "", session.pid


def _belongs(session: Session, found: dict[int, Signs], group: Sequence[Session]) -> bool:
    """Whether two sessions with signs of a backup are of the same one."""
    first, (mine, theirs) = group[0], (found[session.pid], found[group[0].pid])
    if session.who != first.who or mine.kind is not theirs.kind or mine.kind is not Kind.LOGICAL_DUMP:
        # A tool that calls pg_backup_start, and each WAL sender that sends a base backup, is a backup by itself.
        return False
    if theirs.program == "pg_dumpall":
        return mine.program == "pg_dump"
    # The workers of one pg_dump share the snapshot of their leader.
    return (
        session.database == first.database
        and mine.program == theirs.program
        and (session.xmin is None or first.xmin is None or session.xmin == first.xmin)
    )


def _serves(session: Session, group: Sequence[Session]) -> bool:
    """Whether a session without signs works for a backup: it sends the WAL of a base backup, or leads a dump."""
    first = group[0]
    if not first.walsender and session.database == first.database and session.who == first.who:
        return session.xmin is not None and session.xmin == first.xmin and session.relations >= MANY_RELATIONS
    if session.who != first.who or session.application_name != first.application_name:
        return False
    if claimed_backup_id(session.application_name):
        return True
    return first.walsender and any(slot.startswith("pg_basebackup_") for slot in session.slots)


def _backup(
    group: Sequence[Session], found: dict[int, Signs], activity: Activity, proven: Collection[str] | None
) -> RunningBackup:
    first = group[0]
    signs = [found[session.pid] for session in group if session.pid in found]
    best = min(signs, key=lambda one: list(Certainty).index(one.certainty))
    owner, claim = _owner(first, activity, proven)
    sent = [session.moved for session in group if session.moved is not None]
    evidence = dict.fromkeys(line for one in signs for line in one.evidence)
    since = (first.query_start if first.base_backup else None) or first.backend_start
    return RunningBackup(
        id=_id(first, activity.at),
        kind=best.kind,
        program=signs[0].program if signs[0].program == "pg_dumpall" else best.program,
        certainty=best.certainty,
        evidence=(*evidence, *claim),
        pids=tuple(session.pid for session in group),
        starts=tuple(session.backend_start for session in group),
        user=first.user,
        client=first.client,
        application_name=first.application_name,
        database=next((session.database for session in group if session.database), None),
        since=since,
        phase=first.phase,
        done=sum(sent) if sent else None,
        total=first.total,
        owner=owner,
        backup_id=claimed_backup_id(first.application_name),
        superuser=any(session.superuser for session in group),
    )


def _id(session: Session, at: datetime) -> str:
    # Without pg_monitor nobody can tell when a process began, but the same number hardly comes twice in a day.
    if session.backend_start is None:
        return f"{at:%Y%m%d}-{session.pid}"
    return f"{session.backend_start:%Y%m%dT%H%M%SZ}-{session.pid}"


def _owner(session: Session, activity: Activity, proven: Collection[str] | None) -> tuple[Owner, tuple[str, ...]]:
    """Whose it is, and why."""
    backup_id = claimed_backup_id(session.application_name)
    if backup_id is None:
        return Owner.FOREIGN, ()
    says = f"it says that it is the guarded backup {backup_id}"
    same = [s for s in activity.sessions if s.application_name == session.application_name and s.base_backup]
    if any(other.pid != session.pid and _age(other) < _age(session) for other in same):
        return Owner.FOREIGN, (f"{says}, but another session that began before it is that one",)
    holds = any(
        SLOT_NAME in s.slots and s.application_name == session.application_name and s.who == session.who
        for s in activity.sessions
    )
    if proven is not None and backup_id in proven:
        return Owner.OURS, (f"{says}, and the repository knows of it",)
    if not holds:
        what = "is a remnant of one that died, or has taken its name"
        return Owner.FOREIGN, (f"{says}, but does not hold the slot {SLOT_NAME}: it {what}",)
    if proven is None:
        return Owner.OURS, (f"{says}, and holds the slot {SLOT_NAME}",)
    return Owner.CLAIMED, (f"{says} and holds the slot {SLOT_NAME}, but this repository does not know of it",)


@dataclass(frozen=True)
class Sighting:
    """What one look at a server showed. ``blind`` says why backups may run there that were not seen; empty if all
    could be seen. ``in_window`` is whether it is inside of the plan's windows, as far as is known; True without a plan.
    ``may_end`` and ``superuser`` are what the role may, ``works`` what else works hard there."""

    at: datetime
    role: str
    backups: tuple[RunningBackup, ...] = ()
    blind: tuple[str, ...] = ()
    in_window: bool = True
    may_end: bool = False
    superuser: bool = False
    works: tuple[str, ...] = ()

    @property
    def rogues(self) -> tuple[RunningBackup, ...]:
        """Those that somebody should hear of."""
        return tuple(backup for backup in self.backups if backup.rogue)
