"""What the pages read of a copy in a repository: while it runs, afterwards, and when something there is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.copy_picture import of_telemetry
from airflow_backup_guard.engine import telemetry
from airflow_backup_guard.engine.shown import kept_of_command, kept_of_copy
from tests.integration.guarded import CopyInFlight, plan_for, wait_until


def test_a_copy_is_shown_from_its_repository(guard_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs its telemetry is there, and no receipt; afterwards both are. A broken piece of telemetry, a record
    that is none, and a backup that is gone are each told, and nothing else is lost for it."""
    monkeypatch.setattr(telemetry, "_LINES_PER_PIECE", 2)
    plan = plan_for(tmp_path / "backups", max_rate="8MB/s", min_rate="8MB/s")
    with CopyInFlight(plan, guard_dsn) as copying:
        repository, number = copying.repository, copying.snapshot.backup_id
        pieces = f"backups/shop/{number}/telemetry/"
        wait_until(lambda: len(list(repository.list(pieces))) > 1, 30)
        running = kept_of_copy(repository, "shop", number)
        copying.end()
    over = kept_of_copy(repository, "shop", number)
    assert (running.outcome, running.receipt, running.notes) == ("", (), ())
    assert over.notes == () and len(over.telemetry) > len(running.telemetry) > 1
    assert dict(over.receipt)["verified"] == "not yet" and "commits during" in dict(over.receipt)
    assert len(of_telemetry(over.telemetry).points) == len(over.telemetry)

    first = next(iter(repository.list(pieces))).key
    repository.put(first, b"nonsense")
    broken = kept_of_copy(repository, "shop", number)
    assert first in broken.notes[0] and broken.receipt == over.receipt
    assert 0 < len(broken.telemetry) < len(over.telemetry)
    repository.put(backup.record_key("shop", number), b"{}")
    unreadable = kept_of_copy(repository, "shop", number)
    assert "cannot be read" in unreadable.notes[0] and unreadable.receipt == ()
    gone = kept_of_copy(repository, "shop", "20260101T000000Z-0000")
    assert gone.outcome == "The repository has nothing of it any more."
    assert kept_of_command(repository, "shop", "20260101T000000Z-0000").receipt == ()
