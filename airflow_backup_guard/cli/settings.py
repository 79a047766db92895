"""Where the values of a command come from: options, then the plan file, then the environment."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

import attrs

from airflow_backup_guard.cli.errors import WrongUse
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.engine.identities import read_identities
from airflow_backup_guard.errors import InvalidPlan, RestoreRefused

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DSN = "BACKUP_GUARD_DSN"
LOAD_DSN = "BACKUP_GUARD_LOAD_DSN"
REPOSITORY = "BACKUP_GUARD_REPOSITORY"
DEFAULT_NAME = "default"
_CONNECTION = {"connection": "command-line"}  # a plan names one of Airflow's, and here is --dsn
_NOWHERE = "file:///nowhere"  # a plan names a repository, and nothing is opened there
_DEFAULTS = {**_CONNECTION, "name": DEFAULT_NAME, "calendar": {"windows": "daily 00:00-24:00", "tz": "UTC"}}
_OPTIONS = {
    "repository": "repository",
    "plan_name": "name",
    "max_rate": "max_rate",
    "min_rate": "min_rate",
    "checkpoint": "checkpoint",
    "level": "compression_level",
    "recipient": "recipients",
}


def dsn(arguments: argparse.Namespace) -> str:
    """How to reach the database."""
    given = arguments.dsn if arguments.dsn is not None else os.environ.get(DSN)
    if given is None:
        raise WrongUse(
            "No database is named.", remedy=f"Give --dsn, or set {DSN}, such as 'host=db.example user=guard'."
        )
    return _checked_dsn(given)


def load_dsn(arguments: argparse.Namespace) -> str | None:
    """How to reach the server whose load the limits are about, if that is another one."""
    given = arguments.load_dsn if arguments.load_dsn is not None else os.environ.get(LOAD_DSN)
    return None if given is None else _checked_dsn(given)


def _checked_dsn(given: str) -> str:
    # What names no database does without its client.
    from airflow_backup_guard.postgres.connection import parse_conninfo

    keywords = parse_conninfo(given)
    if "@" in keywords.get("host", "")[1:] or not re.fullmatch(r"[\d,]*", keywords.get("port", "")):
        # It may be the end of a password that is shown as the name of a host from here on.
        raise WrongUse(
            "The connection string has no proper host and port.",
            remedy="In a URI, write the characters @ : / of a password as %40 %3A %2F.",
        )
    return str(given)


def plan_with_load(arguments: argparse.Namespace) -> tuple[BackupPlan, str | None]:
    """:func:`plan` and :func:`load_dsn`; either both name the server whose load the limits are about, or none."""
    found, load = plan(arguments), load_dsn(arguments)
    if load is None and found.load_connection is not None:
        raise WrongUse(
            f"The plan's limits are about the load of {found.load_connection}, a connection of Airflow's.",
            remedy=f"Give --load-dsn, or set {LOAD_DSN}: how to connect there.",
        )
    if load is not None and found.load_connection is None:
        found = attrs.evolve(found, load_connection=_CONNECTION["connection"])
    return found, load


def plan_and_repository(arguments: argparse.Namespace) -> tuple[BackupPlan, str | None, str | None]:
    """The plan, the URL of its repository if one is named anywhere, and :func:`load_dsn`."""
    nowhere = arguments.plan is None and not (arguments.repository or os.environ.get(REPOSITORY))
    if nowhere:
        arguments.repository = _NOWHERE
    found, load = plan_with_load(arguments)
    return found, None if nowhere else found.repository, load


def plan(arguments: argparse.Namespace) -> BackupPlan:
    """The plan file with the options laid over it, or a plan made of the options alone."""
    options = {
        field: getattr(arguments, option) for option, field in _OPTIONS.items() if getattr(arguments, option, None)
    }
    path: Path | None = arguments.plan
    if path is None:
        repository = {"repository": os.environ.get(REPOSITORY, "")}
        values = {**_DEFAULTS, **repository, **options}
        if not values["repository"]:
            remedy = f"Give --repository, --plan FILE, or set {REPOSITORY}, such as file:///srv/backups."
            raise WrongUse("No repository is named.", remedy=remedy)
        return BackupPlan.from_dict(values)
    text, values = _read_toml(path)
    try:
        return BackupPlan.from_dict({**_CONNECTION, **values, **options})
    except InvalidPlan as error:
        if error.field in options:
            raise
        line = _line_of(text, error.field)
        raise InvalidPlan(f"{path}{line}, {error.field}", error.value, error.allowed) from error


def plan_name(arguments: argparse.Namespace, found: BackupPlan) -> str | None:
    """Whose backups are looked at: those of the plan that was named, or of all plans."""
    return found.name if arguments.plan is not None or arguments.plan_name is not None else None


def identities(path: Path | None) -> tuple[str, ...]:
    """The age secret keys in a file as ``age-keygen`` writes it."""
    if path is None:
        return ()
    try:
        return read_identities(path)
    except RestoreRefused as error:
        raise WrongUse(error.message, remedy=error.remedy) from error


def read_toml(path: Path, option: str) -> dict[str, Any]:
    """The content of a TOML file that ``option`` names."""
    try:
        values: dict[str, Any] = tomllib.loads(_read(path, option))
        return values
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise WrongUse(f"{path} is not TOML: {error}.", remedy=f"Correct {option}; see --help.") from error


def _read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    text = _read(path, "--plan")
    try:
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise WrongUse(
            f"{path} is not TOML: {error}.", remedy="See the example in backup-guard backup --help."
        ) from error


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise WrongUse(f"{path} cannot be read: {error.strerror}.", remedy=f"Correct {option}.") from error
    except UnicodeDecodeError as error:
        raise WrongUse(f"{path} cannot be read: it is not text in UTF-8.", remedy=f"Correct {option}.") from error


def _line_of(text: str, field: str) -> str:
    """Where a field such as ``limits.commit_latency`` is set, as ``, line 7``; empty if it is not in the file."""
    for name in reversed(re.findall(r"\w+", field)):
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(rf"\s*\[?\s*{re.escape(name)}\b", line):
                return f", line {number}"
    return ""
