"""What gives one session away as part of a backup: what it does, what it is called, what it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from airflow_backup_guard.core.activity import Session
from airflow_backup_guard.core.names import printable
from airflow_backup_guard.core.units import Rate


class Kind(str, Enum):
    """What kind of load it is. ``session`` has called pg_backup_start, and copies the files without the server."""

    BASE_BACKUP = "base backup"
    SESSION = "file copy under pg_backup_start"
    LOGICAL_DUMP = "logical dump"
    LOGICAL_RESTORE = "restore of a logical dump"
    COPY_OUT = "COPY TO"
    SURGE = "surge of WAL"


class Certainty(str, Enum):
    """How sure it is that it is a backup. Nobody is alerted to what is only ``possible``."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(frozen=True)
class Signs:
    """What one session looks like; ``evidence`` are sentences, without a capital or a full stop."""

    kind: Kind
    program: str
    certainty: Certainty
    evidence: tuple[str, ...]


UNKNOWN_PROGRAM = "unknown program"

# By the beginning of their application_name, as the programs set it themselves; anybody may set another.
_PROGRAMS = (
    ("pg_basebackup", "pg_basebackup"),
    ("pg_dumpall", "pg_dumpall"),
    ("pg_dump", "pg_dump"),
    ("pg_restore", "pg_restore"),
    ("pgBackRest [backup]", "pgBackRest"),
    ("barman", "Barman"),
    ("wal-g", "WAL-G"),
    ("pg_probackup", "pg_probackup"),
    ("pghoard", "pghoard"),
    ("backup_guard/", "backup-guard"),
)
_BASE_BACKUP = re.compile(r"\s*BASE_BACKUP\b", re.IGNORECASE)
_LABEL = re.compile(r"\bLABEL\s+'((?:[^']|'')*)'", re.IGNORECASE)
_MAX_RATE = re.compile(r"\bMAX_RATE\s+'?(\d+)", re.IGNORECASE)
_FAST = re.compile(r"\bCHECKPOINT\s+'fast'|\bFAST\b", re.IGNORECASE)
_BACKUP_START = re.compile(r"\bpg_(?:backup_start|start_backup)\s*\(", re.IGNORECASE)
# As pg_dump writes them: one relation, its columns, and lower case where people would not.
_DUMP_COPY = re.compile(r"COPY (?:\S+|\"[^\"]+\"(?:\.\"[^\"]+\")?) \(.*\) TO stdout;?", re.DOTALL)
_DUMP_LOCK = re.compile(r"\s*LOCK TABLE .* IN ACCESS SHARE MODE", re.DOTALL)
# A statement of an application rarely reads more at once; a dump holds every table that there is, and its indexes.
MANY_RELATIONS = 20


def signs_of(session: Session, others: Iterable[Session]) -> Signs | None:
    """What gives it away; None if it does not look like a backup. ``others`` may have itself among them."""
    if session.walsender:
        return _base_backup(session)
    return _file_copy(session) or _dump(session, others) or _copy_out(session)


def program_named(application_name: str | None) -> str:
    """The program that goes by this name."""
    for prefix, program in _PROGRAMS:
        if (application_name or "").startswith(prefix):
            return program
    return UNKNOWN_PROGRAM


def _base_backup(session: Session) -> Signs | None:
    query = session.query or ""
    sends = session.base_backup or session.replication_state == "backup"
    if not sends and not _BASE_BACKUP.match(query):
        return None  # a standby, a receiver of WAL, or a subscription
    evidence = [f"server process {session.pid} sends a base backup over the replication protocol"]
    options = _LABEL.sub("", query)
    if label := _LABEL.search(query):
        evidence.append(f"its label is “{printable(label[1])[:80]}”")
    if limit := _MAX_RATE.search(options):
        evidence.append(f"it asked for {Rate(int(limit[1]) * 1024)} at most")
    elif query:
        evidence.append("it asked for no limit of its rate")
    if _FAST.search(options):
        evidence.append("it forced a fast checkpoint as it began")
    return Signs(Kind.BASE_BACKUP, program_named(session.application_name), Certainty.CERTAIN, tuple(evidence))


def _file_copy(session: Session) -> Signs | None:
    program = session.lock_of or program_named(session.application_name)
    started = bool(_BACKUP_START.search(session.query or ""))
    evidence = []
    if session.lock_of:
        evidence.append(f"it holds the lock that {program} takes for its backups")
    if started and session.state == "active":
        evidence.append("it is calling pg_backup_start")
    elif started:
        evidence.append("pg_backup_start was the last that it called, and its session is open")
    if session.application_name and program_named(session.application_name) == "pgBackRest":
        evidence.append(f"its name is {session.application_name}")
    if not evidence:
        return None
    sure = session.lock_of is not None or (started and session.state == "active")
    certainty = Certainty.CERTAIN if sure else Certainty.LIKELY
    copies = "who copies the files cannot be seen from the database: it may be on the server itself"
    return Signs(Kind.SESSION, program, certainty, (*evidence, copies))


def _dump(session: Session, others: Iterable[Session]) -> Signs | None:
    program = program_named(session.application_name)
    evidence = [f"its name is {session.application_name}"]
    if program == "pg_restore":
        does = [] if session.copy != "COPY FROM" else ["it writes a table with COPY FROM"]
        certainty = Certainty.CERTAIN if does else Certainty.LIKELY
        return Signs(Kind.LOGICAL_RESTORE, program, certainty, (*evidence, *does))
    does = list(_dumping(session, others))
    if program in ("pg_dump", "pg_dumpall"):
        certainty = Certainty.CERTAIN if does else Certainty.LIKELY
        return Signs(Kind.LOGICAL_DUMP, program, certainty, (*evidence, *does))
    if len(does) > 1 or _DUMP_LOCK.match(session.query or ""):
        return Signs(Kind.LOGICAL_DUMP, program, Certainty.LIKELY, tuple(does))
    return None


def _dumping(session: Session, others: Iterable[Session]) -> Iterable[str]:
    """What of a dump it does."""
    query = session.query or ""
    if session.copy == "COPY TO" or (session.state == "active" and _DUMP_COPY.fullmatch(query)):
        if _DUMP_COPY.fullmatch(query):
            yield "it reads a whole table with COPY TO, in pg_dump's own words"
        elif program_named(session.application_name) != UNKNOWN_PROGRAM:
            yield "it reads a table with COPY TO"
    if _DUMP_LOCK.match(query):
        yield "it locks tables in ACCESS SHARE mode, as pg_dump does"
    held = session.relations
    if session.xmin is not None:
        # A worker of pg_dump holds little itself, but it has the snapshot of a leader that holds everything.
        same = [s.relations for s in others if s.xmin == session.xmin and s.who == session.who]
        held = max([held, *same])
    if held >= MANY_RELATIONS:
        yield f"its transaction holds {held} tables and indexes in ACCESS SHARE mode"


def _copy_out(session: Session) -> Signs | None:
    if session.copy != "COPY TO":
        return None
    evidence = ("it reads a table, or a query, with COPY TO: a backup script may do that, and an application as well",)
    return Signs(Kind.COPY_OUT, program_named(session.application_name), Certainty.POSSIBLE, evidence)
