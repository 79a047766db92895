"""What a restore that goes on finds in its target: nothing of anybody else, and which parts stand as they should."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from airflow_backup_guard.core.backup import StoredPart
from airflow_backup_guard.core.manifest import BackupManifest, ManifestFile
from airflow_backup_guard.engine.archive import CONTROL_FILE, archive_of, digest_of
from airflow_backup_guard.engine.restore_journal import JOURNAL_FILE, Aim, Finished, Journal
from airflow_backup_guard.engine.target import CLAIM_FILE
from airflow_backup_guard.errors import RestoreRefused

_CHUNK = 1 << 20
_SERVER_FILES = (CONTROL_FILE, "postmaster.pid")
WRITTEN_LAST = ("backup_manifest", "tablespace_map")


@dataclass(frozen=True)
class Places:
    """Where a backup goes: the data directory, and its tablespaces by OID."""

    target: Path
    tablespaces: Mapping[str, Path]

    def folders(self) -> dict[Path, str]:
        """Each folder, and what the paths of the manifest have before the names in it."""
        return {self.target: "", **{folder: f"pg_tblspc/{oid}/" for oid, folder in self.tablespaces.items()}}


def left_journal(places: Places, tokens: Mapping[Path, str], aim: Aim) -> Journal | None:
    """The journal to go on with, of those who left the claims with ``tokens``; None if they had written nothing yet.

    Raises :class:`RestoreRefused` where a server has used the folder, or it is not what this restore would have left.
    """
    for name in _SERVER_FILES:
        if os.path.lexists(places.target / name):
            raise RestoreRefused(
                f"{places.target} has {name}: a restore had ended there, or a server has used it since.",
                remedy="Give another folder, or remove this one and restore again.",
            )
    journal = Journal.left(places.target) if places.target in tokens else None
    if journal is None:
        for folder in tokens:
            if {path.name for path in folder.iterdir()} - {CLAIM_FILE, JOURNAL_FILE}:
                _refuse(folder, "and its account of what it had written is not there, so it cannot go on")
        return None
    try:
        if difference := aim.difference(journal.aim):
            _refuse(
                places.target,
                f"{difference}, so this one cannot go on with it",
                "Resume with what that one was given (a backup's id rather than latest), or remove the folder.",
            )
        for folder, token in tokens.items():
            if token != journal.token:
                _refuse(folder, f"which is not the one that left {places.target}")
    except BaseException:
        journal.close()
        raise
    return journal


def survey(places: Places, manifest: BackupManifest, wal: set[str]) -> set[str]:
    """The paths of the files that are there, as the manifest names them; ``wal`` has the names of the segments.

    Raises :class:`RestoreRefused` for anything that the restore of this backup would not have written.
    """
    known = {*manifest.files, *WRITTEN_LAST, *(f"pg_wal/{name}" for name in wal)}
    links = {f"pg_tblspc/{oid}": str(folder) for oid, folder in places.tablespaces.items()}
    found = set()
    for folder, prefix in places.folders().items():
        for path in _entries(folder):
            name = prefix + str(path.relative_to(folder))
            if name in (prefix + CLAIM_FILE, JOURNAL_FILE):
                continue
            if path.is_symlink():
                ours = links.get(name) == str(path.readlink())
            elif path.is_dir():
                ours = name not in links
            else:
                ours = path.is_file() and name in known
                found.add(name)
            if not ours:
                _refuse(
                    folder, f"and {path}, which is not of the backup", "Move that away and resume; nothing was changed."
                )
    return found


def files_of(part: StoredPart, manifest: BackupManifest) -> list[str]:
    """The paths of the files that a part holds, as the manifest names them."""
    if part.kind == "wal":
        return [f"pg_wal/{part.name}"]
    return [path for path in manifest.files if archive_of(path) == part.name]


def stands(
    places: Places,
    expected: Mapping[str, ManifestFile],
    finished: Finished,
    keep_going: Callable[[], None],
) -> bool:
    """Whether all that a part wrote is there and right, by reading it; ``expected`` are its files but those left out.

    A file whose checksum nobody kept counts as wrong. ``keep_going`` is called often, and may raise to end it.
    """
    if not all((places.target / folder).is_dir() for folder in finished.folders):
        return False
    return all(_is_right(places.target / path, file, keep_going) for path, file in expected.items())


def segment(finished: Finished, size: int) -> ManifestFile:
    """What a WAL segment must look like: no manifest has it, so it is what was noted when it was written."""
    return ManifestFile(size, "SHA256", finished.sha256)


def control_file_is_right(content: bytes, expected: ManifestFile | None) -> bool:
    """Whether a control file from a journal is the one of the manifest."""
    digest = digest_of(expected)
    if digest is None or expected is None:
        return False
    digest.update(content)
    return len(content) == expected.size and digest.hexdigest() == expected.checksum


def _is_right(path: Path, expected: ManifestFile, keep_going: Callable[[], None]) -> bool:
    digest = digest_of(expected)
    if digest is None or not path.is_file() or path.stat().st_size != expected.size:
        return False
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            keep_going()
            digest.update(chunk)
    return digest.hexdigest() == expected.checksum


def _entries(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error  # what cannot be looked at is not known to be ours

    for parent, folders, files in os.walk(folder, onerror=fail):
        for name in (*folders, *files):
            yield Path(parent, name)


def _refuse(
    folder: Path, why: str, remedy: str = "Remove the folder, or all that is in it, and restore again."
) -> NoReturn:
    raise RestoreRefused(f"{folder} holds what is left of a restore {why}.", remedy=remedy)
