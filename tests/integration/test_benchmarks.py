"""Each benchmark runs on tiny data, prints its table and writes its JSON; no timing is judged."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from benchmarks import __main__, report

TINY = ["--rounds", "1", "--scale", "1", "--seconds", "0.5"]
# What a short run of each takes beyond TINY; peers that are not installed would be skipped anyway.
OPTIONS = {
    "application_tax": ["--quiet", "0.5", "--variants", "no backup,guarded", "--tps", "100"],
    "pareto": ["--lead", "0.2", "--peak", "0.5", "--variants", "guarded", "--tps", "100"],
    "brake": ["--variants", "no limits in the plan"],
    "throttle_accuracy": ["--variants", "1MB/s,copy at 10MB/s"],
    "raw_copy": ["--variants", "guard"],
    "cost": ["--variants", "guard,pg_basebackup"],
    "memory": ["--sizes", "0.06"],
    "dag_parsing": ["--variants", "operators and sensors beyond airflow.sdk"],
    "gates": ["--gates", "6", "--databases", "2"],
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
    importlib.import_module(f"benchmarks.{name}").main([*TINY, *OPTIONS[name]])
    printed = capsys.readouterr().out
    written = json.loads((results / f"{name}.json").read_text())
    assert written["benchmark"] == name
    assert written["rounds"]
    assert not written["skipped"]
    for variant, measured in written["rounds"].items():
        assert variant in printed
        assert len(measured) == 1
