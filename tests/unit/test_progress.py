"""What a log says while bytes are read."""

from __future__ import annotations

from airflow_backup_guard.engine.progress import BytesLog


def test_a_line_every_15_seconds_says_how_long_it_takes() -> None:
    """From the rate so far; nothing before there is one."""
    seconds, said = [100.0], list[str]()
    log = BytesLog("verifying", said.append, lambda: seconds[0])
    for elapsed, done in ((0, 0), (14, 7_000_000), (16, 0), (20, 10_000_000), (30, 15_000_000), (36, 18_000_000)):
        seconds[0] = 100.0 + elapsed
        log(done, 60_000_000)
    assert said == [
        "verifying: 10MB of 60MB at 500kB/s, about 1min 40s left",
        "verifying: 18MB of 60MB at 500kB/s, about 1min 24s left",
    ]
