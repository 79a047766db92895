"""The short part of ``make faults``: what was once found broken, and faults chosen by chance, the same in every run."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import SourceUnavailable
from airflow_backup_guard.postgres.account import account_for, private_folder
from airflow_backup_guard.postgres.replication import ReplicationConnection
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.faults import suite
from tests.faults.__main__ import summary
from tests.faults.postgres_wire import Position, Wire
from tests.faults.rig import Judgement, Outcome, Rig
from tests.faults.stores import Buckets, Folders, Store

KNOWN = (
    "database: hang at questions < D #1",
    "database: hang at slot < D #1",
    "database: hang at base backup < d:d #1",
    "database: vanish at slot < T #1",
    "database: vanish at WAL > Q #1",
    "folder, backup: lie at put if absent records #1",
    "folder, backup: lost write at put if absent records #1",
    "folder, expire: lost write at delete records #1",
    "S3, backup: done, says 500 at begin upload backups base #1",
    "S3, backup: done, says 412 at put if absent attempts #1",
)
SEED = 1
COUNT = 8


@dataclass(frozen=True)
class Bench:
    """The rig, and all faults that there are for it."""

    rig: Rig
    faults: dict[str, suite.Fault]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """A cluster, a folder and a bucket."""
    with ExitStack() as stack:
        folder = private_folder(account_for(Path("/")), "faults")
        stack.callback(shutil.rmtree, folder)
        rig = stack.enter_context(Rig(folder, SEED))
        stores: list[Store] = [stack.enter_context(Folders(folder)), stack.enter_context(Buckets())]
        yield Bench(rig, {str(fault): fault for fault in suite.chosen(rig, stores, SEED, None)})


@pytest.mark.parametrize("known", KNOWN)
def test_what_was_once_broken_is_not(bench: Bench, known: str) -> None:
    """The fault strikes, and the whole rule holds."""
    judgement = bench.faults[known].inject(bench.rig, restored=False)
    assert judgement.outcome is not Outcome.UNREACHED
    assert not judgement.broken, judgement


def test_the_rule_holds_after_faults_chosen_by_chance(bench: Bench) -> None:
    """Wherever they strike; one backup of what is left is restored and started."""
    chosen = random.Random(SEED).sample(sorted(bench.faults), COUNT)
    judged = [bench.faults[one].inject(bench.rig, restored=one == chosen[0]) for one in chosen]
    print(summary(judged, sum(one.seconds for one in judged)))
    assert not [one for one in judged if one.broken]
    assert any(one.outcome is not Outcome.UNREACHED for one in judged)


def test_a_server_that_is_silent_in_start_up_keeps_no_session(bench: Bench) -> None:
    """It is given up, and its session ends, though the error is kept."""
    bench.rig.proxy.script = Wire(Position("start-up", "< S", 3), "hang")
    judgement = Judgement("none")
    with pytest.raises(SourceUnavailable) as kept:
        ReplicationConnection(bench.rig.proxied, "backup_guard/silent")
    bench.rig.check_database(judgement)
    assert not judgement.broken, kept


def test_there_are_faults_at_every_message_and_call(bench: Bench) -> None:
    """Of the stream: archives, data, progress, manifest, results, its end; of the protocol: each method in use."""
    text = "\n".join(bench.faults)
    for message in ("d:n", "d:d", "d:p", "d:m", "T", "D", "H", "c", "C", "Z"):
        assert f"at base backup < {message} #1" in text
    for session, message in (("WAL", "W"), ("WAL", "d:w"), ("slot", "D"), ("probe", "D"), ("identity", "D")):
        assert f"at {session} < {message} #1" in text
    for call in ("put", "put if absent", "writer", "write", "commit", "reader", "read", "list", "delete", "delete_all"):
        assert f"at {call} " in text
    for call in ("begin upload", "upload part", "complete upload", "get", "list", "list uploads", "delete many"):
        assert f": lost answer at {call} " in text


def test_the_rule_can_be_broken(bench: Bench) -> None:
    """A session that stays, a visible backup that lacks a part, and an error that says nothing are each noticed."""
    rig, repository = bench.rig, MemoryRepository()
    record = rig.back_up(rig.dsn, repository, [], Stop())
    repository.delete(record.parts[0].key)
    judgement = Judgement("none")
    with psycopg.connect(rig.dsn, application_name="backup_guard/left"):
        rig.check_database(judgement)
    rig.check_backups(judgement, repository, {}, restored=False, may_be_bad=False)
    rig.check_error(judgement, ValueError("oops"), ("PostgreSQL at",))
    assert [broken.split(" ")[0] for broken in judgement.broken] == ["left", record.backup_id, "an"]


def test_the_command_line_says_what_broke(bench: Bench) -> None:
    """Cut in mid-stream, the backup ends with a status other than 0, names the database, and is not listed."""
    rig, repository = bench.rig, LocalRepository(bench.rig.folder / "cli")
    rig.proxy.script = Wire(Position("base backup", "< d:d", 5), "reset")
    command = [sys.executable, "-m", "airflow_backup_guard", "backup", "--checkpoint", "fast"]
    settings = {"BACKUP_GUARD_DSN": rig.proxied, "BACKUP_GUARD_REPOSITORY": repository.url}
    ended = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "PostgreSQL at 127.0.0.1" in ended.stderr
    assert "retry" in ended.stderr
    assert list(catalog.ids(repository, None)) == []
    judgement = Judgement("none")
    rig.check_database(judgement)
    assert not judgement.broken
