"""`make matrix`: the tests that depend on versions, with each Python, the newest Airflow and the CeleryExecutor.

Every row has a virtual environment of its own in build/matrix, and its tests run against each PostgreSQL that is found.
What is not present here is a row that says so; it is never taken for passed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
FOLDER = TOP / "build/matrix"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

PURE = ("tests/unit",)
# Most of these run against every PostgreSQL; the others depend on Python's own tarfile, sockets and threads.
SERVERS = (
    "tests/integration/test_audit.py",
    "tests/integration/test_backup.py",
    "tests/integration/test_drill.py",
    "tests/integration/test_hours.py",
    "tests/integration/test_probe.py",
    "tests/integration/test_restore.py",
    "tests/integration/test_server.py",
    "tests/integration/test_standby.py",
    "tests/integration/test_verify.py",
    "tests/integration/test_watchdog.py",
)
RUNS = (
    "tests/acceptance/test_command.py",
    "tests/acceptance/test_drill.py",
    "tests/acceptance/test_gates.py",
    "tests/acceptance/test_many_clusters.py",
    "tests/acceptance/test_provider_info.py",
    "tests/acceptance/test_runs.py",
    "tests/acceptance/test_timetable.py",
)
# A lower bound that is itself a pre-release is how an installer is told that pre-releases of that package will do.
NEWEST = ("apache-airflow>=3.3.3.dev0", "apache-airflow-core>=3.3.3.dev0", "apache-airflow-task-sdk>=1.3.3.dev0")
# What a row has, and what it lacks.
VERSIONS = """
from importlib.metadata import version
from airflow_backup_guard.postgres.binaries import available_majors
found = available_majors()
absent = [str(major) for major in (15, 16, 17, 18) if major not in found]
print("Airflow", version("apache-airflow") + "; PostgreSQL", *found, *(["without", *absent] if absent else []))
"""


@dataclass(frozen=True)
class Row:
    """One combination: what it installs beside the project, and which tests it runs."""

    name: str
    python: str
    tests: tuple[str, ...]
    packages: tuple[str, ...] = ()
    pinned: bool = True  # by constraints.txt
    executor: str = "LocalExecutor"
    program: str | None = None  # that must be on the PATH


ROWS = (
    *(Row(f"python-{version}", version, PURE + SERVERS + RUNS) for version in PYTHONS),
    Row("airflow-newest", "3.12", (*PURE, "tests/acceptance"), packages=NEWEST, pinned=False),
    Row(
        "celery",
        "3.12",
        RUNS,
        packages=("apache-airflow-providers-celery", "celery[redis]<5.7"),  # 5.7 has moved what the provider imports
        executor="CeleryExecutor",
        program="redis-server",
    ),
)


def interpreter(version: str) -> str | None:
    """A Python of this version that starts: from the PATH, or one of pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}"), *map(str, sorted(root.glob(f"versions/{version}.*/bin/python3")))]
    for candidate in filter(None, found):
        answer = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.startswith(f"Python {version}."):
            return candidate
    return None


def missing(row: Row) -> str | None:
    """Why a row cannot run here."""
    if interpreter(row.python) is None:
        return f"Python {row.python} is not present"
    if row.program is not None and shutil.which(row.program) is None:
        return f"{row.program} is not on the PATH"
    return None


def install(row: Row, log: Path) -> Path:
    """Make or renew the environment of a row; returns its interpreter."""
    uv = Path(sys.executable).with_name("uv")
    folder = FOLDER / row.name
    python = folder / "bin/python"
    environment = {**os.environ, "UV_SYSTEM_CERTS": os.environ.get("UV_SYSTEM_CERTS", "true")}
    commands = [[str(uv), "venv", "--quiet", "--allow-existing", "--python", str(interpreter(row.python)), str(folder)]]
    constraint = ["--constraint", "constraints.txt"] if row.pinned else []
    commands.append(
        [str(uv), "pip", "install", "--python", str(python), *constraint, "--editable", ".[dev]", *row.packages]
    )
    with log.open("w") as output:
        for command in commands:
            subprocess.run(command, cwd=TOP, env=environment, stdout=output, stderr=output, check=True)
    return python


def run(row: Row, arguments: list[str]) -> str:
    """Install and test one row; returns what to print of it."""
    log = FOLDER / f"{row.name}.log"
    begun = time.monotonic()
    try:
        python = install(row, log)
    except subprocess.CalledProcessError:
        return f"FAILED: could not be installed, see {log.relative_to(TOP)}"
    versions = subprocess.run([str(python), "-c", VERSIONS], capture_output=True, text=True, check=True).stdout.strip()
    environment = {
        **os.environ,
        "BACKUP_GUARD_TEST_EXECUTOR": row.executor,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
    }
    with log.open("a") as output:
        tests = [str(python), "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", *sorted(row.tests), *arguments]
        code = subprocess.run(
            tests, cwd=TOP, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        ).returncode
    last = re.sub(r"^=+ | =+$", "", log.read_text().rstrip().rsplit("\n", 1)[-1])
    verdict = "passed" if code == 0 else f"FAILED, see {log.relative_to(TOP)}"
    return f"{verdict}: {versions}; {row.executor}; {last} ({time.monotonic() - begun:.0f} s with installing)"


def main() -> int:
    """Run the rows that were asked for, or all; exit status 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(row.name for row in ROWS)}; all without")
    parser.add_argument("-k", dest="expression", help="only tests that fit, as pytest has it")
    options = parser.parse_args()
    unknown = set(options.rows) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    failed = False
    for row in ROWS:
        if options.rows and row.name not in options.rows:
            continue
        reason = missing(row)
        print(f"{row.name:16}", end=" ", flush=True)
        said = f"not run: {reason}" if reason else run(row, ["-k", options.expression] if options.expression else [])
        print(said, flush=True)
        failed |= said.startswith("FAILED")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
