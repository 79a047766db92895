"""``backup-guard run`` as people and scripts use it: exit statuses, streams, signals, wrong use."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psutil
import pytest

from airflow_backup_guard.cli import main
from tests.integration.guarded import wait_until

ENDLESS = "echo me $$; while :; do :; done"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, guard_dsn: str) -> None:
    """Nothing of whoever runs the tests reaches the commands, but how to reach the database."""
    for name in ("BACKUP_GUARD_LOAD_DSN", "BACKUP_GUARD_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BACKUP_GUARD_DSN", guard_dsn)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``backup-guard run`` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_backup_guard", "run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def named_in(stream: Iterator[str]) -> psutil.Process:
    """The process that named itself there."""
    return psutil.Process(next(int(line.split()[1]) for line in stream if line.startswith("me ")))


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended; a zombie has, too."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_status_is_the_commands_and_stdout_is_the_report() -> None:
    """Its log is on stderr without the password of the database, stdout is one document, and --json after -- is not
    ours."""
    script = 'echo "it has $PASSWORD"; sleep 1; exit 42'
    with started("--json", "--", "env", "PASSWORD=hunter22", "sh", "-c", script, "--json") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 42
    document = json.loads(out)
    assert document["exit_status"] == 42
    assert document["command"][:3] == ["env", "PASSWORD=***", "sh"]
    assert document["impact"]["during"]["samples"] > 0
    assert "it has ***" in err.splitlines()


def test_output_goes_on_to_stdout_and_the_report_does_not() -> None:
    """What the command wrote, byte for byte, and nothing else."""
    with started("--output", "-", "--", "printf", r"one\000two") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == "one\0two"
    assert "printf ended well" in err


def test_sigterm_ends_the_command_and_is_told_from_its_own_statuses() -> None:
    """The command is gone once the guard is, and the status is 143."""
    with started("--", "sh", "-c", ENDLESS) as process:
        assert process.stderr is not None
        named = named_in(process.stderr)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 143
        assert is_gone(named)
    assert "Stopped: SIGTERM." in err


def test_kill_9_leaves_nothing_behind() -> None:
    """The guard dies while the command stands still; soon after there is no command, stopped or not."""
    with started("--min-rate", "1MB/s", "--", "sh", "-c", ENDLESS) as process:
        assert process.stderr is not None
        named = named_in(process.stderr)
        wait_until(lambda: named.status() == psutil.STATUS_STOPPED)
        process.kill()
        wait_until(lambda: is_gone(named))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "arguments are required: CMD"),
        (["--no-such-option", "--", "ls"], "no-such-option"),
        (["--nice", "20", "--", "ls"], "nice: 20"),
        (["--max-stop", "1h", "--", "ls"], "max_stop: '1h'"),
        (["--output", "/no/such/folder/x", "--", "ls"], "output: '/no/such/folder/x'"),
        (["--output", "x", "--store", "x", "--", "ls"], "not allowed with"),
        (["--output", "-", "--json", "--", "ls"], "both want stdout"),
        (["--store", "x", "--", "ls"], "--store needs a repository"),
        (["--repository", "file:///tmp", "--store", "../x", "--", "ls"], "key: '../x'"),
    ],
)
def test_wrong_use_is_125_and_runs_nothing(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """2 may be the command's own; what is wrong is named."""
    assert main(["run", *arguments]) == 125
    written = capsys.readouterr()
    assert said in written.out + written.err


def test_what_kept_it_from_ending_by_itself_is_in_the_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """125 outside of the window, 124 for a budget that is spent, 126 and 127 as env has them."""
    (tmp_path / "backups").mkdir()
    plan = tmp_path / "shop.toml"
    touched = tmp_path / "touched"

    def run_with(windows: str, *command: str) -> int:
        plan.write_text(
            f'name = "shop"\nrepository = "{(tmp_path / "backups").as_uri()}"\nmax_duration = "1s"\n'
            f'[calendar]\nwindows = "{windows}"\ntz = "UTC"\n'
        )
        return main(["run", "--plan", str(plan), "--", *command])

    another_day = f"{datetime.now(timezone.utc) - timedelta(days=3):%a}"
    assert run_with(f"{another_day} 00:00-01:00", "touch", str(touched)) == 125
    assert "off-peak window: Closed" in capsys.readouterr().err
    assert not touched.exists()
    assert run_with("daily 00:00-24:00", "sleep", "100") == 124
    assert "max_duration" in capsys.readouterr().err
    assert main(["run", "--", str(plan)]) == 126
    assert main(["run", "--", "no-such-program"]) == 127
    assert "no-such-program is not found" in capsys.readouterr().err
