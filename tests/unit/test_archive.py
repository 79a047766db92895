"""PostgreSQL's archives, held against the manifest: nothing wrong goes unseen, nothing is written elsewhere."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.backup import dump
from airflow_backup_guard.core.manifest import BackupManifest, ManifestFile
from airflow_backup_guard.core.verification import ObjectState, ObjectVerdict
from airflow_backup_guard.engine.archive import ArchiveReader, safe_path, system_identifier
from airflow_backup_guard.errors import BackupDamaged

CONTROL = (7_412_345_678_901_234_567).to_bytes(8, "little") + bytes(8184)
CONTENT = {"backup_label": b"START WAL LOCATION", "base/5/1259": b"page" * 40_000, "global/pg_control": CONTROL}


def tar(members: Iterable[tuple[str, bytes | None]]) -> bytes:
    """A tar archive; a content of None makes a directory."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as writer:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.mtime = 1_717_268_400
            member.mode = 0o700 if content is None else 0o600
            member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            member.size = len(content or b"")
            writer.addfile(member, io.BytesIO(content or b""))
    return target.getvalue()


def crc32c(content: bytes) -> str:
    """As PostgreSQL writes it on a little-endian machine."""
    return google_crc32c.value(content).to_bytes(4, "little").hex()


def manifest(files: dict[str, bytes]) -> BackupManifest:
    """What PostgreSQL's manifest says of these files."""
    entries = {path: ManifestFile(len(content), "CRC32C", crc32c(content)) for path, content in files.items()}
    return BackupManifest(entries, (), None)


def walk(reader: ArchiveReader, data: bytes, size: int = 1 << 16) -> dict[str, bytes | None]:
    """Feed an archive in pieces of ``size`` and return what is in it."""
    content: dict[str, bytes | None] = {}
    for at in range(0, len(data), size):
        for piece in reader.feed(data[at : at + size]):
            path = piece.member.path
            if piece.member.is_folder:
                content[path] = None
            else:
                before = b"" if piece.offset == 0 else content[path] or b""
                assert len(before) == piece.offset
                content[path] = before + piece.content
    return content


def checked(files: dict[str, bytes], data: bytes, size: int = 1 << 16) -> ArchiveReader:
    """A reader that has read the base archive through, against a manifest of files."""
    reader = ArchiveReader(manifest(files), "base")
    walk(reader, data, size)
    reader.finish()
    return reader


def test_a_right_archive_has_no_problems() -> None:
    """Every file is handed on as it is and counted; directories are handed on without content."""
    reader = ArchiveReader(manifest(CONTENT), "base")
    content = walk(reader, tar([("./", None), ("pg_wal", None), *CONTENT.items()]))
    reader.finish()
    assert content == {".": None, "pg_wal": None, **CONTENT}
    assert reader.problems == {}
    assert reader.files == 3


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 10_000, 1 << 20])
def test_an_archive_may_come_in_pieces_of_any_size(size: int) -> None:
    """Headers, contents and what pads them may lie across two."""
    files = {"base/5/1260": b"", "a": b"x", "b": bytes(range(256)) * 2, "c": bytes(600), "base/5/1259": b"page" * 4000}
    data = tar([("pg_wal", None), *files.items()])
    reader = ArchiveReader(manifest(files), "base")
    assert walk(reader, data, size) == {"pg_wal": None, **files}
    reader.finish()
    assert (reader.files, reader.problems) == (5, {})


def test_pieces_are_not_copied() -> None:
    """Most of a backup is in files of a GB, and all that was fed is of one of them."""
    content = bytes(range(250)) * 3000
    data = tar([("base/5/1259", content), ("base/5/1260", b"")])
    reader = ArchiveReader(manifest({"base/5/1259": content, "base/5/1260": b""}), "base")
    fed = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
    pieces = [reader.feed(chunk) for chunk in fed]
    assert [(piece.offset, len(piece.content), piece.is_last) for piece in pieces[0]] == [(0, 99_488, False)]
    [second] = pieces[1]
    assert second.content is fed[1]
    assert (second.offset, second.is_last) == (99_488, False)
    assert [(piece.content, piece.is_last) for piece in pieces[-1][-1:]] == [(b"", True)]
    assert [piece.is_last for piece in pieces[-1]] == [True] * len(pieces[-1])


def test_mode_and_time_are_the_servers() -> None:
    """A restore gives files the mode and time that they had."""
    pieces = ArchiveReader(manifest({}), "base").feed(tar([("pg_wal", None), ("base/5/1259", b"x")]))
    assert [(piece.member.mode, piece.member.mtime, piece.member.is_folder) for piece in pieces] == [
        (0o700, 1_717_268_400, True),
        (0o600, 1_717_268_400, False),
    ]


@pytest.mark.parametrize(
    ("stored", "path", "problem"),
    [
        (
            {**CONTENT, "base/5/1259": b"Page" + b"page" * 39_999},
            "base/5/1259",
            "has CRC32C [0-9a-f]{8}, and .* in the m",
        ),
        ({**CONTENT, "base/5/1259": b"page"}, "base/5/1259", "has 4 bytes, and 160000 in the manifest"),
        ({**CONTENT, "backup_label": b""}, "backup_label", "has 0 bytes, and 18 in the manifest"),
        ({**CONTENT, "base/5/666": b"x"}, "base/5/666", "is in an archive, but not in the manifest"),
        ({"backup_label": CONTENT["backup_label"], "global/pg_control": CONTROL}, "base/5/1259", "but in no archive"),
    ],
    ids=["changed", "resized", "emptied", "extra", "missing"],
)
def test_a_wrong_file_is_found(stored: dict[str, bytes], path: str, problem: str) -> None:
    """It alone is told, with what is wrong, and it is not counted as right."""
    reader = checked(CONTENT, tar(stored.items()))
    assert list(reader.problems) == [path]
    assert re.search(problem, reader.problems[path])
    assert reader.files == len(set(stored) & set(CONTENT)) - (path in stored and path in CONTENT)


@given(st.integers(0, 159_999), st.integers(1, 255))
def test_any_changed_byte_of_a_file_is_found(position: int, change: int) -> None:
    """Wherever in a file of several chunks it is."""
    content = bytearray(CONTENT["base/5/1259"])
    content[position] ^= change
    reader = checked(CONTENT, tar({**CONTENT, "base/5/1259": bytes(content)}.items()))
    assert list(reader.problems) == ["base/5/1259"]


def test_crc32c_is_the_one_of_postgresql() -> None:
    """The check value of CRC-32C, e3069283, is written with its lowest byte first."""
    known = BackupManifest({"a": ManifestFile(9, "CRC32C", "839206e3")}, (), None)
    reader = ArchiveReader(known, "base")
    walk(reader, tar([("a", b"123456789")]))
    assert (reader.files, reader.problems) == (1, {})
    other = ArchiveReader(BackupManifest({"a": ManifestFile(9, "CRC32C", "e3069283")}, (), None), "base")
    walk(other, tar([("a", b"123456789")]))
    assert other.problems == {"a": "has CRC32C 839206e3, and e3069283 in the manifest"}


@pytest.mark.parametrize("algorithm", ["SHA224", "SHA256", "SHA384", "SHA512"])
def test_every_checksum_of_postgresql_is_known(algorithm: str) -> None:
    """A server may be asked for any of them."""
    right = hashlib.new(algorithm.lower(), b"123456789").hexdigest()
    reader = ArchiveReader(BackupManifest({"a": ManifestFile(9, algorithm, right)}, (), None), "base")
    walk(reader, tar([("a", b"123456789")]))
    assert (reader.files, reader.problems) == (1, {})
    other = ArchiveReader(BackupManifest({"a": ManifestFile(9, algorithm, right)}, (), None), "base")
    walk(other, tar([("a", b"123456780")]))
    assert (other.files, list(other.problems)) == (0, ["a"])


def test_without_checksums_sizes_are_compared() -> None:
    """A manifest may have none; then a size is all that there is."""
    known = BackupManifest({"a": ManifestFile(2, None, None), "b": ManifestFile(2, None, None)}, (), None)
    reader = ArchiveReader(known, "base")
    walk(reader, tar([("a", b"xx"), ("b", b"x")]))
    assert (reader.files, list(reader.problems)) == (1, ["b"])


def test_a_tablespace_is_found_under_its_oid() -> None:
    """The manifest names its files under pg_tblspc; its archive does not."""
    files = {
        "pg_tblspc/16385/PG_18_202506291/5/1": b"one",
        "pg_tblspc/16386/PG_18_202506291/5/1": b"two",
        "base/1": b"3",
    }
    found = {}
    for oid, stored in (("16385", {"PG_18_202506291/5/1": b"one"}), ("16386", {}), ("base", {})):
        reader = ArchiveReader(manifest(files), oid)
        found[oid] = walk(reader, tar(stored.items()))
        reader.finish()
        found[oid] |= dict.fromkeys(reader.problems)
    assert found == {
        "16385": {"pg_tblspc/16385/PG_18_202506291/5/1": b"one"},
        "16386": {"pg_tblspc/16386/PG_18_202506291/5/1": None},
        "base": {"base/1": None},
    }


def test_the_control_file_is_kept() -> None:
    """It tells which cluster this is, and a restore writes it last."""
    reader = checked(CONTENT, tar(CONTENT.items()))
    assert reader.control_file == CONTROL
    assert system_identifier(reader.control_file) == "7412345678901234567"


# Tricks


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "//etc/passwd", "..", "../x", "base/../../x", "./../x", "base/..", "a\0b"],
)
@pytest.mark.parametrize("name_of_archive", ["base", "16385"])
def test_a_path_that_leads_out_is_refused(name: str, name_of_archive: str) -> None:
    """Nothing is handed on that would be written outside of the data directory."""
    with pytest.raises(BackupDamaged, match=r"leads out of the data directory.*tampered"):
        safe_path(name)
    if "\0" not in name:
        with pytest.raises(BackupDamaged, match="leads out of the data directory"):
            walk(ArchiveReader(manifest({}), name_of_archive), tar([("PG_18_202506291/1", b"x"), (name, b"x")]))


@pytest.mark.parametrize(
    ("name", "path"), [("base/1", "base/1"), ("./base//1", "base/1"), ("./", "."), ("a..b/...", "a..b/..."), ("", ".")]
)
def test_other_paths_are_made_plain(name: str, path: str) -> None:
    """A name is one and the same file however it is written, and dots within names are harmless."""
    assert safe_path(name) == path


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["symlink", "hard link", "character device", "block device", "pipe"],
)
def test_links_and_devices_are_refused(kind: bytes) -> None:
    """A link would make the next member be written where it points to."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as writer:
        member = tarfile.TarInfo("base/link\udcff")
        member.type = kind
        member.linkname = "/etc"
        writer.addfile(member)
    with pytest.raises(BackupDamaged, match="is neither a file nor a directory") as refused:
        walk(ArchiveReader(manifest({}), "base"), target.getvalue())
    str(refused.value).encode()  # it must be possible to log it


def test_a_name_that_is_not_utf8_can_be_reported() -> None:
    """It is the name that the manifest has, and what is said about it can be stored as JSON."""
    name = b"jourf\xfcx".decode("utf-8", "surrogateescape")
    assert checked({name: b"x"}, tar([(name, b"x")])).files == 1
    for reader in (
        checked({name: b"x"}, tar([])),
        checked({name: b"x"}, tar([(name, b"y")])),
        checked({}, tar([(name, b"")])),
    ):
        [(path, why)] = reader.problems.items()
        assert dump(ObjectVerdict("base.tar", ObjectState.INCONSISTENT, f"{path} {why}"))


# Streams that are not whole


@pytest.mark.parametrize("data", [b"", b"no tar", bytes(range(256)) * 40], ids=["empty", "short", "noise"])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    """The message names the archive."""
    with pytest.raises(BackupDamaged, match="Archive base is not a whole tar archive"):
        checked({}, data)


@given(st.integers(0, 512 * 320))
def test_a_truncated_archive_is_never_right(length: int) -> None:
    """Wherever it ends: it is refused, or the files that are not whole are told."""
    data = tar(CONTENT.items())[:length]
    try:
        reader = checked(CONTENT, data)
    except BackupDamaged:
        return
    assert reader.problems or reader.files == len(CONTENT)
    assert bool(reader.problems) == (reader.files < len(CONTENT))


def test_an_archive_that_ends_within_a_file_is_refused() -> None:
    """It is named, though all that there is of it was handed on."""
    data = tar(CONTENT.items())
    with pytest.raises(BackupDamaged, match="base/5/1259"):
        checked(CONTENT, data[: data.index(b"page") + 5000])


@given(st.data())
def test_noise_in_an_archive_is_never_right(data: st.DataObject) -> None:
    """Bytes that changed in headers lead to a refusal or to problems, and to no other error."""
    original = tar(CONTENT.items())
    headers = [original.index(name.encode()) for name in CONTENT]
    position = data.draw(st.sampled_from(headers)) + data.draw(st.integers(0, 511))
    noise = data.draw(st.binary(min_size=1, max_size=16))
    changed = original[:position] + noise + original[position + len(noise) :]
    try:
        reader = checked(CONTENT, changed)
    except BackupDamaged:
        return
    assert reader.problems or reader.files == len(CONTENT)


def test_what_follows_the_end_is_passed_over() -> None:
    """What pads an archive is stored, too, and is no member."""
    end = tar([])
    reader = checked(CONTENT, tar(CONTENT.items()) + bytes(1 << 20) + tar([("base/5/666", b"x")]) + end)
    assert (reader.files, reader.problems) == (3, {})
