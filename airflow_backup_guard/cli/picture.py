"""Writes the pictures that commands draw."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.cli.errors import WrongUse


def write_picture(path: Path, svg: str) -> str:
    """Write it, and say where it is."""
    try:
        path.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise WrongUse(f"{path} cannot be written: {error.strerror}.", remedy="Correct --picture.") from error
    return f"The picture is in {path}."
