"""Answers rogue backups: keeps the evidence, tells people once, and ends what the plan says to end.

Keys below a repository's root::

    rogues/<plan>/<id>.json           the evidence, created only if it is not there: whoever creates it answers
    rogues/<plan>/<id>.told           empty: people were told
    rogues/<plan>/<id>.outcome.json   what was done, and what became of the backup
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.load import LoadLevel, assess
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.core.rogue import RunningBackup, Sighting
from airflow_backup_guard.core.rogue_text import origin, report, title
from airflow_backup_guard.core.watchdog import Decision, Policy, Step, decide
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.watchdog import EVERY_SECONDS, look, refuse_blind
from airflow_backup_guard.errors import BackupGuardError, ObjectExists, ObjectMissing
from airflow_backup_guard.postgres.activity import end_processes
from airflow_backup_guard.postgres.probe import LoadProbe
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole

ROGUES = "rogues/"
"""Where the evidence of all plans lies."""

OUTCOME = ".outcome.json"
"""How the key of what became of a rogue backup ends, in place of ``.json``."""

Tell = Callable[[str, str, str], None]
"""Tells people: the id of a rogue backup, a title in one line, and a report in many. It must not raise."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """A rogue backup as it was seen first, and by whom; ``report`` is what people were told."""

    format: int
    plan_name: str
    responder: str
    seen_at: datetime
    in_window: bool
    backup: RunningBackup
    report: str


@dataclass(frozen=True)
class Action:
    """Something that was done about a rogue backup, and why."""

    at: datetime
    action: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What was done about one rogue backup. ``state`` is ``running``, ``gone``, ``ended`` by us, ``failed`` (it could
    not be ended), or ``answered`` by another responder."""

    format: int
    id: str
    state: str
    actions: tuple[Action, ...]


def evidence_key(plan_name: str, rogue_id: str) -> str:
    """Where the evidence of one rogue backup lies."""
    return f"{ROGUES}{plan_name}/{rogue_id}.json"


def answered(repository: Repository, plan_name: str, rogue_id: str) -> bool:
    """Whether somebody has answered, or answers, this rogue backup."""
    return any(True for _ in repository.list(evidence_key(plan_name, rogue_id)))


def respond(
    plan: BackupPlan,
    seen: Iterable[RunningBackup],
    dsn: str,
    repository: Repository,
    *,
    responder: str,
    tell: Tell,
    stop: Stop,
    load_dsn: str | None = None,
) -> list[Outcome]:
    """Answer what was ``seen`` before and all that is there now, each rogue backup once, whoever asks and how often.

    ``responder`` names this run, the same for a retry, which goes on where the run was. Waits while the plan says to
    end something and it is not time yet. Raises what asking the server or the repository raises, and
    :class:`BackupStopped`.
    """
    sighting = asyncio.run(look(dsn, plan, repository, seconds=0.5))
    there = {found.id: found for found in sighting.rogues}
    cases = []
    for found in {**{found.id: found for found in seen}, **there}.values():
        case = _Case(plan, found, repository, responder)
        if case.claim(sighting):
            case.alert(tell, sighting)
            cases.append(case)
    if not cases and not there:
        refuse_blind(sighting)
    others = [case_id for case_id in there if case_id not in {case.backup.id for case in cases}]
    while any(case.open for case in cases):
        stop.check()
        for case in cases:
            if case.open:
                case.act(dsn, sighting, load_dsn or dsn, tell)
        if any(case.open for case in cases):
            stop.wait(EVERY_SECONDS)
            sighting = asyncio.run(look(dsn, plan, repository))
    return [
        *(case.outcome for case in cases),
        *(Outcome(backup.FORMAT, rogue_id, "answered", ()) for rogue_id in others),
    ]


class _Case:
    """One rogue backup from its alert to its end."""

    def __init__(self, plan: BackupPlan, found: RunningBackup, repository: Repository, responder: str) -> None:
        self.backup = found
        self.open = True
        self._plan = plan
        self._repository = repository
        self._responder = responder
        self._key = evidence_key(plan.name, found.id)
        self._alerted: datetime | None = None
        self._actions: list[Action] = []
        self._waiting = ""
        self._state = "running"

    @property
    def outcome(self) -> Outcome:
        """What was done so far."""
        return Outcome(backup.FORMAT, self.backup.id, self._state, tuple(self._actions))

    def claim(self, sighting: Sighting) -> bool:
        """Keep the evidence; False if somebody else has it."""
        evidence = Evidence(
            format=backup.FORMAT,
            plan_name=self._plan.name,
            responder=self._responder,
            seen_at=sighting.at,
            in_window=sighting.in_window,
            backup=self.backup,
            report=report(self.backup, sighting),
        )
        try:
            self._repository.put(self._key, backup.dump(evidence), if_absent=True)
        except ObjectExists:
            kept = backup.load(Evidence, read_whole(self._repository, self._key), self._key)
            if kept.responder != self._responder:
                _log.info("Rogue backup %s is answered by %s already.", self.backup.id, kept.responder)
                return False
            if any(True for _ in self._repository.list(self._told)):
                self._alerted = kept.seen_at
            self._recall()
        return True

    def alert(self, tell: Tell, sighting: Sighting) -> None:
        """Tell people, unless they were told, or the plan says to report only."""
        if not self.open:
            return
        text = report(self.backup, sighting)
        _log.warning("A backup runs that nobody guards.\n%s", text)
        decision = self._decide(sighting, LoadLevel.UNKNOWN)
        if decision.step is not Step.ALERT:
            return
        headline = f"Rogue backup on {self._plan.name}: {title(self.backup)} by {origin(self.backup)}"
        tell(self.backup.id, headline, self._with_plan(text))
        self._repository.put(self._told, b"")
        self._alerted = sighting.at
        self._act("alerted", decision.reason)

    def act(self, dsn: str, sighting: Sighting, load_dsn: str, tell: Tell) -> None:
        """Do what is due now; closes the case when nothing will be."""
        current = next((found for found in sighting.backups if found.id == self.backup.id), None)
        if current is None and sighting.blind:
            self._close("running", "it cannot be seen any more: " + " ".join(sighting.blind))
            return
        if current is None:
            self._close("gone", "it has ended without us")
            return
        self.backup = current
        level = LoadLevel.UNKNOWN
        if sighting.in_window and self._plan.watchdog.policy is Policy.TERMINATE:
            level = asyncio.run(_level(self._plan, load_dsn))
        decision = self._decide(sighting, level)
        if decision.step is Step.END:
            self._end(dsn, decision, tell, sighting)
        elif decision.step is not Step.WAIT:
            self._close("running", decision.reason)
        elif decision.reason != self._waiting:
            self._waiting = decision.reason
            _log.info("Rogue backup %s goes on: %s.", self.backup.id, decision.reason)

    def _recall(self) -> None:
        """Close the case again if this responder has closed it in an earlier try."""
        try:
            kept = backup.load(Outcome, read_whole(self._repository, self._outcome), self._outcome)
        except ObjectMissing:
            return
        self.open, self._state, self._actions = False, kept.state, list(kept.actions)

    def _decide(self, sighting: Sighting, level: LoadLevel) -> Decision:
        return decide(
            self.backup,
            self._plan.watchdog,
            alerted=self._alerted,
            now=sighting.at,
            level=level,
            in_window=sighting.in_window,
        )

    def _end(self, dsn: str, decision: Decision, tell: Tell, sighting: Sighting) -> None:
        _log.warning(
            "Ending %s, server processes %s, because %s. The evidence: %s.",
            title(self.backup),
            ", ".join(map(str, self.backup.pids)),
            decision.reason,
            "; ".join(self.backup.evidence),
        )
        self._act("ending", decision.reason)
        try:
            told = end_processes(dsn, self.backup.pids, self.backup.starts)
        except BackupGuardError as error:
            _log.error("It could not be ended: %s", error)
            failure = f"It could not be ended: {error}"
            headline = f"Rogue backup on {self._plan.name} could not be ended"
            tell(self.backup.id, headline, f"{failure}\n\n{report(self.backup, sighting)}")
            self._close("failed", str(error))
            return
        self._close("ended", f"server processes {', '.join(map(str, told)) or 'none, it was gone'} were told to end")

    def _with_plan(self, text: str) -> str:
        policy = self._plan.watchdog
        if policy.policy is Policy.TERMINATE:
            what = f"It is ended {policy.grace} after this, outside of the plan's windows or at critical load"
            return f"{text}\n\n{what}, if it is certainly a backup."
        return f"{text}\n\nNothing is ended by itself: the plan's policy is {policy.policy.value}."

    def _act(self, action: str, reason: str) -> None:
        self._actions.append(Action(datetime.now(timezone.utc), action, reason))

    def _close(self, state: str, reason: str) -> None:
        self.open, self._state = False, state
        self._act(state, reason)
        _log.info("Rogue backup %s: %s, %s.", self.backup.id, state, reason)
        self._repository.put(self._outcome, backup.dump(self.outcome))

    @property
    def _outcome(self) -> str:
        return self._key.removesuffix(".json") + OUTCOME

    @property
    def _told(self) -> str:
        return self._key.removesuffix(".json") + ".told"


async def _level(plan: BackupPlan, dsn: str) -> LoadLevel:
    """How loaded the database is now; a limit that takes a baseline is unknown unless it is far exceeded."""
    async with LoadProbe(dsn, custom=plan.limits.custom) as probe:
        await probe.sample()
        await asyncio.sleep(1)
        return assess(await probe.sample(), plan.limits).level
