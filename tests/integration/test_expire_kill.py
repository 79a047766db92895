"""``backup-guard expire --yes`` that is killed at any moment: no kept backup is lost, and the next one ends clean."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow_backup_guard.core.backup import is_backup_id
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.repository import open_repository
from tests.stored import store_backup

KILLS = int(os.environ.get("EXPIRE_KILLS", "40"))
# Loads the command once, then runs it in a child for each line, so that a kill costs no start of Python. Until it is
# waited for, nobody else gets the child's number.
SERVER = """
import io, os, signal, sys, time
from contextlib import redirect_stdout
from airflow_backup_guard.cli import main
with redirect_stdout(io.StringIO()):
    main(["expire", "--keep-last=1", "--repository", sys.argv[1]])
for line in sys.stdin:
    seconds, begun, url = line.split()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(["expire", "--keep-last=2", "--keep-daily=3", "--yes", "--repository", url]))
    if float(seconds) > 0:
        marks, until = url.removeprefix("file://") + "/expiring", time.monotonic() + 1
        while begun == "True" and not os.path.isdir(marks) and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Expiries:
    """Runs the command on a repository, and kills it if it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, url: str, kill_after: float = 0.0, begun: bool = False) -> int:
        """The exit status of the command; below zero if it was killed so many seconds after its start, or with
        ``begun`` after it began to remove something."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(kill_after, begun, url, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


@contextmanager
def expiries(url: str) -> Iterator[Expiries]:
    """Ready to run: a first look at a repository has loaded all that it takes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVER, url], **pipes) as process:  # type: ignore[call-overload]
        yield Expiries(process)


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a repository that is visible, by key, but what listings remember."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {key: content for key, content in found.items() if not key.startswith("catalog/")}


def age_unfinished(folder: Path) -> int:
    """Date what killed writers left to two days ago; returns how much that is."""
    left = list(folder.rglob(".*.unfinished"))
    for path in left:
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    return len(left)


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    """Right after each kill the kept backups are there to the byte, and every visible one is whole; after the next
    expiry the repository is what an expiry that nobody kills leaves, to the byte; and a day later not even a hidden
    file is left. EXPIRE_KILLS=1000 tries harder."""
    source = random.Random(20261123)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    template, folder = tmp_path / "template", tmp_path / "backups"
    repository = open_repository(template.as_uri())
    for number in range(12):
        verdict = (Verdict.VERIFIED, None, Verdict.VERIFIED, Verdict.DAMAGED)[number % 4]
        store_backup(repository, now - timedelta(hours=7 * number), verdict, segments=3)
    before = contents(template)
    with expiries(template.as_uri()) as expire:
        shutil.copytree(template, folder)
        assert expire.run(folder.as_uri()) == 0
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        began = time.monotonic()
        assert expire.run(folder.as_uri()) == 0
        fastest = time.monotonic() - began
        expected = contents(folder)
        kept = {part for key in expected for part in key.replace(".json", "").split("/") if is_backup_id(part)}
        assert 2 < len(kept) < 12
        killed = interrupted = 0
        for _ in range(KILLS):
            shutil.rmtree(folder)
            shutil.copytree(template, folder)
            for _ in range(source.choice([1, 1, 2])):
                begun = source.random() < 0.7
                moment = source.uniform(0, fastest / 3 if begun else fastest)
                killed += expire.run(folder.as_uri(), moment, begun) == -signal.SIGKILL
            left = contents(folder)
            interrupted += left.keys() not in (before.keys(), expected.keys())
            assert expected.items() <= left.items()
            for record in catalog.backups(open_repository(folder.as_uri())):
                assert all(left.get(part.key) == before[part.key] for part in record.parts)
            began = time.monotonic()
            assert expire.run(folder.as_uri()) == 0
            fastest = min(fastest, time.monotonic() - began)
            assert contents(folder) == expected
            if age_unfinished(folder):
                assert expire.run(folder.as_uri()) == 0
                assert age_unfinished(folder) == 0
    print(f"{killed} killed, {interrupted} of {KILLS} in the middle; {fastest:.3f} s undisturbed")
    assert killed
    assert interrupted
