"""What must be true between the objects of a backup: its record by itself, and its content against the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.core.page_checksums import PAGE_SIZE
from airflow_backup_guard.core.wal import segment_names
from airflow_backup_guard.engine.examine import Examination
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, ObjectMissing
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole

CONTENT_CHECKS = ("WAL range", "WAL records", "page checksums", "identity")
"""Names of the checks that need a look inside, in order."""


def record_checks(record: BackupRecord, repository: Repository) -> Iterator[Check]:
    """What the record tells without its objects."""
    yield _record_check(record, repository)
    needed = set(
        segment_names(record.timeline, record.start_lsn, record.end_lsn, record.snapshot.cluster.wal_segment_size)
    )
    missing = sorted(needed - {part.name for part in record.parts_of("wal")})
    yield _check("WAL", not missing, f"{len(needed)} segments from {record.start_lsn} to {record.end_lsn}", missing)
    covered = record.end_lsn >= record.snapshot.lsn
    yield _check("snapshot", covered, f"it ends at {record.end_lsn}, and the snapshot is at {record.snapshot.lsn}")
    archives = {"base", *(str(tablespace.oid) for tablespace in record.tablespaces)}
    wrong = sorted(archives ^ {part.name for part in record.parts_of("archive")})
    yield _check("archives", not wrong, f"{len(archives)} expected", wrong)


def _record_check(record: BackupRecord, repository: Repository) -> Check:
    key = backup.record_key(record.plan_name, record.backup_id)
    prefix = backup.parts_prefix(record.plan_name, record.backup_id)
    if strangers := sorted(part.key for part in record.parts if not part.key.startswith(prefix)):
        return _check("record", False, f"all parts under {prefix}", strangers)
    try:
        if backup.load(BackupRecord, read_whole(repository, key), key) == record:
            return _check("record", True, f"{len(record.parts)} parts")
    except ObjectMissing:
        return Check("record", CheckStatus.FAILED, f"{key} is gone.", "Without it there is no backup: who removed it?")
    except BackupDamaged as error:
        return Check("record", CheckStatus.FAILED, error.message, error.remedy)
    except BackupGuardError as error:
        return Check("record", CheckStatus.UNKNOWN, str(error))
    return Check("record", CheckStatus.FAILED, f"{key} is not the record that this backup was verified by.")


def content_checks(record: BackupRecord, seen: Examination, pages: int) -> Iterator[Check]:
    """What the content tells that was read; ``pages`` is the number of pages found right, in whatever run."""
    if seen.manifest is not None:
        # A standby's backup ends where it is consistent, and its WAL where the snapshot was, if that is later.
        ranges = {(r.timeline, r.start, max(r.end, record.snapshot.lsn)) for r in seen.manifest.wal_ranges}
        same = (record.timeline, record.start_lsn, record.end_lsn) in ranges
        yield _check("WAL range", same, "the record's is the manifest's" if same else f"manifest: {ranges}")
    if seen.wal is not None:
        yield _wal_check(seen)
    if seen.archives_read:
        yield _page_check(record, seen, pages)
    yield from _identity_check(record, seen)


def _wal_check(seen: Examination) -> Check:
    assert seen.wal is not None  # noqa: S101  # asked before
    if seen.wal.broken:
        return Check("WAL records", CheckStatus.FAILED, f"{seen.wal.broken}.")
    if seen.wal.missed:
        detail = f"they were followed up to segment {seen.wal.missed}, which could not be"
        return Check("WAL records", CheckStatus.UNKNOWN, detail)
    return _check("WAL records", True, f"{seen.wal.records} follow each other from start to end, each with its CRC")


def _page_check(record: BackupRecord, seen: Examination, pages: int) -> Check:
    name = "page checksums"
    if not record.snapshot.cluster.data_checksums:
        return Check(name, CheckStatus.OK, "not checked: the cluster has none")
    if seen.other_pages:
        detail = f"not checked: {seen.other_pages} pages are of another size than {PAGE_SIZE} bytes"
        return Check(name, CheckStatus.WARNING, detail)
    if seen.wrong_files:
        remedy = "Check the disks of the server, restore an older backup beside it, and compare."
        return Check(name, CheckStatus.FAILED, f"wrong in {', '.join(sorted(seen.wrong_files))}.", remedy)
    return Check(name, CheckStatus.OK, f"{pages} pages have theirs; those written during the copy are the WAL's")


def _identity_check(record: BackupRecord, seen: Examination) -> Iterator[Check]:
    expected = record.snapshot.cluster.system_identifier
    strangers = sorted(seen.system_identifiers - {expected})
    if strangers:
        yield _check("identity", False, f"system {expected}", strangers)
    elif seen.control_file:
        yield _check("identity", True, f"system {expected}")


def _check(name: str, passed: bool, detail: str, wrong: Sequence[str] = ()) -> Check:
    status = CheckStatus.OK if passed else CheckStatus.FAILED
    return Check(name, status, detail + (f"; not so: {', '.join(wrong)}" if wrong and not passed else ""))
