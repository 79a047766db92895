"""The game day, played from start to end without a person, on small data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from gameday.acts import ACTS

TOP = Path(__file__).resolve().parents[2]


def test_the_game_day_plays_itself(tmp_path: Path) -> None:
    """Every act is done and seen to be done, what is kept of it says so, and nothing of the shop is left."""
    record, temporary = tmp_path / "record", tmp_path / "temporary"
    temporary.mkdir()
    # The user who runs PostgreSQL has to get to the folder of the shop.
    for folder in (temporary, tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    done = subprocess.run(
        [sys.executable, "-m", "gameday", "--unattended", "--megabytes", "5", "--trainee", "CI", "--record", record],
        cwd=TOP,
        env={**os.environ, "TMPDIR": str(temporary), "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (kept,) = record.glob("*.json")
    summary = json.loads(kept.read_text(encoding="utf-8"))
    assert summary["passed"]
    assert summary["unattended"]
    assert [act["act"] for act in summary["acts"]] == [act.name for act in ACTS]
    assert all(act.name in done.stdout for act in ACTS)
    assert "Every act is done." in done.stdout
    assert list(temporary.glob("backup-guard-gameday-*")) == []
