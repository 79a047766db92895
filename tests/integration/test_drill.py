"""Drills of real backups: what passes, what fails and why, and that nothing is ever left of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import AlertChannel, AlertRules, BackupPlan, DrillCheck, DrillPolicy, Rate
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.check import CheckStatus
from airflow_backup_guard.core.drill import DrillResult, drill_key
from airflow_backup_guard.core.runbook.facts import runbook_key
from airflow_backup_guard.core.verification import Level
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine import scratch as scratch_module
from airflow_backup_guard.engine.drill import drill
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import BackupStopped, RestoreRefused
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.drill_server import take_settings_out
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole
from tests.conftest import SMALL, need_major, prepare
from tests.integration.guarded import back_up, plan_for
from tests.webhook import Webhook

# What a server of another machine may well have, and what must not be done again by a copy of it.
OF_A_LARGE_SERVER = """
archive_mode = 'on'
archive_command = 'touch {folder}/archived'
listen_addresses = '*'
max_connections = 5000
primary_conninfo = 'host=192.0.2.1'
shared_buffers = '4TB'
ssl = 'on'
superuser_reserved_connections = 100
synchronous_standby_names = '*'
"""
QUIET = """
SELECT current_setting('listen_addresses') = '' AND current_setting('archive_mode') = 'off'
   AND current_setting('max_wal_senders') = '0' AND current_setting('primary_conninfo') = ''
   AND current_setting('transaction_read_only') = 'on' AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE
       backend_type IN ('archiver', 'walreceiver', 'walsender', 'autovacuum launcher', 'logical replication launcher'))
"""
CHECKS = {
    "orders": DrillCheck(sql="SELECT count(*) FROM orders", database="shop", min=1000),
    "newest order": DrillCheck(sql="SELECT max(at) FROM orders", database="shop", max_age="1h"),
    "quiet": DrillCheck(sql=QUIET),
}
LOST_PRELOAD = "shared_preload_libraries = 'auto_explain, lost_preload'\n"


class Made(NamedTuple):
    """A plan, a good backup, and one of the same cluster after things had gone wrong in it."""

    plan: BackupPlan
    repository: Repository
    good: BackupRecord
    bad: BackupRecord


@pytest.fixture(scope="module")
def made_on(tmp_path_factory: pytest.TempPathFactory, role_dsn: Callable[..., str]) -> Callable[[int], Made]:
    """``made_on(15)``: backups of a cluster of that version, with a tablespace; it is gone."""
    made: dict[int, Made] = {}

    def make(major: int) -> Made:
        need_major(major)
        policy = DrillPolicy(amcheck="full", checks=CHECKS, extensions=["plpgsql"])
        plan = plan_for(tmp_path_factory.mktemp("repository"), rpo="1h", rto="1h", drill=policy)
        with LocalServer.create(major=major, settings=SMALL) as server:
            prepare(server)
            home = server.data_directory.parent
            (space := home / "space").mkdir()
            account_for(server.data_directory).own(space)
            server.sql(f"CREATE TABLESPACE space LOCATION '{space}'; CREATE DATABASE shop")
            server.sql("ALTER DATABASE shop SET datestyle = 'German'")
            server.sql(
                "CREATE TABLE orders TABLESPACE space AS SELECT n, now() AS at FROM generate_series(1, 2000) n;"
                "CREATE INDEX ON orders (n)",
                "shop",
            )
            settings = server.data_directory / "postgresql.conf"
            with settings.open("a") as file:
                file.write(OF_A_LARGE_SERVER.format(folder=home))
            good = back_up(plan, role_dsn(server))
            library = Path(server.sql("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'"), "amcheck.so")
            lost = shutil.copy(library, home / "lost.so")
            account_for(server.data_directory).own(Path(lost))
            with settings.open("a") as file:
                file.write(LOST_PRELOAD)
            server.sql(
                f"CREATE FUNCTION lost(regclass) RETURNS void LANGUAGE c AS '{home}/lost', 'bt_index_check';"
                "INSERT INTO pg_extension VALUES (99999, 'postgis', 10, 11, true, '3.5', NULL, NULL);"
                "DELETE FROM orders WHERE n > 999;"
                "UPDATE pg_class SET relfrozenxid = pg_current_xact_id()::xid WHERE relname = 'orders'",
                "shop",
            )
            bad = back_up(plan, role_dsn(server))
        made[major] = Made(plan, open_repository(plan.repository), good, bad)
        return made[major]

    return lambda major: made.get(major) or make(major)


@pytest.fixture
def scratch(cluster_folder: Path) -> Iterator[Path]:
    """A folder that is not there yet; nothing is left in it, and no server on it, when the test is over."""
    folder = cluster_folder / "drills"
    yield folder
    assert servers_on(folder) == []
    assert not folder.exists() or [path.name for path in folder.iterdir()] in ([], [".backup-guard-drills"])


def servers_on(folder: Path) -> list[str]:
    """The processes of PostgreSQL that were started on a data directory in the folder."""
    done = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if f"-D {folder}/" in line]


def found(result: DrillResult) -> dict[str, tuple[str, str]]:
    """Status and text of each check."""
    return {check.name: (check.status.value, str(check)) for check in result.checks}


@pytest.mark.parametrize("major", [15, 18])
def test_a_good_backup_passes(made_on: Callable[[int], Made], major: int, scratch: Path) -> None:
    """Whatever its server was set up for, the copy runs here, alone and silent; the result is stored and timed."""
    made = made_on(major)
    stages: list[str] = []
    began = []
    plan = attrs.evolve(made.plan, rpo=None)
    result = drill(
        plan,
        made.good,
        made.repository,
        scratch=scratch,
        on_stage=stages.append,
        on_progress=lambda done, total: began.append(done <= total),
    )
    assert result.passed, result.problems
    assert stages == ["restore", "recovery", "checks"] == [stage.name for stage in result.stages]
    names = ["recovery", "extensions", "software", *(f"sql {name}" for name in CHECKS), "amcheck", "rto"]
    assert [check.name for check in result.checks] == names
    assert {status for status, _ in found(result).values()} == {"ok"}
    assert result.rto_seconds == sum(stage.seconds for stage in result.stages[:2])
    assert began and all(began)
    assert catalog.last_drill(made.repository, made.good) == result
    assert result.summary.startswith(f"PostgreSQL {major} ran on it")


@pytest.mark.parametrize("major", [15, 18])
def test_a_drill_says_what_is_wrong(made_on: Callable[[int], Made], major: int, scratch: Path) -> None:
    """A missing extension, a lost library, one that cannot be preloaded, too few rows, an error, a damaged table, and
    a missed objective are told by name, all in one drill."""
    made = made_on(major)
    checks = {**CHECKS, "gone": DrillCheck(sql="SELECT count(*) FROM gone", min=1)}
    checks["slow"] = DrillCheck(sql="SELECT pg_sleep(60)", timeout="1s")
    checks["writes"] = DrillCheck(sql="CREATE TABLE written (n int)", database="shop")
    policy = attrs.evolve(made.plan.drill, checks=checks, extensions=["plpgsql", "hstore"])
    plan = attrs.evolve(made.plan, drill=policy, rto="1ms", rpo="1ms")
    result = drill(plan, made.bad, made.repository, scratch=scratch)
    assert not result.passed
    said = found(result)
    bad = {name for name, (status, _) in said.items() if status == "failed"}
    own = {f"sql {name}" for name in ("orders", "gone", "slow", "writes")}
    assert bad == {"extensions", "software", "amcheck", "rto", "rpo", *own}
    assert "no database has hstore" in said["extensions"][1]
    assert "extension postgis (used by database shop)" in said["software"][1]
    assert "library lost_preload (used by shared_preload_libraries)" in said["software"][1]
    assert "/lost (used by database shop)" in said["software"][1]
    assert "auto_explain" not in said["software"][1]
    assert "999 is less than 1000" in said["sql orders"][1]
    assert 'relation "gone" does not exist' in said["sql gone"][1]
    assert "statement timeout" in said["sql slow"][1]
    assert "read-only transaction" in said["sql writes"][1]
    assert "orders" in said["amcheck"][1]
    assert catalog.last_drill(made.repository, made.bad) == result


def test_a_backup_that_does_not_restore_fails_its_drill(
    made_on: Callable[[int], Made], tmp_path: Path, scratch: Path
) -> None:
    """Damage ends the drill as a result that names the object, not as an error, and there is no RTO."""
    made = made_on(18)
    shutil.copytree(Path(made.plan.repository.removeprefix("file://")), tmp_path / "repository")
    repository = open_repository((tmp_path / "repository").as_uri())
    part = made.good.parts_of("archive")[-1]
    path = tmp_path / "repository" / part.key
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = drill(made.plan, made.good, repository, scratch=scratch)
    assert (result.passed, result.rto_seconds) == (False, None)
    assert part.key in found(result)["restore"][1]
    assert catalog.last_drill(repository, made.good) == result


@pytest.mark.parametrize("lost", ["manifest in the record", "all parts", "manifest", "archive", "wal"])
def test_a_backup_that_is_not_whole_fails_its_drill(
    made_on: Callable[[int], Made], tmp_path: Path, scratch: Path, lost: str
) -> None:
    """A record that names no manifest, or one whose objects are gone: a result that says so, and is stored."""
    made = made_on(18)
    shutil.copytree(Path(made.plan.repository.removeprefix("file://")), tmp_path / "repository")
    repository = open_repository((tmp_path / "repository").as_uri())
    record = made.good
    if lost == "manifest in the record":
        record = replace(record, parts=tuple(part for part in record.parts if part.kind != "manifest"))
        said = "is not that of a whole backup"
    else:
        gone = [part.key for part in record.parts if lost in ("all parts", part.kind)]
        repository.delete_all(gone)
        said = "/".join(gone[0].split("/")[:3])
    result = drill(made.plan, record, repository, scratch=scratch)
    assert (result.passed, result.rto_seconds) == (False, None)
    assert said in found(result)["restore"][1]
    assert catalog.last_drill(repository, record) == result
    verification = catalog.last_verification(repository, record)
    assert verification is not None
    assert [one.status for one in verification.evidence if one.level is Level.RESTORED] == [CheckStatus.FAILED]


def test_a_server_that_does_not_start_says_why(made_on: Callable[[int], Made], scratch: Path) -> None:
    """What the server said is the evidence, and a superuser that there is not is told with what to do."""
    made = made_on(18)
    plan = attrs.evolve(made.plan, drill=DrillPolicy(superuser="admin"))
    result = drill(plan, made.good, made.repository, scratch=scratch)
    assert "superuser=" in found(result)["server"][1] and not result.passed

    def spoil(stage: str) -> None:
        if stage == "recovery":
            (data,) = scratch.glob("drill-*/data")
            with (data / "postgresql.conf").open("a") as file:
                file.write("no_such_setting = 1\n")

    result = drill(made.plan, made.good, made.repository, scratch=scratch, on_stage=spoil)
    assert "no_such_setting" in found(result)["recovery"][1] and not result.passed


def test_reads_are_throttled(made_on: Callable[[int], Made], scratch: Path) -> None:
    """A restore of what is stored takes the time that ``max_rate`` gives it, and the result says so."""
    made = made_on(18)
    stored = sum(part.size for part in made.good.parts if part.kind != "telemetry")
    rate = Rate(stored / 2)
    plan = attrs.evolve(made.plan, drill=DrillPolicy(amcheck="off", max_rate=rate))
    result = drill(plan, made.good, made.repository, scratch=scratch)
    assert result.stages[0].seconds > 1.5
    assert f"reads limited to {rate}" in found(result)["rto"][1]


@pytest.mark.parametrize("stage", ["restore", "recovery", "checks"])
def test_a_stop_ends_it_at_once(made_on: Callable[[int], Made], scratch: Path, stage: str) -> None:
    """In every stage, in the middle of a long query too, and nothing is stored of a drill that did not end."""
    made = made_on(18)
    made.repository.delete(drill_key(made.good.plan_name, made.good.backup_id))
    stop = Stop()
    asleep = {"asleep": DrillCheck(sql="SELECT pg_sleep(60)")}
    plan = attrs.evolve(made.plan, drill=DrillPolicy(checks=asleep, max_rate="1MB/s" if stage == "restore" else None))

    def ask(reached: str) -> None:
        if reached == stage:
            threading.Timer(0.0 if stage == "recovery" else 0.5, stop.request, ["the test"]).start()

    with pytest.raises(BackupStopped, match="the test"):
        drill(plan, made.good, made.repository, scratch=scratch, stop=stop, on_stage=ask)
    assert catalog.last_drill(made.repository, made.good) is None


def refusals(made: Made, folder: Path) -> Iterator[tuple[Path, str]]:
    """Folders that are not for drills, each with a word of the reason."""
    data = folder / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("18\n")
    yield data, "is a data directory"
    yield data / "inside", "is in the data directory"
    yield folder, "is not empty: it holds data"
    yield data / "PG_VERSION", "is in the data directory"
    repository = Path(made.plan.repository.removeprefix("file://"))
    yield repository, "the repository"
    yield repository / "drills", "the repository"
    yield repository.parent, "the repository"
    link = folder / "link"
    link.symlink_to(folder / "elsewhere")
    yield link, "is a symbolic link"
    yield folder / "not" / "mounted", "cannot be used: No such file"


def test_what_looks_like_production_is_refused(made_on: Callable[[int], Made], cluster_folder: Path) -> None:
    """Nothing is written to, or removed from, a folder that is not for drills."""
    made = made_on(18)
    for folder, why in refusals(made, cluster_folder):
        before = sorted(cluster_folder.rglob("*"))
        with pytest.raises(RestoreRefused, match=why):
            drill(made.plan, made.good, made.repository, scratch=folder)
        assert sorted(cluster_folder.rglob("*")) == before


def test_too_small_a_disk_is_refused(
    made_on: Callable[[int], Made], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a byte is read."""
    made = made_on(18)
    monkeypatch.setattr(scratch_module, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(RestoreRefused, match="a drill of this backup needs"):
        drill(made.plan, made.good, made.repository, scratch=scratch, on_stage=pytest.fail)


def test_a_drill_sweeps_what_a_dead_one_left(made_on: Callable[[int], Made], scratch: Path) -> None:
    """Its folder and the server that runs on it go; a stranger that has got the server's number lives; so does the
    folder of a drill that runs."""
    made = made_on(18)
    plan = attrs.evolve(made.plan, drill=DrillPolicy(amcheck="off"))
    dead, strange = scratch / "drill-dead", scratch / "drill-strange"
    (strange / "data").mkdir(parents=True)
    dead.mkdir()
    for folder in (scratch, dead):
        folder.chmod(0o711)
    spaces = {made.good.tablespaces[0].location: dead / "space"}
    restore(made.good, made.repository, dead / "data", tablespaces=spaces)
    take_settings_out(dead / "data")
    second: list[DrillResult] = []

    def meanwhile(stage: str) -> None:
        if stage == "checks":
            second.append(drill(plan, made.good, made.repository, scratch=scratch))

    small = {"shared_buffers": "16MB", "max_connections": "20", "superuser_reserved_connections": "3"}
    with ExitStack() as stack:
        left = stack.enter_context(LocalServer(dead / "data", settings=small))
        stranger = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(stranger.kill)
        (strange / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n{strange}/data\n")
        result = drill(plan, made.good, made.repository, scratch=scratch, on_stage=meanwhile)
        assert not left.running
        assert stranger.poll() is None
    assert result.passed and second[0].passed


def test_the_command(
    made_on: Callable[[int], Made], scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It tells all of it, in words and as JSON; the status is 0 only for what passes; what is kept starts again."""
    made = made_on(18)
    options = ["drill", made.good.backup_id, f"--repository={made.plan.repository}", f"--scratch={scratch}"]
    assert main([*options, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["passed"], answer["problems"], answer["kept"]) == (True, [], None)
    assert answer["backup_id"] == made.good.backup_id
    assert main(["show", made.good.backup_id, f"--repository={made.plan.repository}"]) == 0
    assert "passed, at 20" in capsys.readouterr().out
    assert main([options[0], *options[2:]]) == 1
    said = capsys.readouterr().out
    assert f"Backup {made.bad.backup_id} of plan shop FAILED its drill, on PostgreSQL 18." in said
    assert "extension postgis (used by database shop)" in " ".join(said.split())
    assert main([*options[:3], f"--scratch={tmp_path}"]) == 1 or tmp_path.owner() != "root"
    capsys.readouterr()
    assert main([*options, "--keep", "--json"]) == 0
    data = Path(json.loads(capsys.readouterr().out)["kept"])
    assert main([*options, "--json"]) == 0
    assert (data / "PG_VERSION").read_text() == "18\n"
    shutil.rmtree(data.parent)


def test_an_encrypted_backup(
    server: LocalServer, guard_dsn: str, tmp_path: Path, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its identity it is drilled as any other, without it there is no drill."""
    pyrage = pytest.importorskip("pyrage")
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "age.key").write_text(f"# a test's\n{identity}\n")
    plan = plan_for(tmp_path / "repository", recipients=[str(identity.to_public())])
    back_up(plan, guard_dsn)
    options = ["drill", f"--repository={plan.repository}", f"--scratch={scratch}"]
    assert main(options) == 2
    assert "is encrypted" in capsys.readouterr().err
    assert main([*options, f"--identity={tmp_path / 'age.key'}"]) == 0
    assert "passed its drill" in capsys.readouterr().out


class Told:
    """What a task tells Airflow."""

    def __init__(self) -> None:
        self.pushed: dict[str, str] = {}

    def xcom_push(self, key: str, value: str) -> None:
        """As a task instance's."""
        self.pushed[key] = value


def test_the_operator_tells_of_what_fails(made_on: Callable[[int], Made], scratch: Path, cluster_folder: Path) -> None:
    """What passes is returned, and the runbook is kept; what fails, or cannot be tried, fails the task without a retry,
    and the plan's channels hear why; a task that was stopped fails, and nobody is told."""
    from airflow.sdk.exceptions import AirflowFailException

    from airflow_backup_guard.operators import RestoreDrillOperator

    made = made_on(18)
    told = Told()
    context: Any = {"ti": told}
    with Webhook() as hook:
        channel = AlertChannel(name="hook", notifier="tests.webhook.Teller", arguments={"url": hook.connection})
        alerts = AlertRules(channels=[channel])
        plan = attrs.evolve(made.plan, alerts=alerts, drill=DrillPolicy(amcheck="off", scratch=str(scratch)), rpo=None)
        made.repository.delete(runbook_key("shop", ".md"))
        good = RestoreDrillOperator(task_id="good", plan=plan, backup={"backup_id": made.good.backup_id})
        assert good.execute(context)["passed"] is True
        assert made.good.backup_id.encode() in read_whole(made.repository, runbook_key("shop", ".md"))
        assert (told.pushed, hook.told) == ({}, [])
        with pytest.raises(AirflowFailException, match="postgis"):
            RestoreDrillOperator(task_id="bad", plan=plan).execute(context)
        assert "extension postgis" in told.pushed["problem"]
        strange = RestoreDrillOperator(task_id="strange", plan=plan, scratch=str(cluster_folder))
        with pytest.raises(AirflowFailException, match="is not empty"):
            strange.execute(context)
        texts = [message["text"] for message in hook.about("shop/drill.failed")]
        assert ["extension postgis" in texts[0], "is not empty" in texts[1]] == [True, True]
        good.on_kill()
        with pytest.raises(BackupStopped):
            good.execute(context)
        assert len(hook.told) == len(texts) == 2
