"""What a server shows of its sessions at one moment: all that tells a backup from other load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Session:
    """One session of a client, or one WAL sender. None is what is not set, or what the role may not see: a session
    without ``backend_start`` is one of which next to nothing can be seen.

    ``client`` is an address; None for the server's own socket. ``replication_state`` is that of a WAL sender.
    ``phase``, ``done`` and ``total`` (bytes) are those of a base backup. ``copy`` is ``COPY TO`` or ``COPY FROM``, and
    ``copied`` its bytes. ``relations`` counts those that it holds in ACCESS SHARE mode; ``lock_of`` names the backup
    program whose advisory lock it holds, ``slots`` the replication slots that it uses. ``superuser`` is whether only a
    superuser may end it.
    """

    pid: int
    backend_start: datetime | None = None
    backend_type: str | None = None
    database: str | None = None
    user: str | None = None
    superuser: bool = False
    application_name: str | None = None
    client: str | None = None
    state: str | None = None
    query: str | None = None
    query_start: datetime | None = None
    xmin: str | None = None
    replication_state: str | None = None
    base_backup: bool = False
    phase: str | None = None
    done: int | None = None
    total: int | None = None
    copy: str | None = None
    copied: int | None = None
    relations: int = 0
    lock_of: str | None = None
    slots: tuple[str, ...] = ()

    @property
    def walsender(self) -> bool:
        """Whether it speaks the replication protocol."""
        return self.backend_type == "walsender" or self.replication_state is not None or self.base_backup

    @property
    def who(self) -> tuple[str | None, str | None]:
        """Its role and its client: what sessions of one backup have in common."""
        return self.user, self.client

    @property
    def moved(self) -> int | None:
        """Bytes that it has sent of what it sends now."""
        return self.done if self.base_backup else self.copied


@dataclass(frozen=True)
class Activity:
    """All sessions at the moment ``at`` (by the server's clock), as far as ``role`` may see them.

    ``works`` names what else works hard there, such as ``CREATE INDEX``: no backup, but a reason for load.
    """

    at: datetime
    role: str
    may_see: bool = True
    may_end: bool = False
    superuser: bool = False
    tracks: bool = True
    system_identifier: str | None = None
    sessions: tuple[Session, ...] = ()
    works: tuple[str, ...] = ()

    @property
    def blind(self) -> tuple[str, ...]:
        """Why backups may run here that this role cannot see; each with what to do. Empty if it sees all."""
        reasons = []
        if not self.may_see:
            reasons.append(
                f"Role {self.role} is not a member of pg_monitor, so the server hides from it what others do. "
                f"Grant it: GRANT pg_monitor TO {self.role}."
            )
        if not self.tracks:
            reasons.append(
                "track_activities is off, so the server does not know itself what its sessions do. Turn it on."
            )
        return tuple(reasons)


def rate(pids: Iterable[int], before: Activity, after: Activity) -> float | None:
    """Bytes per second that these sessions have sent between two moments; None if nobody counts them.

    Of a session that has begun with something else meanwhile, what it has sent of that counts: it is a lower bound.
    """
    wanted, then = set(pids), {session.pid: session for session in before.sessions}
    sent: list[int] = []
    for session in after.sessions:
        if session.pid not in wanted or session.moved is None:
            continue
        earlier = then.get(session.pid)
        same = earlier is not None and earlier.moved is not None and earlier.query_start == session.query_start
        sent.append(session.moved - (earlier.moved or 0) if earlier and same else session.moved)
    seconds = (after.at - before.at) / timedelta(seconds=1)
    return max(0, sum(sent)) / seconds if sent and seconds > 0 else None
