"""Guarded commands: held, paced, ended as a whole, and never left standing, whoever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_backup_guard.core import BackupPlan, LoadLimits, OffPeakCalendar
from airflow_backup_guard.core.backup import load
from airflow_backup_guard.core.command import CommandReceipt, GuardedCommand
from airflow_backup_guard.core.control import Action, Order
from airflow_backup_guard.core.duty import Slices
from airflow_backup_guard.core.load import Phase
from airflow_backup_guard.core.pace import PaceState
from airflow_backup_guard.engine import catalog, control, supervisor
from airflow_backup_guard.engine.command import CommandProgress, run_command
from airflow_backup_guard.engine.command_output import file_output
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.supervised import SupervisedCommand
from airflow_backup_guard.errors import (
    BackupStopped,
    BudgetSpent,
    CommandEscaped,
    CommandLost,
    CommandNotExecutable,
    CommandNotFound,
    InvalidPlan,
    PreflightNotYet,
)
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.codec import open_decoded
from airflow_backup_guard.repository.read import read_whole
from tests.integration.guarded import plan_for, wait_until

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tell who descends from whom")
ALL_OF_THE_TIME = Slices(1.0, 0.0)
# It says who it is, then works, and does not mind SIGTERM; its child is in a session of its own.
STUBBORN = "trap '' TERM HUP; echo me $$; setsid sh -c \"trap '' TERM HUP; echo me \\$\\$; while :; do :; done\" & wait"


def command(*words: str, **options: Any) -> GuardedCommand:
    """A command in the environment of the tests."""
    return GuardedCommand(words, dict(os.environ), **{"grace": timedelta(seconds=0.3), **options})


class Log:
    """Lines of a command, and the processes that named themselves in them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    @property
    def named(self) -> list[psutil.Process]:
        """Those that live."""
        pids = [int(line.split()[1]) for line in self.lines if line.startswith("me ")]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended; a zombie has, too."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_command_that_ends_by_itself_tells_its_status_and_its_log() -> None:
    """Both streams, line by line, whatever the bytes, a line without an end among them; a signal counts as minus n."""
    log = Log()
    script = r"printf 'one\ntwo\rthree\n\n\377'; echo four >&2; exit 7"
    with SupervisedCommand(command("sh", "-c", script), log, ALL_OF_THE_TIME) as process:
        assert process.wait(10)
        process.check()
    assert process.returned == 7
    assert sorted(log.lines) == sorted(["one", "two", "three", "\\xfffour"]) or "four" in log.lines
    with SupervisedCommand(command("sh", "-c", "kill -9 $$"), log, ALL_OF_THE_TIME) as process:
        assert process.wait(10)
    assert process.returned == -9


@pytest.mark.parametrize(
    ("words", "folder", "error", "said"),
    [
        (["no-such-program"], None, CommandNotFound, "no-such-program is not found"),
        (["/etc/passwd"], None, CommandNotExecutable, "/etc/passwd cannot be run: Permission denied"),
        (["true"], "/no/such/folder", CommandNotFound, "The folder /no/such/folder is not there"),
    ],
)
def test_a_command_that_cannot_begin_says_why(
    words: list[str], folder: str | None, error: type[Exception], said: str
) -> None:
    """Not found, not executable, and no folder to run in, are told apart."""
    with pytest.raises(error, match=said):
        SupervisedCommand(command(*words, folder=folder), Log(), ALL_OF_THE_TIME).__enter__()


def test_a_script_without_an_interpreter_cannot_be_run(tmp_path: Path) -> None:
    """What the kernel cannot read is named as such."""
    script = tmp_path / "script"
    script.write_bytes(b"\0\0no program\n")
    script.chmod(0o755)
    with pytest.raises(CommandNotExecutable, match="Exec format error"):
        SupervisedCommand(command(str(script)), Log(), ALL_OF_THE_TIME).__enter__()


def test_a_held_command_runs_for_its_share_of_the_time() -> None:
    """A fifth of the time, by the processor time of what would use all of it; and it goes on where it stood."""
    with SupervisedCommand(command("sh", "-c", "while :; do :; done"), Log(), Slices(0.02, 0.08)) as process:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert not process.wait(0.1)
            process.hold(Slices(0.02, 0.08))
    share = process.running / (process.running + process.stopped)
    assert 0.1 < share < 0.35
    assert process.returned == -signal.SIGTERM


@LINUX
def test_all_of_it_stands_still_and_all_of_it_goes_on() -> None:
    """The child that left for a session of its own, too; a guard that falls silent leaves it to its floor."""
    log = Log()
    held = command("sh", "-c", STUBBORN, max_stop=timedelta(seconds=60))
    with SupervisedCommand(held, log, ALL_OF_THE_TIME) as process:
        wait_until(lambda: len(log.named) == 2)
        process.hold(Slices(0.02, 60.0))
        wait_until(lambda: all(found.status() == psutil.STATUS_STOPPED for found in log.named))
        assert all(found.nice() >= 10 for found in log.named)
        wait_until(lambda: all(found.status() != psutil.STATUS_STOPPED for found in log.named))  # nobody gave an order


@LINUX
def test_nothing_of_a_command_outlives_its_end() -> None:
    """It stands still, ignores SIGTERM, and has a child elsewhere: all are killed after the grace, and named."""
    log = Log()
    with SupervisedCommand(command("sh", "-c", STUBBORN), log, ALL_OF_THE_TIME) as process:
        wait_until(lambda: len(log.named) == 2)
        named = log.named
        process.hold(Slices(0.02, 10.0))
        wait_until(lambda: all(found.status() == psutil.STATUS_STOPPED for found in named))
    assert all(map(is_gone, named))
    assert process.returned == -signal.SIGKILL
    assert any("SIGTERM did not end it" in warning for warning in process.warnings())


@LINUX
def test_a_command_that_leaves_processes_behind_is_no_success() -> None:
    """A daemon that it started is ended and named, though the command itself said that all went well."""
    log = Log()
    script = "setsid sh -c 'echo me $$; exec sleep 1000' & sleep 0.2"
    with SupervisedCommand(command("sh", "-c", script), log, ALL_OF_THE_TIME) as process:
        wait_until(lambda: log.named)
        named = log.named
        assert process.wait(10)
        assert process.returned == 0
        with pytest.raises(CommandEscaped, match=r"left processes behind.*sleep"):
            process.check()
    assert all(map(is_gone, named))


GUARD = r"""
import sys, time
from datetime import datetime, timedelta, timezone
from airflow_backup_guard.core.command import GuardedCommand
from airflow_backup_guard.core.control import Action, Order
from airflow_backup_guard.core.duty import Slices
from airflow_backup_guard.engine.supervised import SupervisedCommand
command = GuardedCommand(("sh", "-c", sys.argv[1]), {"PATH": "/usr/bin:/bin"}, grace=timedelta(seconds=0.3))
with SupervisedCommand(command, lambda line: print(line + "\n", end="", flush=True), Slices(0.1, 0.5)) as process:
    print(f"supervisor {process._process.pid}\n", end="", flush=True)
    while True:
        process.hold(Slices(0.1, 0.5))
        process.wait(0.1)
"""


@contextmanager
def guard_elsewhere(script: str, processes: int) -> Iterator[tuple[subprocess.Popen[str], int, list[psutil.Process]]]:
    """A guard in a process of its own that holds a command: the guard, its supervisor, and all that stands still."""
    guard = subprocess.Popen([sys.executable, "-c", GUARD, script], stdout=subprocess.PIPE, text=True)
    named: list[psutil.Process] = []
    try:
        assert guard.stdout is not None
        said = [guard.stdout.readline().split() for _ in range(processes + 1)]
        pids = {who: [int(pid) for name, pid in said if name == who] for who in ("me", "supervisor")}
        named += [psutil.Process(pid) for pid in pids["me"]]
        wait_until(lambda: all(found.status() == psutil.STATUS_STOPPED for found in named))
        yield guard, pids["supervisor"][0], named
    finally:
        guard.kill()
        guard.communicate()
        for process in named:
            if not is_gone(process):
                process.kill()


@LINUX
def test_the_death_of_the_guard_leaves_no_process_stopped_or_running() -> None:
    """After kill -9, all that it held is ended, SIGTERM ignored or not, with the child in its own session."""
    with guard_elsewhere(STUBBORN, 2) as (guard, _, named):
        guard.kill()
        wait_until(lambda: all(map(is_gone, named)))


@LINUX
def test_the_death_of_guard_and_supervisor_at_once_leaves_nothing_stopped() -> None:
    """Nobody of ours is left: the kernel itself continues the command and tells it to end."""
    with guard_elsewhere("echo me $$; while :; do :; done", 1) as (guard, supervisor, named):
        os.kill(supervisor, signal.SIGSTOP)  # so that it cannot see the guard's death first
        guard.kill()
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: all(map(is_gone, named)))


@LINUX
def test_the_death_of_the_supervisor_is_an_error_and_ends_the_command() -> None:
    """The guard says so, though the command ignores SIGTERM."""
    log = Log()
    script = "trap '' TERM HUP; echo me $$; while :; do :; done"
    with SupervisedCommand(command("sh", "-c", script), log, ALL_OF_THE_TIME) as process:
        wait_until(lambda: log.named)
        named = log.named
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(CommandLost, match="was killed"):
            process.wait(10)
    wait_until(lambda: all(map(is_gone, named)))


@LINUX
def test_a_command_that_becomes_another_user_is_no_success(cluster_folder: Path, is_root: bool) -> None:
    """As sudo does it: it cannot be held, which the supervisor tells, and the guard with what to do about it."""
    account = account_for(Path("/"))
    setpriv, python = shutil.which("setpriv"), shutil.which("python3", path="/usr/bin:/bin")
    if not is_root or setpriv is None or python is None or os.statvfs(cluster_folder).f_flag & os.ST_NOSUID:
        pytest.skip("only root can make a program that becomes another user; it takes setpriv, and Python for all")
    becomes_root, program = cluster_folder / "becomes_root", cluster_folder / "supervisor.py"
    shutil.copy(setpriv, becomes_root)
    becomes_root.chmod(0o4755)
    shutil.copy(supervisor.__file__, program)
    program.chmod(0o644)
    words = [str(becomes_root), "--reuid=0", "--regid=0", "--clear-groups", "/bin/sleep", "0.7"]
    asked = {"environment": {}, "folder": None, "output": None, "nice": 10, "io_class": None, "grace": 0.1}
    order = {**asked, "command": words, "max_stop": 1, "unheard": [0.02, 0.1]}
    with subprocess.Popen(
        [python, "-I", "-S", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        **account.options(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        events = {event["event"]: event for event in map(json.loads, process.stdout)}
    assert events["exited"]["status"] == 0
    (foreign,) = [name for name in events["ended"]["foreign"] if name.startswith("sleep ")]
    with SupervisedCommand(command("true"), Log(), ALL_OF_THE_TIME) as ended:
        assert ended.wait(10)
        ended.foreign = [foreign]
        with pytest.raises(CommandEscaped, match=r"could not be signalled: sleep .*as that user"):
            ended.check()


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    """A plan under which the load of this machine decides nothing."""
    limits = LoadLimits(commit_latency=("20s", "60s"))
    return plan_for(tmp_path / "backups", max_rate="64MB/s", min_rate="16MB/s", limits=limits)


Run = Callable[..., CommandReceipt]


@pytest.fixture
def run(plan: BackupPlan, guard_dsn: str) -> Run:
    """``run(command, …)``: under the plan, with its repository."""

    def start(given: GuardedCommand, **options: Any) -> CommandReceipt:
        defaults: dict[str, Any] = {"stop": Stop(), "repository": open_repository(plan.repository)}
        chosen = {**defaults, "baseline_seconds": 0.3, **options}
        return run_command(chosen.pop("plan", plan), given, chosen.pop("dsn", guard_dsn), **chosen)

    return start


def kept(plan: BackupPlan) -> CommandReceipt:
    """The one receipt in the repository."""
    repository = open_repository(plan.repository)
    (key,) = [found.key for found in repository.list("commands/") if found.key.endswith(".json")]
    return load(CommandReceipt, read_whole(repository, key), key)


def test_a_guarded_command_has_a_receipt_and_telemetry(run: Run, plan: BackupPlan) -> None:
    """What was felt, how long it stood, and why; kept in the repository without a secret, and never as a backup."""
    log, seen = Log(), []
    script = "echo the secret is $TOKEN; sleep 1.5; exit 3"
    given = replace(command("sh", "-c", script), environment={**os.environ, "TOKEN": "hunter22"})
    receipt = run(given, on_line=log, on_progress=seen.append)
    assert receipt.exit_status == 3
    assert receipt.outcome is None
    assert 0 < receipt.seconds_stopped < receipt.seconds
    assert receipt.impact is not None
    assert receipt.impact.during.samples > 0
    assert receipt.impact.seconds_throttled > 0
    assert log.lines == ["the secret is ***"]
    assert {progress.phase for progress in seen} == set(Phase)
    assert seen[-1].share is not None
    assert kept(plan) == receipt
    repository = open_repository(plan.repository)
    (part,) = receipt.parts
    lines = [json.loads(line) for line in open_decoded(repository, part.key).read().splitlines()]
    assert {line["phase"] for line in lines} == {"before", "during", "after"}
    assert list(catalog.backups(repository)) == []
    assert control.running(repository) == []


def test_stdout_is_paced_into_the_repository(run: Run, plan: BackupPlan) -> None:
    """It is stored as it was written, at no more than the rate, and the receipt knows its digest; the log is apart."""
    log = Log()
    script = "head -c 4000000 /dev/zero; echo done >&2"
    slow = plan_for(Path(plan.repository.removeprefix("file://")), max_rate="4MB/s", min_rate="2MB/s")
    began = time.monotonic()
    receipt = run(command("sh", "-c", script, paces_stdout=True), plan=slow, store="shop.dump", on_line=log)
    assert time.monotonic() - began > 0.9
    assert receipt.exit_status == 0
    assert receipt.output_size == 4_000_000
    assert receipt.seconds_stopped == 0
    assert log.lines == ["done"]
    stored = receipt.stored
    assert stored is not None
    assert stored.key == f"commands/shop/{receipt.command_id}/shop.dump.zst"
    with open_decoded(open_repository(plan.repository), stored.key) as reader:
        assert reader.read() == bytes(4_000_000)
        assert reader.stored_sha256 == stored.sha256


def test_a_file_appears_only_after_success(run: Run, tmp_path: Path) -> None:
    """An older one stays where the command fails, and takes its place where it does not; nothing else is left."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    path = folder / "shop.dump"
    path.write_text("the old one")
    failed = run(command("sh", "-c", "echo half; exit 4", paces_stdout=True), output=file_output(str(path)))
    assert failed.exit_status == 4
    assert path.read_text() == "the old one"
    assert [found.name for found in folder.iterdir()] == ["shop.dump"]
    assert run(command("echo", "whole", paces_stdout=True), output=file_output(str(path))).exit_status == 0
    assert path.read_text() == "whole\n"
    with pytest.raises(InvalidPlan, match="output"):
        file_output(str(tmp_path / "no folder" / "x"))


class InFlight:
    """A run in a thread, ended by the test or by itself."""

    def __init__(self, run: Run, given: GuardedCommand, **options: Any) -> None:
        self.stop = Stop()
        self.log = Log()
        self.last: CommandProgress | None = None
        self.error: Exception | None = None
        self.receipt: CommandReceipt | None = None

        def work() -> None:
            try:
                self.receipt = run(given, stop=self.stop, on_line=self.log, on_progress=self._see, **options)
            except Exception as error:
                self.error = error

        self._thread = threading.Thread(target=work, daemon=True)

    def _see(self, progress: CommandProgress) -> None:
        self.last = progress

    def __enter__(self) -> InFlight:
        self._thread.start()
        wait_until(lambda: self.log.named or self.error)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.request("the test is over")
        self.end()

    def end(self) -> None:
        """Wait for it."""
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("paces", [False, True], ids=["processes", "stdout"])
def test_a_stop_ends_the_command_and_keeps_why(run: Run, plan: BackupPlan, paces: bool) -> None:
    """No process and no output are left, and the receipt says who asked."""
    script = "echo me $$ >&2; while :; do echo some output; sleep 0.01; done"
    options = {"store": "shop.dump"} if paces else {}
    with InFlight(run, command("sh", "-c", script, paces_stdout=paces), **options) as flight:
        named = flight.log.named
        flight.stop.request("alice")
        flight.end()
    assert isinstance(flight.error, BackupStopped)
    assert all(map(is_gone, named))
    receipt = kept(plan)
    assert receipt.exit_status is None
    assert receipt.outcome is not None
    assert "alice" in receipt.outcome
    assert receipt.parts == ()
    assert [found.key for found in open_repository(plan.repository).list("commands/shop/")] == [
        f"commands/shop/{receipt.command_id}.json"
    ]


def test_critical_load_makes_it_stand_still(run: Run, plan: BackupPlan) -> None:
    """A limit that every commit exceeds: it stands for as long as it may, runs a sliver, and the receipt says why."""
    limits = LoadLimits(commit_latency=("0.001ms", "0.002ms"))
    loaded = plan_for(Path(plan.repository.removeprefix("file://")), max_rate="64MB/s", min_rate="1MB/s", limits=limits)
    given = command("sh", "-c", "echo me $$; while :; do :; done", max_stop=timedelta(seconds=2))
    with InFlight(run, given, plan=loaded) as flight:
        (named,) = flight.log.named
        wait_until(lambda: flight.last is not None and flight.last.stood > 2.5, 20)
        assert flight.last is not None
        assert flight.last.pace.state is PaceState.PAUSED
        assert flight.last.ran < 0.3 * flight.last.stood
        flight.stop.request("enough")
        flight.end()
    assert is_gone(named)
    impact = kept(plan).impact
    assert impact is not None
    assert impact.seconds_paused > 2.5
    assert "commit latency" in flight.last.pace.reason


def test_a_budget_that_is_spent_ends_it(run: Run, plan: BackupPlan) -> None:
    """The plan's max_duration, named in the error."""
    short = plan_for(Path(plan.repository.removeprefix("file://")), max_duration="1s")
    with pytest.raises(BudgetSpent, match=r"max_duration"):
        run(command("sleep", "100"), plan=short)
    outcome = kept(plan).outcome
    assert outcome is not None
    assert "max_duration" in outcome


def test_it_does_not_begin_outside_of_the_window(run: Run, plan: BackupPlan, tmp_path: Path) -> None:
    """Nothing is run, and nothing stored, unless it is told to begin all the same."""
    touched = tmp_path / "touched"
    never = OffPeakCalendar.parse(f"{(datetime.now(timezone.utc) - timedelta(days=3)):%a} 00:00-01:00", tz="UTC")
    closed = plan_for(tmp_path / "backups", calendar=never)
    with pytest.raises(PreflightNotYet, match="off-peak window"):
        run(command("touch", str(touched)), plan=closed)
    assert not touched.exists()
    assert list(open_repository(plan.repository).list("commands/")) == []
    assert run(command("touch", str(touched)), plan=closed, outside_window=True).exit_status == 0


def test_a_database_that_does_not_answer_keeps_it_at_its_floor(run: Run) -> None:
    """Unknown is not quiet, and no reason to fail a command that reaches its own data."""
    seen: list[CommandProgress] = []
    receipt = run(command("sleep", "1"), dsn="host=127.0.0.1 port=1 user=nobody", on_progress=seen.append)
    assert receipt.exit_status == 0
    assert {progress.pace.rate for progress in seen if progress.phase is Phase.DURING} == {16_000_000}


def test_orders_reach_a_command(run: Run, plan: BackupPlan) -> None:
    """It is found among what runs, paused, limited to a share of the time, and stopped, each within two seconds."""
    repository = open_repository(plan.repository)

    def order(action: Action, max_rate: str | None = None) -> None:
        given = control.give(
            repository, control.find(repository), Order(1, action, "alice", "", datetime.now(timezone.utc), max_rate)
        )
        assert control.wait_until_obeyed(repository, given, 5) is not None

    with InFlight(run, command("sh", "-c", "echo me $$; while :; do :; done")) as flight:
        order(Action.PAUSE)
        wait_until(lambda: flight.last is not None and flight.last.pace.state is PaceState.PAUSED)
        order(Action.RESUME)
        order(Action.LIMIT, "16MB/s")
        wait_until(lambda: flight.last is not None and flight.last.share == 0.25)
        order(Action.STOP)
        flight.end()
    assert isinstance(flight.error, BackupStopped)
    assert "alice" in str(flight.error)
    assert control.running_commands(repository) == []
    assert list(repository.list("control/")) == []


def test_after_a_starved_gate_it_stays_at_its_floor(run: Run) -> None:
    """A quarter of the time here, and its ceiling is no more than that."""
    seen: list[CommandProgress] = []
    assert run(command("sleep", "0.3"), at_floor=True, on_progress=seen.append).exit_status == 0
    assert {progress.share for progress in seen} == {0.25}
    assert seen[-1].pace.ceiling == 16_000_000
