"""A running backup in words: for a terminal, an alert, a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_backup_guard.core.backup import dump_plain, load_plain
from airflow_backup_guard.core.names import printable
from airflow_backup_guard.core.rogue import Owner, RunningBackup, Sighting
from airflow_backup_guard.core.signs import UNKNOWN_PROGRAM, Kind
from airflow_backup_guard.core.units import Rate, Size, whole_seconds

_OWNERS = {
    Owner.OURS: "ours",
    Owner.CLAIMED: "says it is ours, and may be: the repository at hand does not know of it",
    Owner.FOREIGN: "not ours",
}


def title(backup: RunningBackup) -> str:
    """``pg_basebackup (base backup)``."""
    if backup.program == UNKNOWN_PROGRAM:
        return f"{backup.kind.value} by an unknown program"
    return f"{backup.program} ({backup.kind.value})"


def origin(backup: RunningBackup) -> str:
    """Who started it and from where, as far as the server tells."""
    if not backup.pids:
        return "unknown"
    where = backup.client or ("the server's own socket" if backup.starts[0] else "an address that is hidden")
    name = f", as {backup.application_name}" if backup.application_name else ""
    database = f", database {backup.database}" if backup.database else ""
    return printable(f"role {backup.user or 'unknown'} from {where}{name}{database}")


def facts(backup: RunningBackup, at: datetime) -> Iterator[tuple[str, str]]:
    """What is known, each with its heading; ``at`` is the moment of the look."""
    whose = f"{_OWNERS[backup.owner]}, and allowed: {backup.allowed}" if backup.allowed else _OWNERS[backup.owner]
    yield "whose", whose
    yield "who", origin(backup)
    if backup.since is None:
        yield "since", "hidden"
    else:
        yield "since", f"{backup.since:%Y-%m-%d %H:%M:%S} UTC, {whole_seconds(max(at - backup.since, timedelta()))} ago"
    yield "speed", speed(backup)
    if backup.phase:
        yield "phase", backup.phase
    if backup.pids:
        yield "processes", ", ".join(map(str, backup.pids)) + " on the database server"
    yield "sure", f"{backup.certainty.value}: {'; '.join(backup.evidence)}"


def speed(backup: RunningBackup) -> str:
    """How far it is, and how fast it reads."""
    if backup.done is None:
        return "unknown: the server does not count what it reads"
    done = Size(backup.done)
    what = "of what it reads now" if backup.kind in (Kind.LOGICAL_DUMP, Kind.COPY_OUT) else "sent"
    far = f"{done} {what}"
    if backup.total:
        far = f"{done} of {Size(backup.total)} sent ({backup.done / backup.total:.0%})"
    if backup.rate is None:
        return far
    return f"{far}, nothing at all just now" if backup.rate < 1 else f"{far}, {Rate(backup.rate)} just now"


def how_to_stop(backup: RunningBackup, sighting: Sighting) -> Iterator[tuple[str, str]]:
    """What a person can do: a command or empty, and what it does or needs."""
    if backup.owner is Owner.OURS:
        yield f"backup-guard stop {backup.backup_id}", "ends it, and removes what it stored"
        return
    if not backup.pids:
        yield "", "ask who runs a backup on the server itself"
        return
    yield _end_statement(backup), "as SQL: ends it on the database, within a second"
    if backup.superuser and not sighting.superuser:
        yield "", "its role is a superuser, so that takes one, too"
    elif not sighting.may_end and not sighting.superuser:
        yield (
            "",
            f"that needs pg_signal_backend, which {sighting.role} lacks: GRANT pg_signal_backend TO {sighting.role}",
        )
    if backup.kind is Kind.SESSION:
        yield "", "that ends the backup for the database only: end the program that copies the files as well"
    where = backup.client or "the database server"
    yield "", f"it comes again unless its script is stopped: look at cron and systemd timers on {where}"


def _end_statement(backup: RunningBackup) -> str:
    return f"SELECT {', '.join(f'pg_terminate_backend({pid})' for pid in backup.pids)}"


def report(backup: RunningBackup, sighting: Sighting) -> str:
    """All about one backup, in lines."""
    lines = [f"{heading:10} {text}" for heading, text in facts(backup, sighting.at)]
    for command, does in how_to_stop(backup, sighting):
        lines.append(f"{'to stop it':10} {command}{' -- ' if command else ''}{does}")
    return "\n".join([title(backup), *lines])


def seen(sighting: Sighting) -> dict[str, Any]:
    """What a sensor saw, as plain values: ``rogues``, and a ``text``."""
    rogues = sighting.rogues
    text = "; ".join(f"{title(backup)} by {origin(backup)}" for backup in rogues)
    return {
        "gate": "rogue backup",
        "opened": bool(rogues),
        "rogues": [plain(backup) for backup in rogues],
        "text": text or "no backup runs that is neither ours nor allowed",
    }


def plain(backup: RunningBackup) -> dict[str, Any]:
    """All about one backup as plain values, for XCom and JSON, with a ``title``."""
    return {**dump_plain(backup), "title": title(backup)}


def from_plain(values: Mapping[str, Any]) -> RunningBackup:
    """Read back what :func:`plain` wrote."""
    return load_plain(RunningBackup, {name: value for name, value in values.items() if name != "title"})
