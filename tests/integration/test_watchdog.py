"""The watchdog against real servers: it names every backup of others, and takes nothing else for one."""

from __future__ import annotations

import asyncio
import getpass
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import AllowRule, BackupPlan, LoadLimits, OffPeakCalendar, WatchdogPolicy
from airflow_backup_guard.core.backup import load
from airflow_backup_guard.core.check import CheckStatus
from airflow_backup_guard.core.names import session_name
from airflow_backup_guard.core.rogue import Certainty, Kind, RunningBackup, Sighting
from airflow_backup_guard.engine.response import Evidence, Outcome, evidence_key, respond
from airflow_backup_guard.engine.snapshot import check
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.watchdog import look, refuse_blind, watch
from airflow_backup_guard.errors import BackupStopped, SourceUnsuitable
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.read import read_whole
from tests.integration.guarded import CopyInFlight, plan_for, wait_until

RoleDsn = Callable[..., str]
Popen = subprocess.Popen[Any]
SOON_SECONDS = 5
# Nobody reads what these write: they last until they are ended.
BASE_BACKUP = ("pg_basebackup", "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast")
FILL = "CREATE TABLE filler AS SELECT n, repeat('x', 500) AS text FROM generate_series(1, 40000) n"
SCRIPTS = "CREATE ROLE scripts LOGIN REPLICATION IN ROLE pg_read_all_data"


@contextmanager
def running(server: LocalServer, program: str, *arguments: str, **options: Any) -> Iterator[Popen]:
    """One of PostgreSQL's programs whose output nobody reads, until the end of the block."""
    process = server.popen(program, *arguments, stdout=subprocess.PIPE, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def sight(dsn: str, **values: Any) -> Sighting:
    """One look."""
    return asyncio.run(look(dsn, **values))


def until_seen(dsn: str, kind: Kind, least: Certainty = Certainty.CERTAIN, **values: Any) -> RunningBackup:
    """The first backup of this kind that is seen this surely."""
    found: list[RunningBackup] = []

    def seen() -> bool:
        found[:] = [b for b in sight(dsn, **values).backups if b.kind is kind and b.certainty is least]
        return bool(found)

    wait_until(seen, 30)
    return found[0]


def closed_now() -> OffPeakCalendar:
    """A calendar whose window is hours away."""
    later = datetime.now(timezone.utc) + timedelta(hours=6)
    return OffPeakCalendar.parse(f"daily {later:%H}:00-{later:%H}:30", tz="UTC")


def test_the_incident_replayed(new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path) -> None:
    """At noon, under load, a script runs pg_basebackup and pg_dump: each is named within seconds, with its cause and
    one alert; then each is ended, the evidence is kept, the load goes on, and whoever answers again does nothing."""
    server = new_server()
    server.run("pgbench", "--initialize", "--scale=5", "--quiet")
    server.sql(SCRIPTS + "; ALTER DATABASE postgres SET datestyle = 'German'")
    folder = tmp_path / "backups"
    policy = WatchdogPolicy(policy="terminate", grace="1s", allow=[AllowRule(user="somebody else")])
    plan = plan_for(folder, calendar=closed_now(), watchdog=policy)
    repository = open_repository(plan.repository)
    dsn = role_dsn(server, "watchdog")
    named: dict[str, float] = {}

    async def name_them(stack: ExitStack) -> list[Popen]:
        async with aclosing(watch(plan, dsn, repository)) as sightings:
            assert (await anext(sightings)).backups == ()
            began = time.monotonic()
            options = ("--username=scripts",)
            rogues = [
                stack.enter_context(running(server, *BASE_BACKUP, "--max-rate=1M", *options)),
                stack.enter_context(running(server, "pg_dump", *options)),
            ]
            while set(named) != {"pg_basebackup", "pg_dump"}:
                for found in (await anext(sightings)).rogues:
                    named.setdefault(found.program, time.monotonic() - began)
            return rogues

    told: list[tuple[str, str]] = []
    with ExitStack() as stack:
        load_of_shop = server.popen("pgbench", "--client=4", "--time=120", "--rate=100")
        rogues = asyncio.run(asyncio.wait_for(name_them(stack), 60))
        assert max(named.values()) < SOON_SECONDS, named
        seen = sight(dsn, plan=plan, repository=repository).rogues

        def answer(responder: str) -> list[Outcome]:
            tell = lambda rogue, title, text: told.append((title, text))  # noqa: E731
            return respond(plan, seen, dsn, repository, responder=responder, tell=tell, stop=Stop())

        outcomes = answer("run 1")
        assert {outcome.state for outcome in outcomes} == {"ended"}, outcomes
        assert [[action.action for action in o.actions] for o in outcomes] == [["alerted", "ending", "ended"]] * 2
        for process in rogues:
            process.communicate(timeout=10)
            assert process.returncode != 0
        assert sight(dsn).backups == ()
        assert load_of_shop.poll() is None
        assert answer("run 2") == []
        assert answer("run 1") == outcomes
        assert len(told) == 2
    assert {"pg_basebackup" in title or "pg_dump" in title for title, _ in told} == {True}
    for cause in ("sends a base backup", "fast checkpoint", "in pg_dump's own words", "role scripts"):
        assert any(cause in text for _, text in told), cause
    for found in seen:
        key = evidence_key(plan.name, found.id)
        evidence = load(Evidence, read_whole(repository, key), key)
        assert (evidence.backup.program, evidence.responder, evidence.in_window) == (found.program, "run 1", False)
        key = key.replace(".json", ".outcome.json")
        assert load(Outcome, read_whole(repository, key), key).state == "ended"


def test_nothing_else_is_taken_for_a_backup(
    new_server: Callable[..., LocalServer], standby_of: Callable[[LocalServer], LocalServer], role_dsn: RoleDsn
) -> None:
    """Not a streaming standby, a logical receiver, a long report, a load, CREATE INDEX or VACUUM; not even possibly.
    What works hard there is named all the same."""
    server = new_server(settings={"wal_level": "logical"})
    server.sql(
        "CREATE TABLE sold AS SELECT n, repeat('x', 200) AS t FROM generate_series(1, 5000) n;"
        "CREATE TABLE loaded (n int); CREATE TABLE parts (n int) PARTITION BY RANGE (n);"
        "CREATE PUBLICATION all_of_it FOR ALL TABLES;"
        "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(0.05); RETURN $1; END'"
    )
    for number in range(30):
        server.sql(f"CREATE TABLE part{number} PARTITION OF parts FOR VALUES FROM ({number}) TO ({number + 1})")
    logical = ("--dbname=postgres", "--slot=logical", "--plugin=pgoutput", "--option=proto_version=1")
    server.run("pg_recvlogical", "--create-slot", *logical[:3])
    with ExitStack() as stack:

        def psql(script: str) -> None:
            process = stack.enter_context(running(server, "psql", stdin=subprocess.PIPE, text=True))
            assert process.stdin is not None
            process.stdin.write(script + "\n")
            process.stdin.flush()

        standby_of(server)
        receiver = ("--start", "--file=-", "--option=publication_names=all_of_it", *logical)
        stack.enter_context(running(server, "pg_recvlogical", *receiver))
        psql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*), pg_sleep(60) FROM parts;")
        psql("COPY loaded FROM STDIN;\n1\n2")
        psql("CREATE INDEX ON sold (slow(n));")
        psql("SET vacuum_cost_delay = 100;\nSET vacuum_cost_limit = 1;\nVACUUM pg_proc;")
        dsn = role_dsn(server, "watchdog")
        wait_until(lambda: {"COPY FROM", "CREATE INDEX", "VACUUM"} <= set(sight(dsn).works), 20)
        assert server.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "2"
        assert sight(dsn).backups == ()


def test_every_version_shows_what_gives_a_backup_away(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """From PostgreSQL 15 to 18: with its kind, program and certainty; and a role without pg_monitor is told that it is
    blind, though it still finds what needs no privilege, the base backup and the lock."""
    any_server.sql(FILL)
    dsn = role_dsn(any_server, "watchdog")
    try:
        with ExitStack() as stack:
            copies = ["psql", "--command=COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"]
            stack.enter_context(running(any_server, *BASE_BACKUP))
            stack.enter_context(running(any_server, *copies))
            named = stack.enter_context(running(any_server, "pg_dump"))
            session = stack.enter_context(psycopg.connect(any_server.dsn(), autocommit=True))
            session.execute("SELECT pg_backup_start('by hand', true)")
            for kind, least, program in (
                (Kind.BASE_BACKUP, Certainty.CERTAIN, "pg_basebackup"),
                (Kind.LOGICAL_DUMP, Certainty.CERTAIN, "pg_dump"),
                (Kind.SESSION, Certainty.LIKELY, "unknown program"),
                (Kind.COPY_OUT, Certainty.POSSIBLE, "unknown program"),
            ):
                assert until_seen(dsn, kind, least).program == program
            found = sight(dsn, seconds=0.3)
            assert len(found.backups) == 4, found.backups
            assert {b.kind for b in found.rogues} == {Kind.BASE_BACKUP, Kind.LOGICAL_DUMP, Kind.SESSION}
            base = next(b for b in found.backups if b.kind is Kind.BASE_BACKUP)
            assert base.total and base.done and base.rate is not None and base.superuser
            assert found.blind == () and found.may_end
            session.execute("SELECT pg_backup_stop()")
            session.execute("SELECT pg_try_advisory_lock(hashtext('pg_backup'))")
            assert until_seen(dsn, Kind.SESSION).program == "WAL-G"
            named.kill()
            stack.enter_context(running(any_server, "pg_dump", "--dbname=application_name=nightly"))
            assert until_seen(dsn, Kind.LOGICAL_DUMP, Certainty.LIKELY).application_name == "nightly"
            blind = sight(role_dsn(any_server, "nomonitor"))
            assert "GRANT pg_monitor TO nomonitor" in blind.blind[0]
            surely = {b.kind for b in blind.backups if b.certainty is Certainty.CERTAIN}
            assert surely == {Kind.BASE_BACKUP, Kind.SESSION}
            with pytest.raises(SourceUnsuitable, match="cannot be seen"):
                refuse_blind(blind)
    finally:
        wait_until(lambda: any_server.sql("SELECT count(*) FROM pg_stat_progress_basebackup") == "0")
        any_server.sql("DROP TABLE filler")


def who(dsn: str, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    """Exit status and document of ``backup-guard who``."""
    status = main(["who", "--dsn", dsn, "--json", *options])
    return status, json.loads(capsys.readouterr().out)


def test_who_tells_ours_from_whoever_takes_our_name(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No backup, ours, and one that goes by the name of ours: the exit status and the words are those of the case, with
    the repository and without, and another repository does not know of it."""
    server = new_server()
    server.sql(FILL)
    dsn = role_dsn(server)
    folder, elsewhere = tmp_path / "backups", tmp_path / "elsewhere"
    plan = plan_for(folder, max_rate="1MB/s", min_rate="1MB/s")
    status, quiet = who(dsn, capsys)
    assert (status, quiet["backups"], quiet["blind"]) == (0, [], [])
    assert quiet["load"]["commit_latency"] > 0
    main(["who", "--dsn", dsn])
    assert "its load is not a backup" in capsys.readouterr().out
    with CopyInFlight(plan, dsn) as copy:
        began = time.monotonic()
        for options in ((), ("--repository", folder.as_uri())):
            status, document = who(dsn, capsys, *options)
            (ours,) = document["backups"]
            assert (status, ours["owner"], ours["backup_id"]) == (0, "ours", copy.snapshot.backup_id)
            assert ours["how_to_stop"] == [f"backup-guard stop {copy.snapshot.backup_id}"]
        assert time.monotonic() - began < 10
        status, document = who(dsn, capsys, "--repository", elsewhere.as_uri())
        assert (status, document["backups"][0]["owner"]) == (1, "claimed")
        impostor = [f"--dbname=application_name={session_name(copy.snapshot.backup_id)}"]
        with running(server, *BASE_BACKUP, *impostor):
            wait_until(lambda: len(sight(dsn).backups) == 2)
            for options in ((), ("--repository", folder.as_uri())):
                status, document = who(dsn, capsys, *options)
                assert status == 1
                assert sorted(found["owner"] for found in document["backups"]) == ["foreign", "ours"]
            main(["who", "--dsn", dsn])
            assert "A backup runs that is not ours" in capsys.readouterr().out
            allowing = tmp_path / "plan.toml"
            allowing.write_text(
                f'name = "shop"\nrepository = "{folder.as_uri()}"\n'
                '[calendar]\nwindows = "daily 00:00-24:00"\ntz = "UTC"\n'
                f'[[watchdog.allow]]\nuser = "{server.superuser}"\nclient = "local"\n'
            )
            status, document = who(dsn, capsys, "--plan", str(allowing))
            allowed = {found["owner"]: (found["allowed"], found["rogue"]) for found in document["backups"]}
            assert status == 1
            assert allowed == {"ours": ("", False), "foreign": ("user postgres, client local", False)}


def test_terminate_without_the_privilege_is_said_before_and_then(
    server: LocalServer, role_dsn: RoleDsn, tmp_path: Path
) -> None:
    """The check warns; when it comes to it, the backup lives, and people hear that it could not be ended, and why."""
    policy = WatchdogPolicy(policy="terminate", grace="0s")
    plan = plan_for(tmp_path / "backups", calendar=closed_now(), watchdog=policy)
    repository = open_repository(plan.repository)
    told: list[str] = []
    for role, status in (("guard", CheckStatus.WARNING), ("watchdog", None)):
        found = {c.name: c.status for c in check(plan, role_dsn(server, role), repository).checks}
        assert found.get("watchdog") is status
    tell = lambda rogue, title, text: told.append(text)  # noqa: E731
    with pytest.raises(SourceUnsuitable, match="cannot be seen"):
        respond(plan, (), role_dsn(server, "nomonitor"), repository, responder="run", tell=tell, stop=Stop())
    with running(server, *BASE_BACKUP, "--username=guard"), running(server, *BASE_BACKUP) as of_superuser:
        wait_until(lambda: len(sight(role_dsn(server)).rogues) == 2)
        outcomes = respond(plan, (), role_dsn(server, "watchdog"), repository, responder="run", tell=tell, stop=Stop())
        assert sorted(outcome.state for outcome in outcomes) == ["ended", "failed"]
        assert of_superuser.poll() is None
    assert len(told) == 3
    assert "could not be ended" in told[-1] and "SUPERUSER" in told[-1].upper()


def test_inside_of_a_window_only_critical_load_ends_it(server: LocalServer, role_dsn: RoleDsn, tmp_path: Path) -> None:
    """As long as the load is not critical, the response waits, and can be stopped; its retry goes on without telling
    people again, and ends the backup once the load is critical."""
    policy = WatchdogPolicy(policy="terminate", grace="0s")
    calm = plan_for(tmp_path / "backups", watchdog=policy, limits=LoadLimits(commit_latency="1h"))
    critical = attrs.evolve(calm, limits=LoadLimits(commit_latency=("0.001ms", "0.002ms")))
    repository = open_repository(calm.repository)
    told: list[str] = []

    def answer(plan: BackupPlan, stop: Stop) -> list[Outcome]:
        tell = lambda rogue, title, text: told.append(title)  # noqa: E731
        return respond(plan, (), role_dsn(server, "watchdog"), repository, responder="run", tell=tell, stop=stop)

    with running(server, *BASE_BACKUP, "--username=guard") as rogue:
        wait_until(lambda: sight(role_dsn(server)).rogues)
        stop = Stop()
        threading.Timer(4, stop.request, ["the test has seen it wait"]).start()
        with pytest.raises(BackupStopped):
            answer(calm, stop)
        assert rogue.poll() is None
        (outcome,) = answer(critical, Stop())
        assert outcome.state == "ended"
        assert "the load is critical" in outcome.actions[0].reason
    assert len(told) == 1


def test_pgbackrest_is_named(new_server: Callable[..., LocalServer], role_dsn: RoleDsn, cluster_folder: Path) -> None:
    """A real one, by the lock that it takes for its backups and by its name; it ends before anybody ends it."""
    if shutil.which("pgbackrest") is None:
        pytest.skip("pgBackRest is not installed here")
    server = new_server(major=15)
    server.sql(FILL)
    settings = {
        "repo1-path": cluster_folder / "repository",
        "repo1-retention-full": 1,
        "archive-check": "n",
        "log-path": cluster_folder,
        "lock-path": cluster_folder / "lock",
        "spool-path": cluster_folder,
        "start-fast": "y",
        "compress-type": "gz",
        "compress-level": 9,
    }
    stanza = {
        "pg1-path": server.data_directory,
        "pg1-socket-path": server.socket_directory,
        "pg1-port": server.port,
        "pg1-user": server.superuser,
    }
    configuration = cluster_folder / "pgbackrest.conf"
    write_ini(configuration, {"global": settings, "x": stanza})
    account = account_for(server.data_directory)
    account.own(configuration)
    base = ["pgbackrest", f"--config={configuration}", "--stanza=x"]
    options: dict[str, Any] = {"cwd": "/", "stdout": subprocess.DEVNULL, **account.options()}
    subprocess.run([*base, "--no-online", "stanza-create"], check=True, **options)
    backup = subprocess.Popen([*base, "--type=full", "backup"], **options)
    try:
        found = until_seen(role_dsn(server), Kind.SESSION)
        assert (found.program, found.application_name) == ("pgBackRest", "pgBackRest [backup]")
        assert "the lock that pgBackRest takes" in found.evidence[0]
    finally:
        backup.terminate()
        backup.wait()


def test_barman_is_named(new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path) -> None:
    """A real one: its base backup is, its receiver of WAL, which always runs, is not."""
    if shutil.which("barman") is None:
        pytest.skip("Barman is not installed here")
    server = new_server(major=15)
    server.run("pgbench", "--initialize", "--scale=2", "--quiet")
    # Barman archives a segment of WAL only once the next one has begun.
    server.popen("pgbench", "--client=1", "--rate=50", "--time=60")
    dsn = server.dsn()
    common = {
        "barman_home": tmp_path,
        "barman_lock_directory": tmp_path,
        "barman_user": getpass.getuser(),
        "configuration_files_directory": tmp_path / "none",
        "log_file": tmp_path / "barman.log",
    }
    own = {
        "description": "x",
        "conninfo": dsn,
        "streaming_conninfo": dsn,
        "backup_method": "postgres",
        "streaming_archiver": "on",
        "immediate_checkpoint": "true",
        "slot_name": "barman",
        "create_slot": "auto",
        "path_prefix": server.binaries,
        "bandwidth_limit": 1000,
    }
    configuration = tmp_path / "barman.conf"
    write_ini(configuration, {"barman": common, "x": own})
    base = ["barman", f"--config={configuration}"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*base, "receive-wal", "x", "--create-slot"], check=True, **quiet)
    processes = [subprocess.Popen([*base, "receive-wal", "x"], **quiet)]
    try:
        wait_until(lambda: server.sql("SELECT count(*) FROM pg_stat_replication") == "1")
        assert sight(role_dsn(server)).backups == ()
        subprocess.run([*base, "switch-wal", "--force", "--archive", "--archive-timeout=20", "x"], check=True, **quiet)
        processes.append(subprocess.Popen([*base, "backup", "x"], **quiet))
        found = until_seen(role_dsn(server), Kind.BASE_BACKUP)
        assert (found.program, found.application_name) == ("Barman", "barman_streaming_backup")
        assert "1MB/s at most" in " ".join(found.evidence)
        assert len(sight(role_dsn(server)).rogues) == 1
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def write_ini(path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """A configuration file."""
    lines = [f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items()) for name, values in sections.items()]
    path.write_text("\n".join(lines))
