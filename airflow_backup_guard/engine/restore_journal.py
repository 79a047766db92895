"""What a restore notes in its target while it runs, so that another can go on where it was cut off."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_backup_guard.core.backup import BackupRecord, Tablespace

JOURNAL_FILE = ".backup-guard-restored"
_FORMAT = 1


@dataclass(frozen=True)
class Aim:
    """What a restore writes, and how: one goes on only where all of it is the same.

    ``parts`` is a digest of what the record says is stored; ``tablespaces`` maps locations of then to those of now;
    ``user`` is the number of whoever owns the files.
    """

    plan_name: str
    backup_id: str
    parts: str
    tablespaces: dict[str, str]
    user: int

    @classmethod
    def of(cls, record: BackupRecord, locations: Mapping[Tablespace, Path], user: int) -> Aim:
        """The aim of a restore of ``record``."""
        parts = hashlib.sha256("".join(f"{p.key}\0{p.sha256}\0" for p in record.parts).encode()).hexdigest()
        tablespaces = {t.location: str(location) for t, location in locations.items()}
        return cls(record.plan_name, record.backup_id, parts, tablespaces, user)

    def difference(self, other: Aim) -> str:
        """How ``other``, which was there first, differs from this one, in words; empty if it does not."""
        if (self.plan_name, self.backup_id) != (other.plan_name, other.backup_id):
            return f"of backup {other.backup_id} of plan {other.plan_name}"
        if self.parts != other.parts:
            return "of a backup of the same id and other content"
        if self.tablespaces != other.tablespaces:
            return f"with tablespaces elsewhere: {other.tablespaces}"
        if self.user != other.user:
            return f"for another owner, user {other.user}"
        return ""


@dataclass(frozen=True)
class Finished:
    """One part that was written to its end: ``sha256`` of a WAL segment's content, or what an archive had beside files.

    ``folders`` are the paths of its directories; ``control_file`` is what it had of PostgreSQL's, which comes last.
    """

    key: str
    sha256: str = ""
    folders: tuple[str, ...] = ()
    control_file: bytes = b""


class Journal:
    """The journal of one target: its first line says whose it is, and each other one names a part that was finished.

    ``token`` is what all claims of the same restore hold. Usable by several threads.
    """

    def __init__(self, path: Path, token: str, aim: Aim, finished: dict[str, Finished], file: int) -> None:
        self.token = token
        self.aim = aim
        self.finished = finished
        self._path = path
        self._file = file
        self._whole = 0
        self._lock = threading.Lock()

    @classmethod
    def begin(cls, folder: Path, token: str, aim: Aim) -> Journal:
        """A new one, on the disk before anything else is written. One that was cut off in its first line goes."""
        path = folder / JOURNAL_FILE
        path.unlink(missing_ok=True)
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        journal = cls(path, token, aim, {}, file)
        journal._append({"format": _FORMAT, "token": token, "aim": asdict(aim)})
        os.fsync(file)
        return journal

    @classmethod
    def left(cls, folder: Path) -> Journal | None:
        """The one that a restore left in ``folder``, as yet only read; None if there is none that can be read."""
        path = folder / JOURNAL_FILE
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        lines = path.read_bytes().splitlines(keepends=True)
        whole = 0
        try:
            header = json.loads(lines[0])
            if header["format"] != _FORMAT:
                raise ValueError(header["format"])
            aim = Aim(**header["aim"])
            token = str(header["token"])
        except (ValueError, KeyError, TypeError, IndexError):
            os.close(file)
            return None
        finished = {}
        for line in lines:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if not isinstance(entry, dict):
                break  # cut off within a line: what follows the last whole one never happened
            whole += len(line)
            if "key" in entry:
                finished[entry["key"]] = _finished(entry)
        journal = cls(path, token, aim, finished, file)
        journal._whole = whole
        return journal

    def go_on(self) -> None:
        """Have what is noted from now on follow the last whole line. Until this is called nothing is changed."""
        os.ftruncate(self._file, self._whole)

    def note(self, part: Finished, *, durable: bool) -> None:
        """A part is written. ``durable`` has the note on the disk, and with it modes and owners of what it tells of."""
        entry = {"key": part.key, "sha256": part.sha256, "folders": [*part.folders]}
        self._append({**entry, "control_file": base64.b64encode(part.control_file).decode()})
        if durable:
            os.fsync(self._file)

    def close(self) -> None:
        """Leave it to whoever goes on. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """Nothing is to be gone on with."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _append(self, entry: dict[str, Any]) -> None:
        with self._lock:
            os.write(self._file, json.dumps(entry).encode() + b"\n")


def _finished(entry: dict[str, Any]) -> Finished:
    return Finished(
        entry["key"], entry["sha256"], tuple(entry["folders"]), base64.b64decode(entry["control_file"], validate=True)
    )
