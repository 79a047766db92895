"""DAG parsing: what importing our operators and sensors takes, beyond what every DAG file imports anyway.

Each measurement is a fresh Python. `import airflow.sdk` loads nothing of its classes until they are used, so a
second figure leaves out what the base classes cost, which any operator of any package pays for, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from benchmarks.report import Rounds, chosen, parser

_OURS = "import airflow_backup_guard.operators, airflow_backup_guard.sensors"
_BASE = "from airflow.sdk import DAG, BaseHook, BaseNotifier, BaseOperator, BaseSensorOperator, task"
_TIMED = """
import time
{before}
began = time.perf_counter()
{timed}
print(time.perf_counter() - began)
"""
VARIANTS = {
    "operators and sensors beyond airflow.sdk": ("import airflow.sdk", _OURS),
    "operators and sensors beyond Airflow's base classes": (f"import airflow.sdk\n{_BASE}", _OURS),
    "compare: airflow.sdk": ("", "import airflow.sdk"),
    "compare: Airflow's base classes beyond airflow.sdk": ("import airflow.sdk", _BASE),
    "compare: BashOperator beyond airflow.sdk": (
        "import airflow.sdk",
        "from airflow.providers.standard.operators.bash import BashOperator",
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    options = parser(__doc__, rounds=11).parse_args(arguments)
    rounds = Rounds("dag_parsing", options)
    with tempfile.TemporaryDirectory(prefix="backup-guard-bench-") as home:
        environment = {**os.environ, "AIRFLOW_HOME": home}
        rounds.run(chosen(list(VARIANTS), options.variants), lambda name: _measure(name, environment))
    rounds.finish("DAG parsing", {"ms": ("milliseconds", "{:.0f}")})


def _measure(name: str, environment: Mapping[str, str]) -> Mapping[str, float]:
    before, timed = VARIANTS[name]
    script = _TIMED.format(before=before, timed=timed)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return {"milliseconds": float(done.stdout.split()[-1]) * 1000}


if __name__ == "__main__":
    main()
