"""Writes what commands make for people: pictures, reports, runbooks."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.cli.errors import WrongUse


def write_file(path: Path, text: str, what: str) -> str:
    """Write it, and say where ``what`` it is now is."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongUse(f"{path} cannot be written: {error.strerror}.", remedy="Choose another file.") from error
    return f"The {what} is in {path}."
