"""Each benchmark runs on tiny data, prints its table and writes its JSON; no timing is judged."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import __main__, pareto, report
from benchmarks.disk import modelled_disk

TINY = ["--rounds", "1", "--scale", "1", "--seconds", "0.5"]
# What a short run of each takes beyond TINY; peers that are not installed would be skipped anyway.
OPTIONS = {
    "application_tax": ["--quiet", "0.5", "--variants", "no backup,guarded", "--tps", "100"],
    "guarded_command": ["--quiet", "0.5", "--variants", "guarded pg_dump", "--tps", "100"],
    "pareto": ["--lead", "0.2", "--peak", "0.5", "--variants", "guarded", "--tps", "100"],
    "brake": ["--variants", "no limits in the plan"],
    "throttle_accuracy": ["--variants", "1MB/s,copy at 10MB/s"],
    "raw_copy": ["--variants", "guard"],
    "restore": ["--variants", "guard,guard verify"],
    "cost": ["--variants", "guard,pg_basebackup"],
    "memory": ["--sizes", "0.06"],
    "dag_parsing": ["--variants", "operators and sensors beyond airflow.sdk"],
    "gates": ["--gates", "6", "--databases", "2"],
    "catalog": ["--backups", "20", "--segments", "1"],
    "fleet_page": ["--plans", "3", "--backups", "1", "--variants", "plans"],
}


def test_all_are_tried() -> None:
    """No benchmark is forgotten here."""
    assert set(OPTIONS) == set(__main__.ALL)


@pytest.mark.parametrize("name", __main__.ALL)
def test_a_benchmark_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It measures every variant that can be measured here."""
    results = tmp_path / "benchmarks" / "results"
    results.parent.mkdir()
    monkeypatch.setattr(report, "RESULTS", results)
    try:
        importlib.import_module(f"benchmarks.{name}").main([*TINY, *OPTIONS[name]])
    except report.Skipped as reason:
        pytest.skip(str(reason))
    printed = capsys.readouterr().out
    written = json.loads((results / f"{name}.json").read_text())
    assert written["benchmark"] == name
    assert written["rounds"]
    assert not written["skipped"]
    for variant, measured in written["rounds"].items():
        assert variant in printed
        assert len(measured) == 1


@pytest.fixture
def disks_can_be_modelled() -> None:
    """Skips where they cannot."""
    try:
        with modelled_disk():
            pass
    except report.Skipped as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("disks_can_be_modelled")
def test_a_benchmark_runs_on_a_modelled_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's data is on it, and the copy is whole."""
    results = tmp_path / "benchmarks" / "results"
    results.parent.mkdir()
    monkeypatch.setattr(report, "RESULTS", results)
    pareto.main(
        [*TINY, *OPTIONS["pareto"], "--disk", "modelled", "--seconds", "20", "--plan", '{"min_rate": "50MB/s"}']
    )
    written = json.loads((results / "pareto.json").read_text())
    assert written["options"]["disk"] == "modelled"
    assert written["rounds"]["guarded"][0]["share"] == 1


@pytest.mark.usefixtures("disks_can_be_modelled")
def test_a_modelled_disk_takes_its_time_and_goes_with_its_process() -> None:
    """Requests are as slow as the model says, and whoever is killed leaves neither mount nor device."""
    program = """
import os, time
from benchmarks.disk import BYTES_PER_SECOND, modelled_disk
with modelled_disk() as disk:
    disk.slow_down()
    began, busy = time.monotonic(), disk.busy_seconds()
    with (disk.folder / "file").open("wb") as file:
        file.write(bytes(BYTES_PER_SECOND // 4))
        os.fsync(file.fileno())
    print(disk.device, time.monotonic() - began, disk.busy_seconds() - busy, flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        device, took, busy = process.stdout.readline().split()
        assert device in Path("/proc/mounts").read_text()
        assert float(took) > 0.25
        assert float(busy) > 0.2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    until = time.monotonic() + 30
    while device in Path("/proc/mounts").read_text() or (Path("/sys/block") / Path(device).name / "loop").exists():
        assert time.monotonic() < until, f"{device} is still there"
        time.sleep(0.1)
