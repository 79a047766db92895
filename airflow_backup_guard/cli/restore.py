"""``backup-guard restore``: from the repository to a data directory, and how to start it."""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shlex
import sys
import time
from dataclasses import asdict
from datetime import timezone
from pathlib import Path

from rich.console import RenderableType

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, Command, duration, lines
from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.cli.progress import byte_progress
from airflow_backup_guard.cli.signals import stop_on_signals
from airflow_backup_guard.core.units import Rate, Size, parse_duration
from airflow_backup_guard.engine.choice import LATEST, choose, parse_moment
from airflow_backup_guard.engine.member_writer import Owner
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.postgres.binaries import find_binaries
from airflow_backup_guard.postgres.start import start_server
from airflow_backup_guard.repository.open import open_repository


def run(arguments: argparse.Namespace) -> Answer:
    """Restore one backup into an empty folder, and start PostgreSQL on it if that is wanted."""
    target = arguments.to.absolute()
    owner, why = _owner(arguments.owner, target)
    tablespaces = dict(map(_mapping, arguments.tablespace_mapping))
    identities = settings.identities(arguments.identity)
    before = parse_moment(arguments.before, "--before") if arguments.before is not None else None
    if before is not None and arguments.backup_id != LATEST:
        raise WrongUse("--before and a backup's id exclude each other.", remedy="Give one of them.")
    max_rate = Rate.parse(arguments.read_rate, "--max-rate") if arguments.read_rate else None
    start_timeout = parse_duration(arguments.start_timeout, "--start-timeout")
    plan = settings.plan(arguments)
    repository = open_repository(plan.repository)
    choice = choose(repository, arguments.backup_id, settings.plan_name(arguments, plan), before=before)
    record = choice.record
    major = record.snapshot.cluster.major
    binaries = _binaries(arguments, major)
    if not identities and any(part.key.endswith(".age") for part in record.parts):
        raise WrongUse(
            f"Backup {record.backup_id} is encrypted.", remedy="Give --identity FILE with its age secret key."
        )
    began = time.monotonic()
    with stop_on_signals() as stop, byte_progress("restoring") as show:
        restored = restore(
            record,
            repository,
            target,
            tablespaces=tablespaces,
            identities=identities,
            owner=owner,
            max_rate=max_rate,
            resume=arguments.resume,
            stop=stop,
            on_progress=show,
        )
    seconds = time.monotonic() - began
    started = None
    if binaries is not None:
        print("starting PostgreSQL on it, and waiting for its recovery", file=sys.stderr)
        started = start_server(
            target,
            binaries,
            port=arguments.port,
            timeout=max(1, round(start_timeout.total_seconds())),
        )
    user = started.user if started else _user_name(owner.user if owner else os.geteuid())
    warnings = [
        *choice.warnings,
        *(warning for warning in record.snapshot.warnings if warning.startswith("configuration files")),
    ]
    start = f"pg_ctl -D {shlex.quote(str(target))} start"
    document = {
        "backup_id": record.backup_id,
        "plan_name": record.plan_name,
        "target": str(target),
        "owner": user,
        "seconds": round(seconds, 3),
        "read_size": restored.read,
        "kept_size": restored.kept,
        "postgresql_major": major,
        "start": start,
        "warnings": warnings,
        "ended_at": record.ended_at.isoformat(),
        "started": None if started is None else {**asdict(started), "log": str(started.log)},
    }
    text: list[RenderableType] = [
        f"Backup {record.backup_id} of plan {record.plan_name} is restored to {target}.",
        "",
        lines(
            [
                ["state", f"as it was at {record.ended_at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"],
                ["size", f"{Size(record.database_size)} in {duration(seconds)}, each file checked as it was written"],
                *(
                    [["resumed", f"{Size(restored.kept)} of files and WAL stood already, and are right"]]
                    if restored.kept
                    else []
                ),
                ["owner", f"{user}, {why}"],
                *(["warning", warning] for warning in warnings),
            ]
        ),
        "",
    ]
    if started is not None:
        text += [
            f"PostgreSQL {major} runs on it as {user}, port {started.port} of {started.host}. It archives nothing and "
            f"follows nobody; its log is {started.log}. To stop it:",
            Command(f"  {started.stop}"),
            f"To run it with the settings of the original, stop it first. {_settings_note(target)} Then, as {user}:",
            Command(f"  {start}"),
        ]
        return Answer(document, text)
    text += [
        f"To start it takes PostgreSQL {major}. {_settings_note(target)}",
    ]
    if user == "root":
        places = [target, *(tablespaces.get(t.location, Path(t.location)) for t in record.tablespaces)]
        text += [
            "PostgreSQL does not run as root, so give the files to the user that it shall run as:",
            Command(f"  chown -R USER: {' '.join(shlex.quote(str(place)) for place in places)}"),
        ]
    return Answer(document, [*text, f"Then, as {'USER' if user == 'root' else user}:", Command(f"  {start}")])


def _binaries(arguments: argparse.Namespace, major: int) -> Path | None:
    """The programs to start, found before hours of restoring; None if nothing is to be started."""
    if not arguments.start:
        return None
    if not 1 <= arguments.port <= 65535:
        raise WrongUse(f"--port {arguments.port} is no port.", remedy="Give a free one, from 1024 to 65535.")
    binaries: Path = arguments.binaries or find_binaries(major)
    if not (binaries / "pg_ctl").exists():
        raise WrongUse(f"{binaries} has no pg_ctl.", remedy="Give the bin folder of PostgreSQL's server programs.")
    return binaries.absolute()


def _owner(given: str | None, target: Path) -> tuple[Owner | None, str]:
    """Whom the files shall belong to, None for whoever runs this, and why."""
    account = _account(given) if given is not None else None
    if os.geteuid() != 0:
        if account is not None and account.pw_uid != os.geteuid():
            raise WrongUse(
                f"--owner {given}: only root can give files to another user.",
                remedy="Run this as root, or as that user without --owner.",
            )
        return None, "who ran this"
    if account is not None:
        return Owner(account.pw_uid, account.pw_gid), "as --owner says"
    if target.exists():
        status = target.stat()
        return Owner(status.st_uid, status.st_gid), f"as {target} did before"
    return None, "as --owner names nobody else"


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        raise WrongUse(f"--owner {name}: there is no such user here.", remedy="Give a user's name or number.") from None


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _mapping(text: str) -> tuple[str, Path]:
    # As pg_basebackup reads it: an = within a path has a backslash before it.
    parts = [part.replace("\\=", "=") for part in re.split(r"(?<!\\)=", text)]
    if len(parts) != 2 or not all(part.startswith("/") for part in parts):
        raise WrongUse(
            f"--tablespace-mapping {text} is not OLD=NEW.",
            remedy="Give two absolute paths, such as /old/space=/new/space; write = within a path as \\=.",
        )
    return parts[0], Path(parts[1])


def _settings_note(target: Path) -> str:
    settings = target / "postgresql.conf"
    if settings.exists():
        return f"It has the settings of the original, its port and its archiving among them: see {settings} first."
    return f"The original kept its settings elsewhere, so {settings} is missing: put one there first."
