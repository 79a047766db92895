"""What an attacker makes: tar members that no library would write, mutated bytes, JSON with values out of place."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import zstandard
from hypothesis import strategies as st

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord, StoredPart, Tablespace
from airflow_backup_guard.core.manifest import BackupManifest
from airflow_backup_guard.engine.archive import ArchiveReader
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.stored import store_backup

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
OID = 16385
IN_TABLESPACE = "PG_18_202506291"
SEGMENT = f"{1:024X}"


# tar, by hand: what tarfile refuses to write is what is wanted


def number(value: int, width: int) -> bytes:
    """A number of a tar header: octal, or in base 256 where that is too narrow or it is negative."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    sign = b"\x80" if value >= 0 else b"\xff"
    return sign + (value % 256 ** (width - 1)).to_bytes(width - 1, "big")


def member(
    name: str,
    content: bytes = b"",
    *,
    kind: bytes = b"0",
    link: str = "",
    size: int | None = None,
    mode: int = 0o600,
    mtime: int = 0,
) -> bytes:
    """One member; ``size`` is what its header claims."""
    claimed = len(content) if size is None else size
    header = bytearray(512)
    header[0:100] = name.encode("utf-8", "surrogateescape")[:100].ljust(100, b"\0")
    header[100:108] = number(mode, 8)
    header[108:116] = header[116:124] = number(0, 8)
    header[124:136] = number(claimed, 12)
    header[136:148] = number(mtime, 12)
    header[156:157] = kind
    header[157:257] = link.encode()[:100].ljust(100, b"\0")
    header[257:265] = b"ustar\x0000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512)


def tar(*members: bytes) -> bytes:
    """An archive of these."""
    return b"".join(members) + bytes(1024)


def pax(values: dict[str, str], kind: bytes = b"x") -> bytes:
    """A PAX header, which says something else of the member after it (``x``), or of all (``g``)."""
    lines = []
    for key, value in values.items():
        line = f" {key}={value}\n".encode()
        length = len(line) + 1
        while length != len(line) + len(str(length)):
            length = len(line) + len(str(length))
        lines.append(str(length).encode() + line)
    return member("pax", b"".join(lines), kind=kind)


# A whole backup, small, of which anything may be changed


def files_of(name: str, archive: bytes) -> dict[str, bytes]:
    """What an archive holds, up to where it is refused. By our own reader: Python's may be led round in circles."""
    found: dict[str, bytes] = {}
    reader = ArchiveReader(BackupManifest({}, (), None), name)
    with suppress(BackupGuardError):
        for at in range(0, len(archive), 1 << 16):
            for piece in reader.feed(archive[at : at + (1 << 16)]):
                if not piece.member.is_folder:
                    before = found.get(piece.member.path, b"") if piece.offset else b""
                    found[piece.member.path] = before + piece.content
    return found


def sealed(document: Any) -> bytes:
    """JSON with the checksum that a backup_manifest has of itself: the attacker can compute it, too."""
    text = json.dumps(document).encode()
    assert text.endswith(b"}")
    start = (text[:-1].rstrip() + (b",\n" if len(document) else b"\n")) if isinstance(document, dict) else text
    return start + b'"Manifest-Checksum": "' + hashlib.sha256(start).hexdigest().encode() + b'"}\n'


def manifest_of(files: dict[str, bytes]) -> dict[str, Any]:
    """The manifest that fits, without its own checksum."""
    return {
        "PostgreSQL-Backup-Manifest-Version": 2,
        "System-Identifier": 7711315783694543489,
        "Files": [
            {
                "Path": path,
                "Size": len(content),
                "Last-Modified": "2026-01-02 03:04:05 GMT",
                "Checksum-Algorithm": "SHA256",
                "Checksum": hashlib.sha256(content).hexdigest(),
            }
            for path, content in files.items()
            if max(path, default="") < "\udc00"
        ],
        "WAL-Ranges": [{"Timeline": 1, "Start-LSN": "0/17D51B8", "End-LSN": "0/17D51B8"}],
    }


BASE = tar(
    member("./", kind=b"5", mode=0o700),
    member("backup_label", b"START WAL LOCATION"),
    member("base", kind=b"5", mode=0o700),
    member("base/1", b"page" * 3000),
    member("pg_wal", kind=b"5", mode=0o700),
    member("pg_tblspc", kind=b"5", mode=0o700),
    member("global", kind=b"5", mode=0o700),
    member("global/pg_control", (7711315783694543489).to_bytes(8, "little") + bytes(8184)),
)
SPACE = tar(member(IN_TABLESPACE, kind=b"5", mode=0o700), member(f"{IN_TABLESPACE}/1", b"row" * 99))
WAL = struct.pack("<HHIQI4xQII", 0xD118, 2, 1, 1 << 24, 0, 7711315783694543489, 1 << 24, 8192) + bytes(9000)


class Hostile:
    """A backup in a repository of its own, with whatever content and record are wanted."""

    def __init__(self, location: Path) -> None:
        self.repository = MemoryRepository()
        record = store_backup(self.repository, NOW, verdict=None, segments=0)
        self.repository.delete_all(part.key for part in record.parts)
        space = Tablespace(OID, "fast", str(location), 0)
        self.record: BackupRecord = replace(record, tablespaces=(space,))

    def fill(
        self, base: bytes = BASE, space: bytes = SPACE, wal: bytes = WAL, manifest: bytes | None = None
    ) -> BackupRecord:
        """Store this content, encoded as it should be, and the record that fits it; the manifest fits, too, unless one
        is given."""
        files = {**files_of("base", base), **files_of(str(OID), space)}
        manifest = sealed(manifest_of(files)) if manifest is None else manifest
        parts = [
            self.part("archive", "base", "base.tar", base),
            self.part("archive", str(OID), f"{OID}.tar", space),
            self.part("manifest", "backup_manifest", "backup_manifest", manifest),
            self.part("wal", SEGMENT, f"wal/{SEGMENT}", wal),
        ]
        self.store(replace(self.record, parts=tuple(parts)))
        return self.record

    def part(self, kind: str, name: str, path: str, content: bytes) -> StoredPart:
        """Store one part."""
        prefix = backup.parts_prefix(self.record.plan_name, self.record.backup_id)
        stored = self.repository.put(f"{prefix}{path}.zst", zstandard.compress(content, 1))
        return StoredPart(kind, name, stored.key, stored.size, stored.sha256, len(content))

    def store(self, record: BackupRecord) -> None:
        """Make it the record."""
        self.record = record
        self.repository.put(self.key, backup.dump(record))

    @property
    def key(self) -> str:
        """Where the record lies."""
        return backup.record_key(self.record.plan_name, self.record.backup_id)


# Strategies

NAMES = ["base/2", "base", "a", "./a//b", ".", "", "pg_wal/x", "pg_tblspc", f"{IN_TABLESPACE}/2", "a" * 99]
ATTACKS = [
    "../escaped",
    "../../escaped",
    "base/../../escaped",
    "{outside}/escaped",
    "//{outside}/escaped",
    "pg_tblspc/16385/escaped",
    "pg_tblspc/16385",
    "pg_tblspc/16386/x",
    "pg_wal/../../escaped",
    ".backup-guard-restore",
    ".backup-guard-restored",
    "backup_manifest",
    "postmaster.pid",
    "link/escaped",
    "a\n\x1b[31mb",
    "\udcff\udcfe",
]
KINDS = [b"0", b"\0", b"5", b"1", b"2", b"3", b"4", b"6", b"7", b"L", b"K", b"S", b"x", b"g", b"X", b"V", b"?"]
SIZES = [None, 0, 1, 511, 513, 1 << 20, 1 << 33, 1 << 63, 1 << 70, -1, -512, -(1 << 40)]
TIMES = [0, 1_717_268_400, -1, 1 << 33, 1 << 62, 1 << 80, -(1 << 80)]


def members(outside: Path) -> st.SearchStrategy[bytes]:
    """One member, in whatever way it is wrong."""
    names = st.sampled_from([name.replace("{outside}", str(outside)) for name in (*NAMES, *ATTACKS)])
    plain = st.builds(
        member,
        names,
        st.binary(max_size=1200),
        kind=st.sampled_from(KINDS),
        link=names.map(lambda name: name.encode("utf-8", "replace").decode()),
        size=st.sampled_from(SIZES),
        mode=st.sampled_from([0o600, 0o777, 0o6777, 0, 0o7777777]),
        mtime=st.sampled_from(TIMES),
    )
    values = st.dictionaries(
        st.sampled_from(["path", "linkpath", "size", "mtime", "GNU.sparse.map", "GNU.sparse.major", "hdrcharset"]),
        st.sampled_from(["../escaped", f"{outside}/escaped", "-1", "99999999999999999999", "1", "", "0,1,2"]),
        max_size=3,
    )
    return plain | st.builds(pax, values, st.sampled_from([b"x", b"g"]))


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """Some bytes changed, cut out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        end = min(len(changed), at + draw(st.sampled_from([1, 1, 1, 4, 512])))
        match draw(st.sampled_from(["change", "change", "cut", "double", "put in"])):
            case "change" if at < len(changed):
                changed[at] = draw(st.integers(0, 255))
            case "cut":
                del changed[at:end]
            case "double":
                changed[at:at] = changed[at:end]
            case _:
                changed[at:at] = draw(st.binary(max_size=20))
    return bytes(changed)


VALUES = st.sampled_from(
    [
        *[None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**300, 0.5, -0.5, 1e308, float("inf"), float("nan")],
        *["", "0", "-1", "1e999", "0/0", "FFFFFFFF/FFFFFFFF", "latest", "shop", "../../escaped", "/escaped"],
        *["pg_tblspc/../../escaped", "a\0b", "\x1b[31m", "a" * 3000, "base", "16385", "2026-01-02T03:04:05"],
        *["9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00Z", "20MB/s", "-1MB/s", "1e400MB/s", "1d", "99999999999d"],
        *[[], {}, [[]], [None], {"": None}, [{"Path": "x", "Size": "y"}]],
    ]
)


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A few values of a JSON document replaced, removed or exchanged, wherever they are."""
    result = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places: list[tuple[Any, Any]] = []
        pending = [result]
        while pending:
            at = pending.pop()
            items = list(at.items()) if isinstance(at, dict) else list(enumerate(at)) if isinstance(at, list) else []
            places += [(at, key) for key, _ in items]
            pending += [value for _, value in items]
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "replace", "remove", "rename", "exchange"])):
            case "remove":
                del container[key]
            case "rename" if isinstance(container, dict):
                container[draw(st.sampled_from(["", "name", "format", "Path", "Encoded-Path"]))] = container.pop(key)
            case "exchange":
                other, place = draw(st.sampled_from(places))
                container[key] = copy.deepcopy(other[place]) if place in other or isinstance(other, list) else None
            case _:
                container[key] = copy.deepcopy(draw(VALUES))
    return result
