"""A hand on a copy that runs: each order takes effect within two seconds, and nothing of it is left behind."""

from __future__ import annotations

import getpass
import json
import logging
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import BackupPlan, LoadLimits
from airflow_backup_guard.core.backup import FORMAT, Attempt, attempt_key, load
from airflow_backup_guard.core.control import Action, Order, orders_prefix
from airflow_backup_guard.core.pace import PaceState
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import control
from airflow_backup_guard.engine.attempt import close_attempt
from airflow_backup_guard.engine.copy import Progress, copy
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupStopped, RepositoryUnavailable, SourceUnavailable
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository.read import read_whole
from tests.integration.guarded import (
    BASELINE_SECONDS,
    CopyInFlight,
    assert_nothing_left,
    plan_for,
    sessions,
    wait_until,
)

PROMISE = 2.0
S3_ACCESS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "control.md"
ME = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    """A plan whose copy takes long enough to be told things, whatever the load of this machine."""
    return plan_for(
        tmp_path / "backups",
        max_rate="8MB/s",
        min_rate="200kB/s",
        limits=LoadLimits(commit_latency=("20s", "60s")),
    )


@pytest.fixture
def s3_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a repository in a bucket, which boto3's own environment leads to."""
    service = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    service.start()
    try:
        host, port = service.get_host_and_port()
        for name, value in {**S3_ACCESS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket/prefix"
    finally:
        service.stop()


def copying_to(plan: BackupPlan) -> Path:
    """The folder of a plan's repository."""
    return Path(plan.repository.removeprefix("file://"))


def give(copying: CopyInFlight, action: str, max_rate: str | None = None, by: str = "alice@db1") -> control.Given:
    """An order of Alice's to a copy."""
    order = Order(FORMAT, Action(action), by, "checkout is slow", datetime.now(timezone.utc), max_rate)
    return control.give(copying.repository, copying.snapshot, order)


def reason(copying: CopyInFlight) -> str:
    """Why the copy has the pace that it has."""
    return copying.last.pace.reason if copying.last else ""


def state(copying: CopyInFlight) -> PaceState | None:
    """What the copy says it does."""
    return copying.last.pace.state if copying.last else None


def rate(copying: CopyInFlight) -> int:
    """What the copy may read."""
    return copying.last.pace.rate if copying.last else 0


def above_its_floor(copying: CopyInFlight) -> None:
    """Wait until the load lets it read more than its floor; how much more, and when, is up to the control law."""
    wait_until(lambda: rate(copying) > 1.5 * copying.plan.min_rate, 60)


def read_in(copying: CopyInFlight, seconds: float) -> int:
    """Bytes that the copy reads in a while."""
    assert copying.last is not None
    before = copying.last.done
    time.sleep(seconds)
    return copying.last.done - before


def test_pause_and_resume_take_effect_within_two_seconds(guard_dsn: str, plan: BackupPlan) -> None:
    """Paused is the trickle at the floor, and says who asked and why; resumed is what the load allows."""
    with CopyInFlight(plan, guard_dsn) as copying:
        above_its_floor(copying)
        paused = give(copying, "pause")
        wait_until(lambda: state(copying) is PaceState.PAUSED, PROMISE)
        assert reason(copying) == "paused by alice@db1: checkout is slow"
        assert 0 < read_in(copying, 2) < 2 * 2 * plan.min_rate
        assert control.wait_until_obeyed(copying.repository, paused, 5)
        give(copying, "resume", by="bob@laptop")
        wait_until(lambda: "paused by" not in reason(copying), PROMISE)
        assert state(copying) is not PaceState.PAUSED
        copying.stop.request("seen enough")
        copying.end()
    assert control.running(copying.repository) == []


def test_a_ceiling_is_lowered_and_lifted_within_two_seconds(guard_dsn: str, plan: BackupPlan) -> None:
    """The copy reads no faster than that, whatever the load allows, until the limit is lifted."""
    with CopyInFlight(plan, guard_dsn) as copying:
        above_its_floor(copying)
        give(copying, "limit", "250kB/s")
        wait_until(lambda: rate(copying) <= 250_000, PROMISE)
        assert 0 < read_in(copying, 3) < 2 * 3 * 250_000
        wait_until(lambda: reason(copying) == "limited to 250kB/s by alice@db1: checkout is slow", 60)
        give(copying, "limit")
        wait_until(lambda: "limited" not in reason(copying), PROMISE)
        copying.stop.request("seen enough")
        copying.end()


def test_a_stop_lets_go_of_the_database_within_two_seconds(
    server: LocalServer, guard_dsn: str, plan: BackupPlan
) -> None:
    """Also of a paused copy: no session, slot, part or order is left, and the attempt says who and why."""
    with CopyInFlight(plan, guard_dsn) as copying:
        give(copying, "pause")
        wait_until(lambda: state(copying) is PaceState.PAUSED)
        give(copying, "resume")
        give(copying, "stop")
        wait_until(lambda: sessions(server) == 0, PROMISE)
        copying.end()
    assert isinstance(copying.error, BackupStopped)
    assert_nothing_left(server, copying.repository, wait_until)
    assert list(copying.repository.list("control/")) == []
    key = attempt_key(plan.name, copying.snapshot.backup_id)
    outcome = load(Attempt, read_whole(copying.repository, key), key).outcome
    assert outcome is not None
    assert "alice@db1: checkout is slow" in outcome


def test_a_stop_lets_go_of_a_database_whose_commits_hang(
    new_server: Callable[..., LocalServer], role_dsn: Callable[..., str], plan: BackupPlan
) -> None:
    """The moment in which people stop a backup: nothing waits for a probe that waits for the database."""
    server = new_server()
    with CopyInFlight(plan, role_dsn(server)) as copying:
        # Commits now wait for a standby that does not exist.
        server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()")
        time.sleep(1)
        give(copying, "stop")
        wait_until(lambda: server.sql("SELECT count(*) FROM pg_stat_replication") == "0", PROMISE)
        copying.end()
    assert isinstance(copying.error, BackupStopped)


def test_orders_of_two_people_at_once_are_both_obeyed(guard_dsn: str, plan: BackupPlan) -> None:
    """Neither is lost, and each keeps its author."""
    with CopyInFlight(plan, guard_dsn) as copying:
        above_its_floor(copying)
        both = [
            threading.Thread(target=give, args=(copying, "limit", "250kB/s", "bob@laptop")),
            threading.Thread(target=give, args=(copying, "pause")),
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        wait_until(lambda: reason(copying) == "paused by alice@db1: checkout is slow", PROMISE)
        give(copying, "resume")
        wait_until(lambda: state(copying) is not PaceState.PAUSED, PROMISE)
        assert rate(copying) <= 250_000
        wait_until(lambda: reason(copying) == "limited to 250kB/s by bob@laptop: checkout is slow", 60)
        copying.stop.request("seen enough")
        copying.end()


def test_what_is_no_order_is_ignored_with_one_line(
    guard_dsn: str, plan: BackupPlan, caplog: pytest.LogCaptureFixture
) -> None:
    """Foreign content and unknown orders change nothing, are named once each, and real orders still count."""
    with caplog.at_level(logging.WARNING), CopyInFlight(plan, guard_dsn) as copying:
        prefix = orders_prefix(plan.name, copying.snapshot.backup_id)
        for name in ("000001.json", "note.txt"):
            copying.repository.put(f"{prefix}{name}", b'{"format": 1, "action": "explode"}')
        give(copying, "pause")
        wait_until(lambda: state(copying) is PaceState.PAUSED, PROMISE)
        time.sleep(PROMISE)
        copying.stop.request("seen enough")
        copying.end()
    lines = [record.getMessage() for record in caplog.records]
    for name in ("000001.json", "note.txt"):
        assert len([line for line in lines if f"{prefix}{name} cannot be read" in line]) == 1
    assert "Order: paused by alice@db1: checkout is slow" in lines
    assert [info.key for info in copying.repository.list("control/")] == [f"{prefix}000002.json"]  # for a retry


def test_a_repository_that_cannot_be_read_keeps_the_last_orders(
    guard_dsn: str, plan: BackupPlan, caplog: pytest.LogCaptureFixture
) -> None:
    """The pause holds and one line is logged; once it can be read again, so are its orders."""
    with caplog.at_level(logging.WARNING), CopyInFlight(plan, guard_dsn) as copying:
        given = give(copying, "pause")
        wait_until(lambda: state(copying) is PaceState.PAUSED)
        broken = (copying_to(plan) / given.key).with_name("000009.json")
        broken.symlink_to(broken)
        with pytest.raises(RepositoryUnavailable):
            list(copying.repository.list("control/"))
        time.sleep(2 * PROMISE)
        assert state(copying) is PaceState.PAUSED
        broken.unlink()
        give(copying, "resume")
        wait_until(lambda: "paused by" not in reason(copying), PROMISE)
        copying.stop.request("seen enough")
        copying.end()
    assert len([record for record in caplog.records if "cannot be read; the last ones stay" in record.message]) == 1


def test_a_ceiling_outlives_a_failed_try_and_ends_with_the_backup(
    server: LocalServer, guard_dsn: str, plan: BackupPlan
) -> None:
    """The retry of a copy that was cut off keeps to the limit; a whole backup leaves no order."""
    with CopyInFlight(plan, guard_dsn) as copying:
        given = give(copying, "limit", "3MB/s")
        assert control.wait_until_obeyed(copying.repository, given, 5)
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name ~ 'backup_guard'")
        copying.end()
    assert isinstance(copying.error, SourceUnavailable)
    assert control.running(copying.repository) == []
    retry = plan_for(copying_to(plan), max_rate="8MB/s", min_rate="3MB/s", limits=plan.limits)
    rates: list[int] = []
    there: set[str] = set()
    runs: set[str] = set()

    def look(progress: Progress) -> None:
        rates.append(progress.pace.rate)
        there.update(info.key for info in copying.repository.list("control/"))
        runs.update(found.backup_id for found in control.running(copying.repository))

    retried = copy(
        retry,
        copying.snapshot,
        guard_dsn,
        copying.repository,
        stop=Stop(),
        on_progress=look,
        baseline_seconds=BASELINE_SECONDS,
    )
    assert max(rates) <= 3_000_000
    assert there == {given.key, given.key.replace(".json", ".obeyed")}
    assert runs == {retried.backup_id}
    assert verify(retried, copying.repository).verdict is Verdict.VERIFIED
    assert list(copying.repository.list("control/")) == list(copying.repository.list("attempts/")) == []


def test_the_record_says_who_paused_it(guard_dsn: str, plan: BackupPlan) -> None:
    """A pause that people ordered is one in the account of the backup, with its author, reason and length."""
    quick = plan_for(copying_to(plan), max_rate="8MB/s", min_rate="3MB/s", limits=plan.limits)
    with CopyInFlight(quick, guard_dsn) as copying:
        give(copying, "pause")
        wait_until(lambda: state(copying) is PaceState.PAUSED, PROMISE)
        time.sleep(1)
        give(copying, "resume")
        copying.end()
    assert copying.record is not None, copying.error
    (pause,) = copying.record.impact.pauses
    assert pause.reason == "paused by alice@db1: checkout is slow"
    assert pause.seconds > 0.5


def test_a_stop_does_not_stop_the_retry(guard_dsn: str, plan: BackupPlan) -> None:
    """Whoever wants none has to say so to Airflow: a stop ends the try that runs, once."""
    with CopyInFlight(plan, guard_dsn) as copying:
        give(copying, "stop")
        copying.end()
    assert isinstance(copying.error, BackupStopped)
    fast = plan_for(copying_to(plan))
    retried = copy(
        fast, copying.snapshot, guard_dsn, copying.repository, stop=Stop(), baseline_seconds=BASELINE_SECONDS
    )
    assert retried.backup_id == copying.snapshot.backup_id


def test_an_order_between_snapshot_and_copy_waits_for_the_copy(guard_dsn: str, plan: BackupPlan) -> None:
    """A stop that comes before the first byte is obeyed, and the run's teardown leaves no order."""
    copying = CopyInFlight(plan, guard_dsn)
    give(copying, "limit", "500kB/s")
    stop = give(copying, "stop")
    assert control.wait_until_obeyed(copying.repository, stop, 0) is None
    with copying:
        copying.end()
    assert isinstance(copying.error, BackupStopped)
    assert control.wait_until_obeyed(copying.repository, stop, 0) is False
    assert control.wait_until_ended(copying.repository, stop, 0)
    assert control.orders_to(copying.repository, copying.snapshot).limit is not None
    close_attempt(plan, copying.snapshot, copying.repository, "the run ended without it")
    assert list(copying.repository.list("control/")) == []


# --- the command line


class Done:
    """How a command ended, and what it wrote."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def guard(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """``guard("running", "--json")``: runs a command in this process."""
    for name in ("BACKUP_GUARD_DSN", "BACKUP_GUARD_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Done:
        status = main(arguments)
        return Done(status, *capsys.readouterr())

    return run


def test_the_commands_of_the_page_control_a_copy(
    guard: Callable[..., Done], server: LocalServer, guard_dsn: str, plan: BackupPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the page's order each is obeyed within two seconds, and says so; the last one ends the copy."""
    monkeypatch.setenv("BACKUP_GUARD_REPOSITORY", plan.repository)
    script = PAGE.read_text(encoding="utf-8").partition("```sh\n")[2].partition("```")[0]
    commands = [shlex.split(line, comments=True)[1:] for line in script.splitlines() if line.startswith("backup-guard")]
    assert [words[0] for words in commands] == ["running", "pause", "resume", "limit", "limit", "stop"]
    with CopyInFlight(plan, guard_dsn) as copying:
        for number, words in enumerate(commands):
            done = guard(*(word.replace("20MB/s", "1MB/s") for word in words), *(["--json"] * (number % 2)))
            assert done.status == 0, done.out + done.err
            assert copying.snapshot.backup_id in done.out
            if number % 2:
                assert done.document["obeyed"] is True
                assert done.document["order"]["by"] == ME
                # The copy obeys within two seconds; the command looks for its answer every so often.
                assert done.document["seconds"] < PROMISE + 1
            if words[0] == "pause":
                assert f"paused by {ME}: " in guard("running").out
        copying.end()
    assert isinstance(copying.error, BackupStopped)
    assert done.document["ended"] is True
    assert_nothing_left(server, copying.repository, wait_until)


def test_an_order_to_what_does_not_run_is_refused(guard: Callable[..., Done], guard_dsn: str, plan: BackupPlan) -> None:
    """Exit status 1, and what runs instead; wrong rates are wrong use, and say what is allowed."""
    at = ("--repository", plan.repository)
    done = guard("stop", *at)
    assert (done.status, done.out) == (1, "")
    assert "Nothing runs" in done.err
    assert "no backup runs" in guard("running", *at).out
    nothing = {"repository": plan.repository, "running": [], "commands": []}
    assert guard("running", *at, "--json").document == nothing
    with CopyInFlight(plan, guard_dsn) as copying:
        runs = copying.snapshot.backup_id
        refused = guard("pause", "20200101T000000Z-0000", *at, "--json")
        assert refused.status == 1
        assert refused.document["error"]["type"] == "BackupNotRunning"
        assert f"{runs} of plan shop" in refused.document["error"]["remedy"]
        assert guard("pause", *at, "--plan-name", "other").status == 1
        for wrong in ("9MB/s", "100kB/s", "20", "fast"):
            refused = guard("limit", wrong, *at)
            assert refused.status == 2
            assert "Allowed: " in refused.err
        assert "MAX_RATE" in guard("limit", "9MB/s", runs, *at).err
        (entry,) = guard("running", *at, "--json").document["running"]
        assert entry["orders"] == {"pause": None, "limit": None, "stop": None}
        assert state(copying) is not PaceState.PAUSED


def test_a_copy_that_does_not_answer_is_said_to_be_silent(
    guard: Callable[..., Done], guard_dsn: str, plan: BackupPlan
) -> None:
    """Exit status 1: its worker may be dead, or it has yet to begin; the order stays."""
    waiting = CopyInFlight(plan, guard_dsn)
    done = guard("pause", "--repository", plan.repository, "--by", "night shift", "--json")
    assert done.status == 1
    assert done.document["obeyed"] is False
    pause = control.orders_to(waiting.repository, waiting.snapshot).pause
    assert pause is not None
    assert pause.by == "night shift"


def test_orders_go_through_s3(
    guard: Callable[..., Done], server: LocalServer, guard_dsn: str, plan: BackupPlan, s3_url: str
) -> None:
    """The same, from anywhere that reaches the bucket."""
    plan = plan_for(
        copying_to(plan),
        repository=s3_url,
        max_rate="8MB/s",
        min_rate="200kB/s",
        limits=plan.limits,
    )
    with CopyInFlight(plan, guard_dsn) as copying:
        give(copying, "pause")
        wait_until(lambda: state(copying) is PaceState.PAUSED, PROMISE)
        assert guard("resume", "--repository", s3_url).status == 0
        wait_until(lambda: "paused by" not in reason(copying), PROMISE)
        give(copying, "stop")
        wait_until(lambda: sessions(server) == 0, PROMISE)
        copying.end()
    assert isinstance(copying.error, BackupStopped)
    assert_nothing_left(server, copying.repository, wait_until)
    assert list(copying.repository.list("control/")) == []


@pytest.mark.parametrize("command", ["running", "pause", "resume", "limit", "stop"])
def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Each command says what it does, with an example, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "example:\n" in said
    assert max(map(len, said.splitlines())) < 80
