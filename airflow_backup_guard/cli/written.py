"""Writes what commands make for people: pictures, reports, runbooks."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.cli.errors import WrongUse


def write_file(option: str, path: Path, text: str, what: str) -> str:
    """Write what ``option`` asked for, and say where ``what`` it is now is."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongUse(
            f"{option} {path} cannot be written: {error.strerror}.", remedy="Choose another file."
        ) from error
    return f"The {what} is in {path}."
