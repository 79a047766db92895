"""What a drill asks a restored cluster: who it is, what it lacks on this machine, whether its pages are sound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.drill import judge_value
from airflow_backup_guard.core.drill_policy import AmcheckLevel, DrillCheck, DrillPolicy
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import BackupGuardError, SourceUnsuitable
from airflow_backup_guard.postgres.connection import READABLE_TIMES
from airflow_backup_guard.postgres.server import LocalServer

# Who the cluster is, and how far recovery has come. Needs a superuser; PostgreSQL 15+.
_IDENTITY = """
SELECT system_identifier::text, pg_is_in_recovery(),
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text
FROM pg_control_system()
"""
_DATABASES = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname"
# Extensions that the database has, and whether their files are on this machine.
_EXTENSIONS = """
SELECT extname, EXISTS (SELECT FROM pg_available_extensions WHERE name = extname) FROM pg_extension ORDER BY extname
"""
# The libraries that functions in C are in, those of extensions and others.
_LIBRARIES = """
SELECT DISTINCT probin FROM pg_proc JOIN pg_language ON pg_language.oid = prolang WHERE lanname = 'c' ORDER BY probin
"""
_LIBRARY_PATH = "SELECT setting, current_setting('dynamic_library_path') FROM pg_config WHERE name = 'PKGLIBDIR'"
_AMCHECK_AVAILABLE = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')"
_AMCHECK_OPTIONS = {
    AmcheckLevel.HEAP: ("--table=*.*", "--no-dependent-indexes"),
    AmcheckLevel.FULL: ("--heapallindexed", "--parent-check"),
}
_SUFFIXES = ("", ".so", ".dylib")
_INSTALL = "Install what is missing on the machine that the drill, or a recovery, runs on."


def look(server: LocalServer, record: BackupRecord, policy: DrillPolicy, preloaded: str) -> Iterator[Check]:
    """All checks in a running server, the cheap ones first.

    ``preloaded`` is what the cluster's own ``shared_preload_libraries`` says.
    """
    try:
        yield _identity(server, record)
        yield from _extensions(server, policy.extensions, preloaded)
    except SourceUnsuitable as error:
        yield Check("server", CheckStatus.FAILED, error.message, error.remedy)
        return
    for name, check in policy.checks:
        yield _own(server, name, check, record.snapshot.taken_at)
    yield from _amcheck(server, policy.amcheck)


def _identity(server: LocalServer, record: BackupRecord) -> Check:
    with _session(server) as session:
        ((system, in_recovery, lsn),) = session.execute(_IDENTITY).fetchall()
    wanted = record.snapshot.cluster.system_identifier
    if system != wanted:
        return Check("recovery", CheckStatus.FAILED, f"this is cluster {system}, and the backup is of {wanted}.")
    reached = LSN.parse(lsn)
    if in_recovery or reached < record.end_lsn:
        found = f"recovery stopped at {lsn}, and the backup is consistent from {record.end_lsn} on only."
        return Check("recovery", CheckStatus.FAILED, found)
    return Check("recovery", CheckStatus.OK, f"cluster {system} is consistent, recovered to {lsn}.")


def _extensions(server: LocalServer, wanted: Sequence[str], preloaded: str) -> Iterator[Check]:
    """One check on what the plan wants, one on what the cluster uses and this machine does not have."""
    lacking: defaultdict[str, list[str]] = defaultdict(list)
    installed: set[str] = set()
    with _session(server) as session:
        databases = [name for (name,) in session.execute(_DATABASES).fetchall()]
        ((folder, path),) = session.execute(_LIBRARY_PATH).fetchall()
    folders = [Path(entry.replace("$libdir", folder)) for entry in path.split(":") if entry]
    for name in _listed(preloaded):
        if not _is_there(name, folder, [Path(folder), Path(folder, "plugins"), *folders]):
            lacking[f"library {name}"].append("shared_preload_libraries")
    for database in databases:
        with _session(server, database) as session:
            found = session.execute(_EXTENSIONS).fetchall()
            libraries = [library for (library,) in session.execute(_LIBRARIES).fetchall()]
        installed |= {name for name, _ in found}
        for name, available in found:
            if not available:
                lacking[f"extension {name}"].append(f"database {database}")
        for library in libraries:
            if not _is_there(library, folder, folders):
                lacking[f"library {library}"].append(f"database {database}")
    if absent := sorted(set(wanted) - installed):
        found_text = f"no database has {_and(absent)}, which the plan wants."
        yield Check("extensions", CheckStatus.FAILED, found_text, "Is this the right backup, or the right plan?")
    else:
        yield Check("extensions", CheckStatus.OK, f"the databases have {_and(sorted(installed))}.")
    if lacking:
        missing = "; ".join(f"{what} (used by {_and(users)})" for what, users in lacking.items())
        yield Check("software", CheckStatus.FAILED, f"this machine lacks {missing}.", _INSTALL)
    else:
        yield Check("software", CheckStatus.OK, "this machine has every extension and library that is used.")


def _own(server: LocalServer, name: str, check: DrillCheck, taken_at: datetime) -> Check:
    try:
        return judge_value(name, check, _value(server, check), taken_at)
    except SourceUnsuitable as error:
        return Check(f"sql {name}", CheckStatus.FAILED, error.message, error.remedy)


def _value(server: LocalServer, check: DrillCheck) -> object:
    with _session(server, check.database) as session:
        session.execute(f"SET statement_timeout = {round(check.timeout.total_seconds() * 1000)}; {READABLE_TIMES}")
        session.execute("BEGIN READ ONLY")
        cursor = session.execute(check.sql)
        rows = cursor.fetchmany(2) if cursor.description else []
    if len(rows) != 1 or len(rows[0]) != 1:
        shape = "one row of several values" if len(rows) == 1 else "no row" if not rows else "several rows"
        raise SourceUnsuitable(f"the query gave {shape}, and one value is wanted.")
    return rows[0][0]


def _amcheck(server: LocalServer, level: AmcheckLevel) -> Iterator[Check]:
    if level is AmcheckLevel.OFF:
        return
    with _session(server) as session:
        ((available,),) = session.execute(_AMCHECK_AVAILABLE).fetchall()
    if not available:
        found = f"not checked: the programs in {server.binaries} have no extension amcheck."
        yield Check("amcheck", CheckStatus.WARNING, found, "Install PostgreSQL's contrib package there.")
        return
    try:
        server.run("pg_amcheck", "--all", "--install-missing", "--jobs=2", *_AMCHECK_OPTIONS[level])
    except SourceUnsuitable as error:
        yield Check("amcheck", CheckStatus.WARNING, f"not checked: {error.message}", error.remedy)
    except BackupGuardError as error:
        yield Check("amcheck", CheckStatus.FAILED, " ".join(error.message.split()), "Restore an older backup.")
    else:
        what = "every table" if level is AmcheckLevel.HEAP else "every table and B-tree index"
        yield Check("amcheck", CheckStatus.OK, f"pg_amcheck found {what} sound ({level.value}).")


@contextmanager
def _session(server: LocalServer, database: str = "postgres") -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """As the superuser, over the socket; raises :class:`SourceUnsuitable` with the server's own words."""
    try:
        with psycopg.Connection.connect(server.dsn(database), autocommit=True) as session:
            yield session
    except psycopg.Error as error:
        said = (error.diag.message_primary or str(error)).strip().splitlines()[-1]
        remedy = ""
        if isinstance(error, psycopg.OperationalError) and f'role "{server.superuser}"' in said:
            remedy = "Name a superuser of the cluster in the plan: DrillPolicy(superuser=…)."
        raise SourceUnsuitable(f"database {database}: {said}.", remedy=remedy) from error


def _listed(setting: str) -> list[str]:
    return [name for part in setting.split(",") if (name := part.strip().strip('"'))]


def _is_there(library: str, folder: str, folders: Iterable[Path]) -> bool:
    name = library.replace("$libdir", folder)
    places = [Path(name)] if "/" in name else [place / name for place in folders]
    return any(Path(f"{place}{suffix}").is_file() for place in places for suffix in _SUFFIXES)


def _and(names: Sequence[str]) -> str:
    shown = list(dict.fromkeys(names))
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown) or "no extension"
