"""PostgreSQL's backup_manifest, in both versions: whole ones are read, all others refused."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core.manifest import BackupManifest, ManifestFile, WalRange, parse_manifest
from airflow_backup_guard.core.wal import LSN
from airflow_backup_guard.errors import BackupDamaged

FILES = """{ "Path": "backup_label", "Size": 225, "Last-Modified": "2024-06-01 19:00:00 GMT", \
"Checksum-Algorithm": "CRC32C", "Checksum": "e3069283" },
{ "Path": "base/5/1259", "Size": 114688, "Last-Modified": "2024-06-01 18:59:58 GMT" },
{ "Encoded-Path": "6a6f757266fc7868", "Size": 0, "Last-Modified": "2024-06-01 18:59:59 GMT", \
"Checksum-Algorithm": "SHA256", "Checksum": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }"""
RANGES = '{ "Timeline": 3, "Start-LSN": "16/B3000028", "End-LSN": "16/B3000100" }'


def written(*, version: str = "1", files: str = FILES, ranges: str = RANGES, identifier: str = "") -> bytes:
    """A manifest laid out as PostgreSQL does, with the right checksum of its own at the end."""
    text = (
        f'{{ "PostgreSQL-Backup-Manifest-Version": {version},\n{identifier}"Files": [\n{files}\n],\n'
        f'"WAL-Ranges": [\n{ranges}\n],\n'
    ).encode()
    return text + b'"Manifest-Checksum": "%s"}\n' % hashlib.sha256(text).hexdigest().encode()


VERSION_1 = written()
VERSION_2 = written(version="2", identifier='"System-Identifier": 18446744073709551611,\n')


def test_version_1_is_read() -> None:
    """PostgreSQL up to 16: files, with and without checksum, and the WAL that recovery needs."""
    assert parse_manifest(VERSION_1) == BackupManifest(
        files={
            "backup_label": ManifestFile(225, "CRC32C", "e3069283"),
            "base/5/1259": ManifestFile(114688, None, None),
            "jourf\udcfcxh": ManifestFile(0, "SHA256", hashlib.sha256().hexdigest()),
        },
        wal_ranges=(WalRange(3, LSN.parse("16/B3000028"), LSN.parse("16/B3000100")),),
        system_identifier=None,
    )


def test_version_2_has_a_system_identifier() -> None:
    """PostgreSQL 17 and newer: a 64-bit number that must not lose a digit."""
    manifest = parse_manifest(VERSION_2)
    assert manifest.system_identifier == "18446744073709551611"
    assert manifest.files == parse_manifest(VERSION_1).files


def test_an_encoded_path_is_that_of_the_file() -> None:
    """A name that is not UTF-8 comes out as Python, and so tarfile, shows the name of such a file."""
    name = bytes.fromhex("6a6f757266fc7868").decode("utf-8", "surrogateescape")
    assert name in parse_manifest(VERSION_1).files


def test_several_ranges_are_kept_in_order() -> None:
    """A backup from a standby may span a switch of timelines."""
    second = '{ "Timeline": 4, "Start-LSN": "16/B3000100", "End-LSN": "17/0" }'
    ranges = parse_manifest(written(ranges=f"{RANGES},\n{second}")).wal_ranges
    assert [(r.timeline, str(r.start), str(r.end)) for r in ranges] == [
        (3, "16/B3000028", "16/B3000100"),
        (4, "16/B3000100", "17/0"),
    ]


def test_a_name_may_look_like_the_checksum() -> None:
    """A quoted word inside a name is escaped, so it is not taken for the last line."""
    name = 'a "Manifest-Checksum" b'
    files = f'{{ "Path": {json.dumps(name)}, "Size": 1 }}'
    assert set(parse_manifest(written(files=files)).files) == {name}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "does not end with a checksum"),
        (VERSION_1.replace(b"114688", b"114689"), "does not match its own checksum"),
        (VERSION_1.replace(b"base/5/1259", b"base/5/1260"), "does not match its own checksum"),
        (VERSION_1.replace(b"B3000100", b"B3000028"), "does not match its own checksum"),
        (VERSION_1.replace(b"225", b'"225'), "cannot be read"),
        (VERSION_1 + b"}", "does not end with a checksum"),
        (VERSION_1 + VERSION_1, "cannot be read"),
        (VERSION_1.replace(b"backup_label", b"\xff"), "cannot be read"),
        (b'["Manifest-Checksum"]', "does not end with a checksum"),
        (VERSION_1.rstrip()[:-1] + b', "Files": [] }', "does not end with a checksum"),
        (written(version="3"), "version 3 is not known to this release"),
        (written(version='"1"'), "version 1 is not known to this release"),
        (written(files='{ "Size": 1 }'), "cannot be read"),
        (written(files='{ "Path": "a" }'), "cannot be read"),
        (written(files='{ "Path": "a", "Size": "much" }'), "cannot be read"),
        (written(files='{ "Encoded-Path": "xy", "Size": 1 }'), "cannot be read"),
        (written(files='"a"'), "cannot be read"),
        (written(ranges='{ "Timeline": 1, "Start-LSN": "0/0" }'), "cannot be read"),
        (written(ranges='{ "Timeline": 1, "Start-LSN": "0/0", "End-LSN": 5 }'), "cannot be read"),
        (written(files='{ "Path": "a", "Size": 1, "Checksum-Algorithm": "XXH3", "Checksum": "00" }'), "XXH3"),
    ],
)
def test_a_damaged_manifest_is_refused(data: bytes, why: str) -> None:
    """Whatever is wrong with it, the message says that it is the manifest, why, and what to do."""
    with pytest.raises(BackupDamaged, match=f"^backup_manifest: .*({why}).*Use another backup"):
        parse_manifest(data)


def test_every_truncation_is_noticed() -> None:
    """However little is missing at its end; only the final newline may be."""
    for length in range(len(VERSION_2) - 1):
        with pytest.raises(BackupDamaged):
            parse_manifest(VERSION_2[:length])


@settings(max_examples=300)
@given(st.integers(0, len(VERSION_2) - 1), st.integers(0, 255))
def test_no_changed_byte_changes_what_is_read(position: int, byte: int) -> None:
    """Any byte but white space after the checksummed part leads to a refusal, none to another content."""
    changed = VERSION_2[:position] + bytes([byte]) + VERSION_2[position + 1 :]
    try:
        assert parse_manifest(changed) == parse_manifest(VERSION_2)
    except BackupDamaged:
        assert changed != VERSION_2
