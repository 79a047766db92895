"""PostgreSQL's own backup_manifest: what files a base backup has, and what they must look like.

Format: "Backup Manifest Format" in PostgreSQL's documentation, versions 1 (up to 16) and 2 (17 and newer).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from airflow_backup_guard.core.backup import StoredPart
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import BackupDamaged

# Nothing may follow the checksum: JSON would take a second "Files" after it for the real one.
_CHECKSUM_LINE = re.compile(rb'"Manifest-Checksum":\s*"[0-9a-f]{64}"\s*\}\s*\Z')
_LARGEST = 1 << 30
_ALGORITHMS = (None, "CRC32C", "SHA224", "SHA256", "SHA384", "SHA512")


@dataclass(frozen=True)
class ManifestFile:
    """One file: ``size`` in bytes; ``checksum`` is hex of ``algorithm`` (CRC32C or SHA…), or None."""

    size: int
    algorithm: str | None
    checksum: str | None


@dataclass(frozen=True)
class WalRange:
    """WAL that recovery from the backup needs: ``start`` up to ``end`` on ``timeline``."""

    timeline: int
    start: LSN
    end: LSN


@dataclass(frozen=True)
class BackupManifest:
    """The manifest, its own checksum already found right; ``system_identifier`` is there from version 2 on."""

    files: dict[str, ManifestFile]
    wal_ranges: tuple[WalRange, ...]
    system_identifier: str | None


def bound_of(part: StoredPart) -> int:
    """How many bytes of a part may be read: what its record says, and of a manifest, which is read into memory, no more
    than PostgreSQL's own tools up to version 16 could."""
    return min(part.content_size, _LARGEST) if part.kind == "manifest" else part.content_size


def parse_manifest(data: bytes) -> BackupManifest:
    """Read a backup_manifest; raises :class:`BackupDamaged` if it is not whole, not valid or of a newer version."""
    last_line = _CHECKSUM_LINE.search(data)
    if last_line is None:
        raise _damaged("it does not end with a checksum of its own")
    try:
        document = json.loads(data)
        expected = document["Manifest-Checksum"]
        if hashlib.sha256(data[: last_line.start()]).hexdigest() != expected:
            raise _damaged("its content does not match its own checksum")
        if document["PostgreSQL-Backup-Manifest-Version"] not in (1, 2):
            raise _damaged(f"version {document['PostgreSQL-Backup-Manifest-Version']} is not known to this release")
        return BackupManifest(
            files={_path(entry): _file(entry) for entry in document["Files"]},
            wal_ranges=tuple(
                WalRange(entry["Timeline"], LSN.parse(entry["Start-LSN"]), LSN.parse(entry["End-LSN"]))
                for entry in document["WAL-Ranges"]
            ),
            system_identifier=str(document["System-Identifier"]) if "System-Identifier" in document else None,
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged(f"it cannot be read: {error!r}") from error


def _path(entry: dict[str, Any]) -> str:
    if "Encoded-Path" in entry:
        # Tar member names are decoded the same way, so that both agree on bytes that are not UTF-8.
        return bytes.fromhex(entry["Encoded-Path"]).decode("utf-8", "surrogateescape")
    return str(entry["Path"])


def _file(entry: dict[str, Any]) -> ManifestFile:
    algorithm = entry.get("Checksum-Algorithm")
    if algorithm not in _ALGORITHMS:
        raise ValueError(f"checksum algorithm {algorithm} is not known to this release")
    return ManifestFile(int(entry["Size"]), algorithm, entry.get("Checksum"))


def _damaged(why: str) -> BackupDamaged:
    return BackupDamaged(f"backup_manifest: {why}.", remedy="Use another backup; this one cannot be trusted.")
