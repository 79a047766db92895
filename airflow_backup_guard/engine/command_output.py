"""Where the stdout of a paced command goes: a file that appears once it is whole, or an open file."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from airflow_backup_guard.errors import InvalidPlan
from airflow_backup_guard.repository.base import ObjectWriter
from airflow_backup_guard.repository.local import LocalRepository


def file_output(path: str) -> ObjectWriter:
    """Into a file, which takes the place of an older one once the command has succeeded, and not before."""
    file = Path(path).absolute()
    if not file.parent.is_dir() or file.is_dir() or not file.name or file.name.startswith("."):
        raise InvalidPlan("output", path, "the path of a file in a folder that is there, not a hidden one")
    return LocalRepository(file.parent).writer(file.name)


class StreamOutput:
    """Into what is open already, such as stdout: what was written stays written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Append."""
        self._stream.write(data)

    def commit(self) -> None:
        """All of it is on its way."""
        self._stream.flush()

    def abort(self) -> None:
        """What is written cannot be taken back."""
