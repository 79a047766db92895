"""``backup-guard drill`` that is killed at any moment: no server runs on, and the next drill removes what was left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from airflow_backup_guard.postgres.server import LocalServer
from tests.integration.guarded import back_up, plan_for, wait_until
from tests.integration.test_drill import servers_on

KILLS = int(os.environ.get("DRILL_KILLS", "10"))
# As in test_expire_kill.py: a kill costs no start of Python, and a copy of the server's programs is made once.
SERVER = """
import io, os, signal, sys, time
from contextlib import redirect_stdout, redirect_stderr
from airflow_backup_guard.cli import main
options = ["drill", "--repository", sys.argv[1], "--scratch", sys.argv[2]]
with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
    status = main(options)
print(status, flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(main(options))
    if float(line) > 0:
        time.sleep(float(line))
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_kill_9_at_any_moment(server: LocalServer, guard_dsn: str, tmp_path: Path, cluster_folder: Path) -> None:
    """Soon after each kill no server runs, however far the drill was; after the next drill, which passes, its folder
    is empty. DRILL_KILLS=100 tries harder."""
    source = random.Random(20261123)
    plan = plan_for(tmp_path / "repository")
    back_up(plan, guard_dsn)
    scratch = cluster_folder / "drills"
    command = [sys.executable, "-c", SERVER, plan.repository, str(scratch)]
    killed = left = running = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as drills:
        assert drills.stdin is not None and drills.stdout is not None

        def run(kill_after: float) -> int:
            assert drills.stdin is not None and drills.stdout is not None
            print(kill_after, file=drills.stdin, flush=True)
            return int(drills.stdout.readline())

        assert int(drills.stdout.readline()) == 0
        began = time.monotonic()
        assert run(0) == 0
        took = time.monotonic() - began
        for number in range(KILLS):
            killed += run(source.uniform(took * source.choice([0, 0.6]), took)) == -signal.SIGKILL
            left += any(scratch.glob("drill-*"))
            running += bool(servers_on(scratch))
            if number % 3 == 0:  # the others are swept while they may still run
                wait_until(lambda: not servers_on(scratch), 20)
            if number % 5 == 4 or number == KILLS - 1:
                assert run(0) == 0
                assert servers_on(scratch) == []
                assert [path.name for path in scratch.iterdir()] == [".backup-guard-drills"]
    print(
        f"{killed} of {KILLS} killed, {left} left a folder, {running} a server for a moment; {took:.2f} s undisturbed"
    )
    assert killed
    assert left
